"""gRPC on one HTTP/2 stream: cuts data into messages, and turns errors into statuses."""

import logging
from collections.abc import Iterable
from typing import Protocol

from pointsman_operator.serving.http2_frames import OK_TRAILERS, error_trailers

logger = logging.getLogger(__name__)

INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 3, 8, 12, 13
"""gRPC status codes."""


class StreamError(Exception):
    """Ends one stream with a gRPC status.

    Args:
        status: gRPC status code.
        message: For the client; printable ASCII.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Stream(Protocol):
    """One gRPC stream, as a state machine over serialized messages."""

    @property
    def finished(self) -> bool:
        """Whether all has been said, so that the stream ends with status OK."""

    def receive(self, message: bytes) -> Iterable[bytes]:
        """Return the answers to a message; any error but StreamError is logged and ends the stream with INTERNAL.

        Raises:
            StreamError: If the stream must end with a status of its own.
        """

    def closed(self, *, delivered: bool) -> None:
        """Take the end; called once. `delivered`: it finished and every answer was handed to the transport."""


class OpenStream:
    """A stream that has not ended: its unread input, its unsent output and its flow control.

    Args:
        stream_id: HTTP/2 stream id.
        stream: Its state machine.
        window: Bytes that the client takes.
    """

    __slots__ = (
        "_stream",
        "answered",
        "client_is_done",
        "delivers",
        "id",
        "pending",
        "received",
        "trailers",
        "unread",
        "window",
    )

    def __init__(self, stream_id: int, stream: Stream, window: int) -> None:
        self.id = stream_id
        self._stream = stream
        self.unread = bytearray()
        self.pending = bytearray()
        self.trailers = b""
        self.window = window
        self.received = 0
        self.answered = False
        self.client_is_done = False
        self.delivers = False

    def converse(self, max_message_bytes: int) -> bool:
        """Take messages until something is to be sent; return whether there is.

        Then `pending` holds the answers, and `trailers` are set if nothing will follow them.
        """
        try:
            while not (self.pending or self.trailers):
                message = self._next_message(max_message_bytes)
                if message is None:
                    self._end_if_client_is_done()
                    break
                for answer in self._stream.receive(message):
                    self.pending += b"\x00" + len(answer).to_bytes(4, "big") + answer
                if self._stream.finished:
                    self.delivers = True
                    self._finish(OK_TRAILERS)
        except StreamError as error:
            self._finish(error_trailers(error.status, str(error)))
        except Exception:
            logger.exception("a stream failed")
            self._finish(error_trailers(INTERNAL, "the router failed; its log says why"))
        return bool(self.pending or self.trailers)

    def closed(self, *, delivered: bool) -> None:
        """Tell the state machine that the stream has ended."""
        try:
            self._stream.closed(delivered=delivered)
        except Exception:
            logger.exception("the end of a stream could not be taken")

    def _finish(self, trailers: bytes) -> None:
        self.trailers = trailers
        self.unread.clear()

    def _end_if_client_is_done(self) -> None:
        if self.client_is_done:
            if self.unread:
                raise StreamError(INVALID_ARGUMENT, "the stream ended within a message")
            self._finish(OK_TRAILERS)

    def _next_message(self, max_bytes: int) -> bytes | None:
        """Take a message if one is complete. Raises: StreamError."""
        unread = self.unread
        if len(unread) < 5:
            return None
        if unread[0]:
            raise StreamError(UNIMPLEMENTED, "compressed messages are not understood; send them plain")
        end = 5 + int.from_bytes(unread[1:5], "big")
        if end - 5 > max_bytes:
            raise StreamError(RESOURCE_EXHAUSTED, f"a message of {end - 5} bytes; the limit is {max_bytes}")
        if len(unread) < end:
            return None
        message = bytes(unread[5:end])
        del unread[:end]
        return message
