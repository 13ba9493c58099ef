"""Serves Envoy's `ExternalProcessor`: carries messages between a transport and the conversation's state machine.

Messages are parsed and serialized here rather than by gRPC, so that garbage on the wire is answered with
INVALID_ARGUMENT.
"""

from collections.abc import Callable
from typing import Final

import grpc
from google.protobuf.message import DecodeError

from pointsman.envoy.v3 import external_processor_pb2 as pb
from pointsman_operator.serving.conversation import Conversation, MalformedStreamError
from pointsman_operator.serving.destinations import Destinations
from pointsman_operator.serving.full_duplex import FullDuplex
from pointsman_operator.serving.pick_once import PickOnce

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
        self.destinations = destinations
        self.clock = clock
        self.open_streams = 0

    def handler(self) -> "grpc.GenericRpcHandler[bytes, bytes]":
        """Return what to add to a gRPC server."""
        process = grpc.stream_stream_rpc_method_handler(self.process)
        return grpc.method_handlers_generic_handler(SERVICE_NAME, {"Process": process})

    async def process(self, _: object, context: Context) -> None:
        """Hold one conversation over gRPC."""
        stream = self.open()
        delivered = False
        try:
            while not stream.finished and (data := await context.read()) is not _EOF:
                for answer in stream.receive(data):
                    await context.write(answer)
            delivered = stream.finished
        except MalformedStreamError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        finally:
            stream.closed(delivered=delivered)

    def open(self) -> "ProcessStream":
        """Open one conversation over any transport."""
        return ProcessStream(self)


class ProcessStream:
    """One stream of serialized messages: finds the conversation that fits it, and counts how it ended."""

    def __init__(self, processor: ExternalProcessor) -> None:
        self._processor = processor
        self._conversation: Conversation | None = None
        self._mode = "UNKNOWN"
        self._result = ""
        processor.destinations.metrics.stream_opened()
        processor.open_streams += 1

    @property
    def finished(self) -> bool:
        """Whether the router has said all that it will say."""
        return self._conversation is not None and self._conversation.finished

    def receive(self, data: bytes) -> list[bytes]:
        """Return the answers to a message. Raises: MalformedStreamError."""
        self._result = "failed"
        try:
            message = pb.ProcessingRequest.FromString(data)
            if self._conversation is None:
                self._mode, self._conversation = begin(message, self._processor.destinations, self._processor.clock)
            answers = [answer.SerializeToString() for answer in self._conversation.receive(message)]
        except DecodeError as error:
            self._result = "malformed"
            raise MalformedStreamError(
                "malformed ext_proc stream: got bytes that are not a ProcessingRequest"
            ) from error
        except MalformedStreamError as error:
            self._result = "malformed"
            raise MalformedStreamError(f"malformed ext_proc stream: {error}") from error
        self._result = ""
        return answers

    def closed(self, *, delivered: bool) -> None:
        """Take the end of the stream, once; `delivered`: it finished and every answer was sent."""
        complete = delivered
        if self._conversation:
            complete |= self._conversation.complete
            self._conversation.closed(delivered=delivered)
        self._processor.open_streams -= 1
        result = self._result or ("ok" if complete else "abandoned")
        self._processor.destinations.metrics.stream_closed(self._mode, result)
