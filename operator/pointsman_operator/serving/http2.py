"""Just enough HTTP/2 (RFC 9113) to serve one gRPC method to the sidecar, at a fraction of a general server's cost.

Every routed request is a gRPC stream of its own with two small messages each way, so the transport's cost per stream
is the router's cost per request; docs/ext-proc-transport.md has the figures and the alternatives. What is left out is
what one known client and one method do not need: header blocks are skipped unread, since whatever arrives on this port
is for this method, and responses carry constant ones.
"""

import asyncio
import logging
import struct
from collections.abc import Callable
from typing import cast

from pointsman_operator.serving import http2_frames as h2
from pointsman_operator.serving.grpc_stream import OpenStream, Stream
from pointsman_operator.serving.http2_frames import ConnectionFailedError

logger = logging.getLogger(__name__)

_OUR_WINDOW = 1 << 26
_MOST_STREAMS = 16_384
_MOST_FRUITLESS_STREAMS = 1_000
_LEAVING = b"leaving."
_PATIENCE_SECONDS = 1.0
"""What a client has to confirm that we leave, and then to read the end of its last stream and close."""

CallLater = Callable[[float, Callable[[], object]], asyncio.TimerHandle]


class GrpcConnection(asyncio.Protocol):
    """One connection of the sidecar.

    Args:
        open_stream: Makes the state machine of a new stream.
        connections: This connection is in here while it is up.
        max_message_bytes: Streams with larger messages are refused.
        call_later: The event loop's, for clients that do not close a connection that we leave.
    """

    _transport: asyncio.Transport

    def __init__(
        self,
        open_stream: Callable[[], Stream],
        connections: "set[GrpcConnection]",
        max_message_bytes: int,
        call_later: CallLater,
    ) -> None:
        self._open_stream = open_stream
        self._connections = connections
        self._max_message_bytes = max_message_bytes
        self._call_later = call_later
        self._timer: asyncio.TimerHandle | None = None
        self._reader = h2.FrameReader()
        self._output: list[bytes] = []
        self._streams: dict[int, OpenStream] = {}
        self._left = False
        self._last_id = 0
        self._received = 0
        self._fruitless = 0
        self._window = h2.DEFAULT_WINDOW
        self._their_initial_window = h2.DEFAULT_WINDOW
        self._their_frame_bytes = h2.DEFAULT_FRAME_BYTES

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        settings = (h2.MAX_CONCURRENT_STREAMS, _MOST_STREAMS, h2.INITIAL_WINDOW_SIZE, _OUR_WINDOW)
        self._frame(h2.SETTINGS, 0, 0, struct.pack(">HIHI", *settings))
        self._frame(h2.WINDOW_UPDATE, 0, 0, h2.number(h2.LARGEST_WINDOW - h2.DEFAULT_WINDOW))
        self._flush_output()

    def data_received(self, data: bytes) -> None:
        """Take frames; everything that they cause goes out in one write."""
        if self._transport.is_closing():
            return
        try:
            for frame in self._reader.read(data):
                self._take_frame(*frame)
        except ConnectionFailedError as error:
            logger.warning("a sidecar's connection is closed: %s", error)
            self._go_away(self._last_id, error.code)
            self._end_all()
            self._flush_output()
            self._transport.close()
            return
        self._flush_output()
        self._await_close_if_done()

    def pause_writing(self) -> None:
        """Read no more from a client that does not read, so that what waits for it stays bounded."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read on."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of all streams with it."""
        self._stop_timer()
        self._connections.discard(self)
        self._end_all()

    def leave(self) -> None:
        """Ask the client to open no more streams here, and to close the connection when the open ones have ended.

        Streams that were opened before the client heard of it, which it confirms, are served. A client that is slow to
        confirm, or to close, is not waited for.
        """
        if self._left or self._timer is not None:
            return
        self._go_away(h2.LARGEST_WINDOW, h2.NO_ERROR)
        self._frame(h2.PING, 0, 0, _LEAVING)
        self._flush_output()
        self._timer = self._call_later(_PATIENCE_SECONDS, self._leave_unconfirmed)

    def abort(self) -> None:
        """Close now, whatever is open."""
        self._end_all()
        self._transport.abort()

    def _leave_unconfirmed(self) -> None:
        self._stop_timer()
        self._refuse_streams()
        self._flush_output()
        self._await_close_if_done()

    def _refuse_streams(self) -> None:
        if not self._left:
            self._left = True
            self._stop_timer()
            self._go_away(self._last_id, h2.NO_ERROR)

    def _await_close_if_done(self) -> None:
        """Let the client close: when the connection ends, grpc forgets the end of a stream that it has just read."""
        if self._left and not self._streams and self._timer is None:
            self._timer = self._call_later(_PATIENCE_SECONDS, self._transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        self._output.append(h2.frame(kind, flags, stream_id, payload))

    def _go_away(self, last_id: int, code: int) -> None:
        self._frame(h2.GOAWAY, 0, 0, struct.pack(">II", last_id, code))

    def _flush_output(self) -> None:
        if self._output and not self._transport.is_closing():
            self._transport.write(b"".join(self._output))
        self._output.clear()

    def _take_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == h2.DATA:
            self._take_data(flags, stream_id, payload)
        elif kind == h2.HEADERS:
            self._take_headers(flags, stream_id)
        elif kind == h2.RST_STREAM:
            self._take_reset(stream_id, payload)
        elif kind == h2.WINDOW_UPDATE:
            self._take_window_update(stream_id, payload)
        elif kind in (h2.SETTINGS, h2.PING, h2.GOAWAY, h2.PUSH_PROMISE):
            if stream_id or kind == h2.PUSH_PROMISE:
                raise ConnectionFailedError(h2.PROTOCOL_ERROR)
            self._take_about_the_connection(kind, flags, payload)

    def _take_about_the_connection(self, kind: int, flags: int, payload: bytes) -> None:
        """Take SETTINGS or PING; a client that says GOAWAY goes on with its streams and closes."""
        if kind == h2.SETTINGS:
            if len(payload) % 6 or (flags & h2.ACK and payload):
                raise ConnectionFailedError(h2.FRAME_SIZE_ERROR)
            if not flags & h2.ACK:
                self._take_settings(dict(struct.iter_unpack(">HI", payload)))
        elif kind == h2.PING:
            if len(payload) != 8:
                raise ConnectionFailedError(h2.FRAME_SIZE_ERROR)
            if not flags & h2.ACK:
                self._frame(h2.PING, h2.ACK, 0, payload)
            elif payload == _LEAVING:
                self._refuse_streams()

    def _take_settings(self, settings: dict[int, int]) -> None:
        frame_bytes = settings.get(h2.MAX_FRAME_SIZE, self._their_frame_bytes)
        window = settings.get(h2.INITIAL_WINDOW_SIZE, self._their_initial_window)
        if not h2.DEFAULT_FRAME_BYTES <= frame_bytes < 1 << 24:
            raise ConnectionFailedError(h2.PROTOCOL_ERROR)
        if window > h2.LARGEST_WINDOW:
            raise ConnectionFailedError(h2.FLOW_CONTROL_ERROR)
        for one in self._streams.values():
            one.window += window - self._their_initial_window
            if one.window > h2.LARGEST_WINDOW:
                raise ConnectionFailedError(h2.FLOW_CONTROL_ERROR)
        self._their_frame_bytes, self._their_initial_window = frame_bytes, window
        self._frame(h2.SETTINGS, h2.ACK, 0, b"")
        self._resume_all()

    def _take_headers(self, flags: int, stream_id: int) -> None:
        if stream_id > self._last_id:
            self._last_id = stream_id
            self._open(stream_id)
        elif not flags & h2.END_STREAM:  # trailers are the end
            self._reset(stream_id, h2.PROTOCOL_ERROR)
        one = self._streams.get(stream_id)
        if one is not None and flags & h2.END_STREAM:
            one.client_is_done = True
            self._proceed(one)

    def _open(self, stream_id: int) -> None:
        if self._left or len(self._streams) >= _MOST_STREAMS:
            self._frame(h2.RST_STREAM, 0, stream_id, h2.number(h2.REFUSED_STREAM))
            return
        try:
            stream = self._open_stream()
        except Exception:
            logger.exception("a stream could not be opened")
            self._frame(h2.RST_STREAM, 0, stream_id, h2.number(h2.INTERNAL_ERROR))
            return
        self._streams[stream_id] = OpenStream(stream_id, stream, self._their_initial_window)

    def _take_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._check_opened(stream_id)
        self._received += len(payload)
        if self._received > h2.LARGEST_WINDOW // 2:
            self._frame(h2.WINDOW_UPDATE, 0, 0, h2.number(self._received))
            self._received = 0
        one = self._streams.get(stream_id)
        if one is None or one.client_is_done:  # it may have ended here without the client knowing yet
            return
        one.received += len(payload)
        if one.received > _OUR_WINDOW:
            raise ConnectionFailedError(h2.FLOW_CONTROL_ERROR)
        if flags & h2.PADDED:
            payload = h2.unpadded(payload)
        if not one.trailers:
            one.unread += payload
        one.client_is_done = bool(flags & h2.END_STREAM)
        self._proceed(one)

    def _proceed(self, one: OpenStream) -> None:
        """Take the messages that are there, but none before the answers to the one before are sent."""
        while one.converse(self._max_message_bytes):
            if not self._send_pending(one):
                return
        if one.received > _OUR_WINDOW // 2:
            self._frame(h2.WINDOW_UPDATE, 0, one.id, h2.number(one.received))
            one.received = 0

    def _send_pending(self, one: OpenStream) -> bool:
        """Send what the windows allow, and the end if nothing is left; return whether the stream can go on."""
        pending = one.pending
        if pending and not one.answered:
            one.answered = True
            self._frame(h2.HEADERS, h2.END_HEADERS, one.id, h2.EMPTY_TABLE + h2.RESPONSE_HEADERS)
        while pending:
            room = min(len(pending), one.window, self._window, self._their_frame_bytes)
            if room <= 0:
                return False
            self._frame(h2.DATA, 0, one.id, bytes(pending[:room]))
            del pending[:room]
            one.window -= room
            self._window -= room
        if one.trailers:
            # A response without messages is its trailers alone, which then begin with the headers.
            headers = h2.EMPTY_TABLE if one.answered else h2.EMPTY_TABLE + h2.RESPONSE_HEADERS
            self._frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, one.id, headers + one.trailers)
            if not (one.delivers or one.client_is_done):
                self._frame(h2.RST_STREAM, 0, one.id, h2.number(h2.NO_ERROR))  # what else it sends is in vain
            self._end(one.id, delivered=one.delivers)
        return not one.trailers

    def _reset(self, stream_id: int, code: int) -> None:
        if stream_id in self._streams:
            self._frame(h2.RST_STREAM, 0, stream_id, h2.number(code))
            self._end(stream_id, delivered=False)

    def _end(self, stream_id: int, *, delivered: bool) -> None:
        one = self._streams.pop(stream_id, None)
        if one is None:
            return
        if delivered and self._fruitless:
            self._fruitless -= 1
        one.closed(delivered=delivered)

    def _end_all(self) -> None:
        for stream_id in tuple(self._streams):
            self._end(stream_id, delivered=False)

    def _check_opened(self, stream_id: int) -> None:
        """Refuse frames of streams that the client never opened."""
        if not stream_id & 1 or stream_id > self._last_id:
            raise ConnectionFailedError(h2.PROTOCOL_ERROR)

    def _take_reset(self, stream_id: int, payload: bytes) -> None:
        """End a stream; a client that resets far more streams unanswered than it finishes is sent away."""
        if len(payload) != 4:
            raise ConnectionFailedError(h2.FRAME_SIZE_ERROR)
        self._check_opened(stream_id)
        one = self._streams.get(stream_id)
        if one is not None and not one.answered:
            self._fruitless += 1
            if self._fruitless > _MOST_FRUITLESS_STREAMS:
                raise ConnectionFailedError(h2.ENHANCE_YOUR_CALM)
        self._end(stream_id, delivered=False)

    def _take_window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFailedError(h2.FRAME_SIZE_ERROR)
        increment = int.from_bytes(payload, "big") & h2.LARGEST_WINDOW
        if stream_id:
            self._check_opened(stream_id)
            self._widen(stream_id, increment)
            return
        if not increment:
            raise ConnectionFailedError(h2.PROTOCOL_ERROR)
        was_shut = self._window <= 0
        self._window += increment
        if self._window > h2.LARGEST_WINDOW:
            raise ConnectionFailedError(h2.FLOW_CONTROL_ERROR)
        if was_shut:
            self._resume_all()

    def _widen(self, stream_id: int, increment: int) -> None:
        one = self._streams.get(stream_id)
        if one is None:
            return
        one.window += increment
        if not increment:
            self._reset(stream_id, h2.PROTOCOL_ERROR)
        elif one.window > h2.LARGEST_WINDOW:
            self._reset(stream_id, h2.FLOW_CONTROL_ERROR)
        else:
            self._resume(one)

    def _resume_all(self) -> None:
        for one in tuple(self._streams.values()):
            self._resume(one)

    def _resume(self, one: OpenStream) -> None:
        if one.pending and self._send_pending(one):
            self._proceed(one)
