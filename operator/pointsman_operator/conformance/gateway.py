"""A gateway's side of ext_proc: holds conversations with a picker and records them."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self, cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pointsman.envoy.v3 import external_processor_pb2 as pb
from pointsman_operator.conformance import names
from pointsman_operator.conformance.conversation import NOTHING, Conversation, Ending, Transcript, Turn
from pointsman_operator.conformance.tls import TlsRelay, TlsSettings

MAX_MESSAGE_BYTES: Final = 64 << 20
LISTEN_ON_SECONDS: Final = 1.0
"""How much longer a gateway listens to a picker that does not end the stream."""

_EOF = grpc.aio.EOF  # type: ignore[attr-defined]  # missing in the stubs
_Call = grpc.aio.StreamStreamCall[pb.ProcessingRequest, pb.ProcessingResponse]


class Gateway:
    """Connections to a picker, as long as the context lasts.

    Args:
        target: The picker's "host:port" or "unix:/path".
        timeout_seconds: Longest time to wait for an answer.
        tls: How to use TLS; None = plaintext.
        health_target: Where its health service is.
    """

    def __init__(
        self, target: str, timeout_seconds: float, tls: TlsSettings | None = None, health_target: str = ""
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self._targets = (target, health_target or target)
        self._tls = tls
        self._relays: list[TlsRelay] = []
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def __aenter__(self) -> Self:
        """Connect. Raises: OSError if the picker cannot be reached."""
        try:
            for target in dict.fromkeys(self._targets):
                await self._connect(target)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close every connection."""
        await self._close()

    async def hold(self, conversations: Sequence[Conversation], *, abreast: bool = False) -> list[Transcript]:
        """Hold conversations: at once and turn by turn, or one after the other until one goes unanswered."""
        if abreast:
            return await self._hold_abreast(conversations)
        transcripts: list[Transcript] = []
        for one in conversations:
            transcripts += await self._hold_abreast([one])
            if transcripts[-1].missed:
                break
        return transcripts

    async def health(self, service: str) -> str:
        """Return the name of the serving status of a service, or of the gRPC code if the call fails."""
        stub = health_pb2_grpc.HealthStub(self._channels[self._targets[1]])
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=self.timeout_seconds)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}"
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    async def _hold_abreast(self, conversations: Sequence[Conversation]) -> list[Transcript]:
        streams = [_Stream(self._open(), self.timeout_seconds) for _ in conversations]
        try:
            for turn in range(max(len(one.turns) for one in conversations)):
                due = [
                    stream.take(one.turns[turn])
                    for stream, one in zip(streams, conversations, strict=True)
                    if turn < len(one.turns)
                ]
                await asyncio.gather(*due)
            await asyncio.gather(*(stream.end(one.ending) for stream, one in zip(streams, conversations, strict=True)))
        finally:
            for stream in streams:
                stream.cancel()
        return [stream.transcript for stream in streams]

    def _open(self) -> "_Call":
        process = self._channels[self._targets[0]].stream_stream(
            names.EXT_PROC_METHOD,
            request_serializer=pb.ProcessingRequest.SerializeToString,
            response_deserializer=pb.ProcessingResponse.FromString,
        )
        return process(None)

    async def _connect(self, target: str) -> None:
        address = target
        if self._tls is not None:
            relay = TlsRelay(target, self._tls)
            self._relays.append(relay)
            address = await relay.start()
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        channel = self._channels[target] = grpc.aio.insecure_channel(address, options=options)
        try:
            async with asyncio.timeout(self.timeout_seconds):
                await channel.channel_ready()
        except TimeoutError:
            advice = "whether it wants a --client-certificate" if self._tls else "whether it wants TLS (--tls)"
            raise ConnectionError(f"no endpoint picker answers at {target}; check the address and {advice}") from None

    async def _close(self) -> None:
        for channel in self._channels.values():
            await channel.close(None)
        for relay in self._relays:
            await relay.close()


class _Stream:
    """One call, read all the time so that neither side waits for the other's window."""

    def __init__(self, call: "_Call", timeout_seconds: float) -> None:
        self.transcript = Transcript()
        self._call = call
        self._timeout = timeout_seconds
        self._news = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def take(self, turn: Turn) -> None:
        transcript = self.transcript
        if transcript.missed or self._reader.done():
            return
        transcript.turn_begins_at = len(transcript.answers)
        try:
            async with asyncio.timeout(self._timeout):
                for message in turn.messages:
                    transcript.sent(message)
                    await self._call.write(message)
                await self._wait(turn)
        except TimeoutError:
            transcript.missed = turn.until.what
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            if not await self._has_ended():
                raise

    async def end(self, ending: Ending) -> None:
        if ending is Ending.CANCEL:
            self.cancel()
            await asyncio.wait([self._reader])
            return
        if not self._reader.done():
            await self._call.done_writing()
        seconds = self._timeout if ending is Ending.AWAIT_END else min(self._timeout, LISTEN_ON_SECONDS)
        await asyncio.wait([self._reader], timeout=seconds)
        if not self._reader.done():
            self.cancel()
            await asyncio.wait([self._reader])

    def cancel(self) -> None:
        """End it from our side; what the picker said about its end stays."""
        if not self._reader.done():
            self._reader.cancel()
            self._call.cancel()

    async def _wait(self, turn: Turn) -> None:
        while not turn.until.reached(self.transcript):
            if self._reader.done():
                return
            self._news.clear()
            await self._news.wait()
        if turn.until is NOTHING:
            await asyncio.sleep(0)

    async def _has_ended(self) -> bool:
        await asyncio.wait([self._reader], timeout=LISTEN_ON_SECONDS)
        return self._reader.done()

    async def _read(self) -> None:
        transcript = self.transcript
        try:
            while (answer := await self._call.read()) is not _EOF:
                transcript.take(cast("pb.ProcessingResponse", answer))
                self._news.set()
            transcript.status = await self._call.code()
        except grpc.aio.AioRpcError as error:
            transcript.status, transcript.details = error.code(), error.details() or ""
        finally:
            self._news.set()
