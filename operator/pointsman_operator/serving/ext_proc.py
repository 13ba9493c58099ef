"""Serves Envoy's `ExternalProcessor`: carries messages between gRPC and the conversation's state machine.

Messages are parsed and serialized here rather than by gRPC, so that garbage on the wire is answered with
INVALID_ARGUMENT.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import grpc
from google.protobuf.message import DecodeError

from pointsman.envoy.v3 import external_processor_pb2 as pb
from pointsman_operator.serving.conversation import Conversation, MalformedStreamError
from pointsman_operator.serving.destinations import Destinations
from pointsman_operator.serving.full_duplex import FullDuplex
from pointsman_operator.serving.pick_once import PickOnce

logger = logging.getLogger(__name__)

SERVICE_NAME = "envoy.service.ext_proc.v3.ExternalProcessor"

_MODE_NAMES: Final[dict[int, str]] = {number: name for name, number in pb.BodySendMode.items()}
_EOF = grpc.aio.EOF  # type: ignore[attr-defined]  # missing in the stubs

Context = grpc.aio.ServicerContext[bytes, bytes]


def begin(
    message: pb.ProcessingRequest, destinations: Destinations, clock: Callable[[], float]
) -> tuple[str, Conversation]:
    """Return the request body mode that a stream's first message tells, and the conversation that fits it.

    The message itself is still to be given to the conversation. Without a `protocol_config` the mode is the Endpoint
    Picker Protocol's, FULL_DUPLEX_STREAMED.
    """
    config = message.protocol_config
    told = message.HasField("protocol_config")
    mode = config.request_body_mode if told else pb.FULL_DUPLEX_STREAMED
    name = _MODE_NAMES.get(mode, "UNKNOWN")
    if mode == pb.FULL_DUPLEX_STREAMED:
        stream_answer = not told or config.response_body_mode == pb.FULL_DUPLEX_STREAMED
        return name, FullDuplex(destinations, clock, stream_answer=stream_answer)
    return name, PickOnce(destinations, name)


class ExternalProcessor:
    """The servicer.

    Args:
        destinations: Where requests go.
        clock: Seconds, monotonic.
    """

    def __init__(self, destinations: Destinations, clock: Callable[[], float]) -> None:
        self._destinations = destinations
        self._clock = clock
        self.open_streams = 0

    def handler(self) -> "grpc.GenericRpcHandler[bytes, bytes]":
        """Return what to add to a gRPC server."""
        process = grpc.stream_stream_rpc_method_handler(self.process)
        return grpc.method_handlers_generic_handler(SERVICE_NAME, {"Process": process})

    async def process(self, _: object, context: Context) -> None:
        """Hold one conversation."""
        metrics = self._destinations.metrics
        metrics.stream_opened()
        self.open_streams += 1
        stream = _Stream(self._destinations, self._clock)
        result = "failed"
        try:
            result = "ok" if await stream.run(context) else "abandoned"
        except asyncio.CancelledError:
            result = "abandoned"
            raise
        except MalformedStreamError as error:
            result = "malformed"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"malformed ext_proc stream: {error}")
        finally:
            stream.closed(delivered=result == "ok")
            self.open_streams -= 1
            metrics.stream_closed(stream.mode, result)


class _Stream:
    def __init__(self, destinations: Destinations, clock: Callable[[], float]) -> None:
        self.mode = "UNKNOWN"
        self._destinations = destinations
        self._clock = clock
        self._conversation: Conversation | None = None

    async def run(self, context: Context) -> bool:
        """Converse; return whether the conversation came to its end before the gateway left."""
        while (data := await context.read()) is not _EOF:
            try:
                message = pb.ProcessingRequest.FromString(data)
            except DecodeError as error:
                raise MalformedStreamError("got bytes that are not a ProcessingRequest") from error
            if self._conversation is None:
                self.mode, self._conversation = begin(message, self._destinations, self._clock)
            for response in self._conversation.receive(message):
                await context.write(response.SerializeToString())
            if self._conversation.finished:
                return True
        return False

    def closed(self, *, delivered: bool) -> None:
        if self._conversation:
            self._conversation.closed(delivered=delivered)
