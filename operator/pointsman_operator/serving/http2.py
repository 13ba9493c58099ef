"""Just enough HTTP/2 (RFC 9113) to serve one gRPC method to the sidecar, at a fraction of a general server's cost.

Every routed request is a gRPC stream of its own with two small messages each way, so the transport's cost per stream
is the router's cost per request; docs/ext-proc-transport.md has the figures and the alternatives. What is left out is
what one known client and one method do not need: header blocks are skipped unread, since whatever arrives on this port
is for this method, and responses carry constant ones.
"""

import asyncio
import struct
from collections.abc import Callable, Iterable
from typing import Final, Protocol, cast

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, REFUSED_STREAM, ENHANCE_YOUR_CALM = 0, 1, 3, 6, 7, 11

_MAX_CONCURRENT_STREAMS, _INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 3, 4, 5
_OUR_FRAME_BYTES = 16_384
_OUR_WINDOW = 1 << 26
_LARGEST_WINDOW = (1 << 31) - 1
_HEADER_BLOCK_BYTES = 1 << 16
_MOST_STREAMS = 16_384

# HPACK without dynamic table: ":status: 200" is entry 8 of the static one, the rest are literals.
_RESPONSE_HEADERS: Final = b"\x88\x00\x0ccontent-type\x10application/grpc"
_OK: Final = b"\x00\x0bgrpc-status\x010"

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
        """Return the answers to a message. Raises: StreamError."""

    def closed(self, *, delivered: bool) -> None:
        """Take the end; called once. `delivered`: it finished and every answer was handed to the transport."""


class _ConnectionError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Open:
    """A stream that has not ended, and its flow control."""

    __slots__ = ("answered", "pending", "received", "stream", "trailers", "unread", "window")

    def __init__(self, stream: Stream, window: int) -> None:
        self.stream = stream
        self.unread = bytearray()
        self.pending = bytearray()
        self.trailers = b""
        self.window = window
        self.received = 0
        self.answered = False


class GrpcConnection(asyncio.Protocol):
    """One connection of the sidecar.

    Args:
        open_stream: Makes the state machine of a new stream.
        connections: This connection is in here while it is up.
        max_message_bytes: Streams with larger messages are refused.
    """

    def __init__(
        self, open_stream: Callable[[], Stream], connections: "set[GrpcConnection]", max_message_bytes: int
    ) -> None:
        self._open_stream = open_stream
        self._connections = connections
        self._max_message_bytes = max_message_bytes
        self._transport: asyncio.Transport | None = None
        self._input = bytearray()
        self._output: list[bytes] = []
        self._streams: dict[int, _Open] = {}
        self._greeted = False
        self._leaving = False
        self._last_id = 0
        self._header_bytes = 0
        self._headers_of = 0
        self._received = 0
        self._window = 65_535
        self._their_initial_window = 65_535
        self._their_frame_bytes = 16_384

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        settings = struct.pack(">HIHI", _MAX_CONCURRENT_STREAMS, _MOST_STREAMS, _INITIAL_WINDOW_SIZE, _OUR_WINDOW)
        self._frame(SETTINGS, 0, 0, settings)
        self._frame(WINDOW_UPDATE, 0, 0, (_LARGEST_WINDOW - 65_535).to_bytes(4, "big"))
        self._flush_output()

    def data_received(self, data: bytes) -> None:
        """Take frames; everything that they cause goes out in one write."""
        self._input += data
        try:
            self._take_frames()
        except _ConnectionError as error:
            self._frame(GOAWAY, 0, 0, struct.pack(">II", self._last_id, error.code))
            self._flush_output()
            self._close()
            return
        self._flush_output()
        if self._leaving and not self._streams:
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of all streams with it."""
        self._connections.discard(self)
        streams, self._streams = self._streams, {}
        for one in streams.values():
            one.stream.closed(delivered=False)

    def leave(self) -> None:
        """Tell the client to open no more streams here; the connection closes when the open ones have ended."""
        self._leaving = True
        self._frame(GOAWAY, 0, 0, struct.pack(">II", self._last_id, NO_ERROR))
        self._flush_output()
        if not self._streams:
            self._close()

    def abort(self) -> None:
        """Close now, whatever is open."""
        self._close()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        self._output.append(struct.pack(">IBI", len(payload) << 8 | kind, flags, stream_id) + payload)

    def _flush_output(self) -> None:
        if self._output and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._output))
        self._output.clear()

    def _take_frames(self) -> None:
        data, at, end = self._input, 0, len(self._input)
        if not self._greeted:
            if not PREFACE.startswith(bytes(data[:24])):
                raise _ConnectionError(PROTOCOL_ERROR)
            if end < len(PREFACE):
                return
            self._greeted = True
            at = len(PREFACE)
        while end - at >= 9:
            length = int.from_bytes(data[at : at + 3], "big")
            if length > _OUR_FRAME_BYTES:
                raise _ConnectionError(FRAME_SIZE_ERROR)
            if end - at < 9 + length:
                break
            stream_id = int.from_bytes(data[at + 5 : at + 9], "big") & _LARGEST_WINDOW
            payload = bytes(data[at + 9 : at + 9 + length])
            self._take_frame(data[at + 3], data[at + 4], stream_id, payload)
            at += 9 + length
        del data[:at]

    def _take_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._headers_of and (kind != CONTINUATION or stream_id != self._headers_of):
            raise _ConnectionError(PROTOCOL_ERROR)
        if kind == DATA:
            self._take_data(flags, stream_id, payload)
        elif kind == HEADERS:
            self._take_headers(flags, stream_id, payload)
        elif kind == CONTINUATION:
            self._take_continuation(flags, stream_id, payload)
        elif kind == RST_STREAM:
            self._end(stream_id, delivered=False)
        elif kind == WINDOW_UPDATE:
            self._take_window_update(stream_id, payload)
        else:
            self._take_about_the_connection(kind, flags, payload)

    def _take_about_the_connection(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == SETTINGS:
            self._take_settings(flags, payload)
        elif kind == PING:
            if len(payload) != 8:
                raise _ConnectionError(FRAME_SIZE_ERROR)
            if not flags & ACK:
                self._frame(PING, ACK, 0, payload)
        elif kind == GOAWAY:
            self._leaving = True

    def _take_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id % 2 == 0:
            raise _ConnectionError(PROTOCOL_ERROR)
        if stream_id > self._last_id:
            self._last_id = stream_id
            if self._leaving or len(self._streams) >= _MOST_STREAMS:
                self._frame(RST_STREAM, 0, stream_id, REFUSED_STREAM.to_bytes(4, "big"))
            else:
                self._streams[stream_id] = _Open(self._open_stream(), self._their_initial_window)
        self._header_bytes = len(payload)
        if not flags & END_HEADERS:
            self._headers_of = stream_id
        if flags & END_STREAM:
            self._client_is_done(stream_id)

    def _take_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._header_bytes += len(payload)
        if not self._headers_of:
            raise _ConnectionError(PROTOCOL_ERROR)
        if self._header_bytes > _HEADER_BLOCK_BYTES:
            raise _ConnectionError(ENHANCE_YOUR_CALM)
        if flags & END_HEADERS:
            self._headers_of = 0

    def _take_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id == 0 or stream_id > self._last_id:
            raise _ConnectionError(PROTOCOL_ERROR)
        self._received += len(payload)
        if self._received > _LARGEST_WINDOW // 2:
            self._frame(WINDOW_UPDATE, 0, 0, self._received.to_bytes(4, "big"))
            self._received = 0
        one = self._streams.get(stream_id)
        if one is None:  # it has ended here, and the client did not know yet
            return
        one.received += len(payload)
        if one.received > _OUR_WINDOW // 2:
            self._frame(WINDOW_UPDATE, 0, stream_id, one.received.to_bytes(4, "big"))
            one.received = 0
        if flags & PADDED:
            if not payload or payload[0] >= len(payload):
                raise _ConnectionError(PROTOCOL_ERROR)
            payload = payload[1 : len(payload) - payload[0]]
        one.unread += payload
        self._take_messages(stream_id, one)
        if flags & END_STREAM:
            self._client_is_done(stream_id)

    def _take_messages(self, stream_id: int, one: _Open) -> None:
        unread = one.unread
        try:
            while len(unread) >= 5 and not one.trailers:
                length = int.from_bytes(unread[1:5], "big")
                if unread[0]:
                    raise StreamError(UNIMPLEMENTED, "compressed messages are not understood; send them plain")
                if length > self._max_message_bytes:
                    raise StreamError(
                        RESOURCE_EXHAUSTED, f"a message of {length} bytes; the limit is {self._max_message_bytes}"
                    )
                if len(unread) < 5 + length:
                    return
                message = bytes(unread[5 : 5 + length])
                del unread[: 5 + length]
                for answer in one.stream.receive(message):
                    self._answer(stream_id, one, answer)
                if one.stream.finished:
                    self._finish(stream_id, one, _OK)
        except StreamError as error:
            self._finish(stream_id, one, _status(error.status, str(error)))

    def _answer(self, stream_id: int, one: _Open, message: bytes) -> None:
        if not one.answered:
            one.answered = True
            self._frame(HEADERS, END_HEADERS, stream_id, _RESPONSE_HEADERS)
        one.pending += b"\x00" + len(message).to_bytes(4, "big") + message
        self._send_pending(stream_id, one)

    def _finish(self, stream_id: int, one: _Open, trailers: bytes) -> None:
        if not one.answered:  # a response without messages is its trailers alone, which then begin with the headers
            one.answered = True
            trailers = _RESPONSE_HEADERS + trailers
        one.trailers = trailers
        self._send_pending(stream_id, one)

    def _send_pending(self, stream_id: int, one: _Open) -> None:
        """Send what the windows allow, and the end if nothing is left."""
        pending = one.pending
        while pending:
            room = min(len(pending), one.window, self._window, self._their_frame_bytes)
            if room <= 0:
                return
            self._frame(DATA, 0, stream_id, bytes(pending[:room]))
            del pending[:room]
            one.window -= room
            self._window -= room
        if one.trailers:
            self._frame(HEADERS, END_HEADERS | END_STREAM, stream_id, one.trailers)
            self._end(stream_id, delivered=one.stream.finished and one.trailers.endswith(_OK))

    def _client_is_done(self, stream_id: int) -> None:
        one = self._streams.get(stream_id)
        if one is not None and not one.trailers:
            self._finish(stream_id, one, _OK)

    def _end(self, stream_id: int, *, delivered: bool) -> None:
        one = self._streams.pop(stream_id, None)
        if one is not None:
            one.stream.closed(delivered=delivered)

    def _take_window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise _ConnectionError(FRAME_SIZE_ERROR)
        increment = int.from_bytes(payload, "big") & _LARGEST_WINDOW
        if stream_id == 0:
            self._window += increment
            if self._window > _LARGEST_WINDOW:
                raise _ConnectionError(FLOW_CONTROL_ERROR)
            self._resume()
            return
        one = self._streams.get(stream_id)
        if one is not None:
            one.window += increment
            self._send_pending(stream_id, one)

    def _take_settings(self, flags: int, payload: bytes) -> None:
        if flags & ACK:
            return
        if len(payload) % 6:
            raise _ConnectionError(FRAME_SIZE_ERROR)
        for key, value in struct.iter_unpack(">HI", payload):
            if key == _INITIAL_WINDOW_SIZE:
                if value > _LARGEST_WINDOW:
                    raise _ConnectionError(FLOW_CONTROL_ERROR)
                for one in self._streams.values():
                    one.window += value - self._their_initial_window
                self._their_initial_window = value
            elif key == _MAX_FRAME_SIZE:
                if not 16_384 <= value < 1 << 24:
                    raise _ConnectionError(PROTOCOL_ERROR)
                self._their_frame_bytes = value
        self._frame(SETTINGS, ACK, 0, b"")
        self._resume()

    def _resume(self) -> None:
        for stream_id, one in list(self._streams.items()):
            if one.pending:
                self._send_pending(stream_id, one)


def _status(status: int, message: str) -> bytes:
    text = "".join(c if " " <= c <= "~" and c != "%" else "?" for c in message).encode("ascii")[:120]
    code = str(status).encode("ascii")
    return b"\x00\x0bgrpc-status" + bytes((len(code),)) + code + b"\x00\x0cgrpc-message" + bytes((len(text),)) + text
