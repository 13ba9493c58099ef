"""HTTP/2 frames (RFC 9113), and the few header blocks (RFC 7541) that gRPC responses consist of."""

import struct
from collections.abc import Iterator
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEADER: Final = struct.Struct(">IBI")
"""Length and kind in one, flags, stream id; 9 bytes."""

DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 2, 3
FRAME_SIZE_ERROR, REFUSED_STREAM, ENHANCE_YOUR_CALM = 6, 7, 11
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 3, 4, 5

LARGEST_WINDOW: Final = (1 << 31) - 1
"""Bytes; also the largest stream id."""
DEFAULT_WINDOW: Final = 65_535
DEFAULT_FRAME_BYTES: Final = 16_384

EMPTY_TABLE: Final = b"\x20"
"""Begins every block: no dynamic table is in use, whatever size the client allows."""
RESPONSE_HEADERS: Final = b"\x88\x00\x0ccontent-type\x10application/grpc"
"""":status: 200" is entry 8 of the static table, the rest is literal."""
OK_TRAILERS: Final = b"\x00\x0bgrpc-status\x010"

_HEADER_BLOCK_BYTES: Final = 1 << 16


class ConnectionFailedError(Exception):
    """Ends the connection.

    Args:
        code: HTTP/2 error code, for the client.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"HTTP/2 error {code}")
        self.code = code


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    """Return a serialized frame."""
    return FRAME_HEADER.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def number(value: int) -> bytes:
    """Return the payload of RST_STREAM and WINDOW_UPDATE."""
    return value.to_bytes(4, "big")


def unpadded(payload: bytes) -> bytes:
    """Return the payload of a frame with the flag PADDED. Raises: ConnectionFailedError."""
    if not payload or payload[0] >= len(payload):
        raise ConnectionFailedError(PROTOCOL_ERROR)
    return payload[1 : len(payload) - payload[0]]


def error_trailers(status: int, message: str) -> bytes:
    """Return the trailers of a stream that failed.

    Args:
        status: gRPC status code.
        message: For the client; the first 120 characters are sent, those that are not printable ASCII as "?".
    """
    text = "".join(c if " " <= c <= "~" and c != "%" else "?" for c in message[:120]).encode("ascii")
    code = str(status).encode("ascii")
    return b"\x00\x0bgrpc-status" + bytes((len(code),)) + code + b"\x00\x0cgrpc-message" + bytes((len(text),)) + text


class FrameReader:
    """Cuts a client's bytes into frames; of header blocks it tells only that they are there."""

    def __init__(self) -> None:
        self._unread = bytearray()
        self._greeted = False
        self._headers_of = 0
        self._headers_flags = 0
        self._header_bytes = 0

    def read(self, data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield kind, flags, stream id and payload of each frame that is complete.

        HEADERS come without payload, when the last CONTINUATION is there; the latter are not told.

        Raises:
            ConnectionFailedError: If the client breaks the protocol.
        """
        unread, at = self._unread, 0
        unread += data
        if not self._greeted and not self._take_preface():
            return
        end = len(unread)
        while end - at >= 9:
            length_and_kind, flags, stream_id = FRAME_HEADER.unpack_from(unread, at)
            after = at + 9 + (length_and_kind >> 8)
            if after - at - 9 > DEFAULT_FRAME_BYTES:
                raise ConnectionFailedError(FRAME_SIZE_ERROR)
            if after > end:
                break
            kind, stream_id, payload = length_and_kind & 0xFF, stream_id & LARGEST_WINDOW, bytes(unread[at + 9 : after])
            at = after
            if kind in (HEADERS, CONTINUATION) or self._headers_of:
                self._take_header_block(kind, flags, stream_id, payload)
                if self._headers_of:
                    continue
                kind, flags, payload = HEADERS, self._headers_flags, b""
            yield kind, flags, stream_id, payload
        del unread[:at]

    def _take_preface(self) -> bool:
        """Take the preface and see that SETTINGS follows; return whether all of it is there."""
        unread, size = self._unread, len(PREFACE)
        if not PREFACE.startswith(bytes(unread[:size])):
            raise ConnectionFailedError(PROTOCOL_ERROR)
        if len(unread) < size + 4:
            return False
        if unread[size + 3] != SETTINGS:
            raise ConnectionFailedError(PROTOCOL_ERROR)
        del unread[:size]
        self._greeted = True
        return True

    def _take_header_block(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind != (CONTINUATION if self._headers_of else HEADERS) or stream_id != (self._headers_of or stream_id):
            raise ConnectionFailedError(PROTOCOL_ERROR)
        if kind == HEADERS:
            if not stream_id & 1:
                raise ConnectionFailedError(PROTOCOL_ERROR)
            if flags & PADDED:
                unpadded(payload)
            self._headers_of, self._headers_flags, self._header_bytes = stream_id, flags, 0
        self._header_bytes += FRAME_HEADER.size + len(payload)  # frames without payload are not for nothing
        if self._header_bytes > _HEADER_BLOCK_BYTES:
            raise ConnectionFailedError(ENHANCE_YOUR_CALM)
        if flags & END_HEADERS:
            self._headers_of = 0
