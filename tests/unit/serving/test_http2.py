"""The transport's bytes: what a client may send, what it gets, and that every stream's end is told once."""

import asyncio
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pointsman_operator.serving.grpc_stream import StreamError
from pointsman_operator.serving.http2 import GrpcConnection
from pointsman_operator.serving.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    INTERNAL_ERROR,
    LARGEST_WINDOW,
    MAX_FRAME_SIZE,
    NO_ERROR,
    PADDED,
    PING,
    PREFACE,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    number,
)

MAX_MESSAGE_BYTES = 100_000
PRIORITY, UNKNOWN = 2, 0xFA
GREETING = PREFACE + frame(SETTINGS, 0, 0, b"")


class FakeTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.writes = 0
        self.reading = True
        self.closed: bool = False
        self.aborted: bool = False

    def write(self, data: "bytes | bytearray | memoryview[int]") -> None:
        assert not self.closed
        self.written += data
        self.writes += 1

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class FakeTimers:
    """An event loop's timers, which run only when a test says so."""

    def __init__(self) -> None:
        self._pending: list[Callable[[], object]] = []

    def call_later(self, _: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        pending = self._pending
        pending.append(callback)

        class Handle(asyncio.TimerHandle):
            def __init__(self) -> None: ...

            def cancel(self) -> None:
                if callback in pending:
                    pending.remove(callback)

        return Handle()

    def run(self) -> None:
        """Run what is pending now."""
        due, self._pending[:] = tuple(self._pending), ()
        for callback in due:
            callback()

    def __len__(self) -> int:
        return len(self._pending)


@dataclass
class FakeStream:
    """Answers each message as `reply` says, and is finished after `last` messages."""

    reply: Callable[[bytes], Iterable[bytes]] = lambda message: (message,)
    last: int = 2
    messages: list[bytes] = field(default_factory=list)
    ends: list[bool] = field(default_factory=list)
    closed_error: Exception | None = None

    @property
    def finished(self) -> bool:
        return len(self.messages) >= self.last

    def receive(self, message: bytes) -> Iterable[bytes]:
        self.messages.append(message)
        return self.reply(message)

    def closed(self, *, delivered: bool) -> None:
        self.ends.append(delivered)
        if self.closed_error:
            raise self.closed_error


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream_id: int
    payload: bytes


def frames(data: bytes) -> Iterator[Frame]:
    while data:
        length, flags, stream_id = struct.unpack(">IBI", data[:9])
        size = 9 + (length >> 8)
        yield Frame(length & 0xFF, flags, stream_id, bytes(data[9:size]))
        data = data[size:]


class Client:
    """A connection to a server of `FakeStream`s."""

    def __init__(self, make: Callable[[], FakeStream] = FakeStream) -> None:
        self.make = make
        self.streams: list[FakeStream] = []
        self.connections: set[GrpcConnection] = set()
        self.transport = FakeTransport()
        self.timers = FakeTimers()
        self.connection = GrpcConnection(self._open, self.connections, MAX_MESSAGE_BYTES, self.timers.call_later)
        self.connection.connection_made(self.transport)
        self.greeting = self.take()

    def _open(self) -> FakeStream:
        self.streams.append(self.make())
        return self.streams[-1]

    def greet(self) -> "Client":
        self.send(GREETING)
        return self

    def take(self) -> list[Frame]:
        """What has been written since the last call."""
        data = bytes(self.transport.written)
        self.transport.written.clear()
        return list(frames(data))

    def send(self, *parts: bytes) -> list[Frame]:
        self.connection.data_received(b"".join(parts))
        return self.take()

    def ends(self) -> list[list[bool]]:
        return [stream.ends for stream in self.streams]

    def lose(self) -> None:
        self.connection.connection_lost(None)


def message(data: bytes) -> bytes:
    return b"\x00" + len(data).to_bytes(4, "big") + data


def headers(stream_id: int = 1, flags: int = END_HEADERS) -> bytes:
    return frame(HEADERS, flags, stream_id, b"\x83\x86")


def data(payload: bytes, stream_id: int = 1, flags: int = 0) -> bytes:
    """DATA frames of the default size."""
    pieces = [payload[at : at + 16_384] for at in range(0, len(payload), 16_384)] or [b""]
    return b"".join(
        frame(DATA, flags if at == len(pieces) - 1 else 0, stream_id, piece) for at, piece in enumerate(pieces)
    )


def body(answer: Iterable[Frame], stream_id: int = 1) -> bytes:
    return b"".join(item.payload for item in answer if item.kind == DATA and item.stream_id == stream_id)


def kinds(answer: Iterable[Frame]) -> list[int]:
    return [item.kind for item in answer]


def status(answer: Sequence[Frame]) -> int:
    (block,) = [item.payload for item in answer if item.kind == HEADERS and item.flags & END_STREAM]
    length = block[block.index(b"grpc-status") + 11]
    start = block.index(b"grpc-status") + 12
    return int(block[start : start + length])


def go_away(answer: Sequence[Frame]) -> int:
    """The code with which the connection ended."""
    assert answer[-1].kind == GOAWAY
    return int.from_bytes(answer[-1].payload[4:], "big")


def settings(**values: int) -> bytes:
    keys = {"window": INITIAL_WINDOW_SIZE, "frame": MAX_FRAME_SIZE, "table": 1, "unknown": 0x99}
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", keys[key], value) for key, value in values.items()))


def widen(increment: int, stream_id: int = 0) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, number(increment))


def reset(stream_id: int = 1) -> bytes:
    return frame(RST_STREAM, 0, stream_id, number(8))


def test_the_server_greets_with_settings_and_a_wide_window() -> None:
    client = Client()
    assert kinds(client.greeting) == [SETTINGS, WINDOW_UPDATE]
    assert int.from_bytes(client.greeting[1].payload, "big") + 65_535 == LARGEST_WINDOW
    assert kinds(client.send(GREETING)) == [SETTINGS]


def test_a_conversation() -> None:
    client = Client().greet()
    first = client.send(headers(), data(message(b"one")))
    assert kinds(first) == [HEADERS, DATA]
    assert body(first) == message(b"one")
    second = client.send(data(message(b"two")))
    assert kinds(second) == [DATA, HEADERS]
    assert status(second) == 0
    assert client.ends() == [[True]]
    client.lose()
    assert client.ends() == [[True]]
    assert not client.connections


def test_what_one_read_brings_is_answered_with_one_write() -> None:
    client = Client().greet()
    before = client.transport.writes
    client.send(*(headers(i) + data(message(b"x") * 2, i) for i in range(1, 41, 2)))
    assert client.transport.writes == before + 1
    assert client.ends() == [[True]] * 20


def test_bytes_may_come_one_by_one() -> None:
    client = Client()
    sent = GREETING + headers() + data(message(b"one") + message(b"two"))
    answer = [item for byte in sent for item in client.send(bytes((byte,)))]
    assert body(answer) == message(b"one") + message(b"two")
    assert client.ends() == [[True]]


def test_a_message_may_be_spread_over_frames_and_a_frame_hold_many() -> None:
    client = Client(lambda: FakeStream(last=9)).greet()
    large = message(b"x" * 50_000)
    client.send(headers(), data(large), *(frame(DATA, 0, 1, bytes((byte,))) for byte in message(b"slow")))
    client.send(data(message(b"a") + message(b"") + message(b"c")))
    assert client.streams[0].messages == [b"x" * 50_000, b"slow", b"a", b"", b"c"]


HARMLESS = {
    "priority": frame(PRIORITY, 0, 1, bytes(5)),
    "an unknown kind": frame(UNKNOWN, 0xFF, 7, b"what"),
    "acknowledged settings": frame(SETTINGS, ACK, 0, b""),
    "an unknown setting": settings(unknown=7),
    "a foreign acknowledged ping": frame(PING, ACK, 0, bytes(8)),
    "goaway": frame(GOAWAY, 0, 0, bytes(8)),
    "an empty frame": frame(DATA, 0, 1, b""),
    "padding": frame(DATA, PADDED, 1, b"\x04" + bytes(4)),
    "no padding": frame(DATA, PADDED, 1, b"\x00"),
    "a wider window": widen(5) + widen(5, 1),
}


@pytest.mark.parametrize("harmless", HARMLESS.values(), ids=HARMLESS)
def test_a_conversation_goes_on_after_frames_that_mean_nothing_here(harmless: bytes) -> None:
    client = Client().greet()
    client.send(headers(), data(message(b"one")), harmless)
    assert status(client.send(harmless, data(message(b"two")))) == 0
    assert client.ends() == [[True]]


def test_padding_is_not_part_of_a_message() -> None:
    client = Client().greet()
    client.send(headers(), frame(DATA, PADDED, 1, b"\x03" + message(b"one") + bytes(3)))
    assert client.streams[0].messages == [b"one"]


def test_header_blocks_may_be_padded_have_a_priority_and_go_on_in_further_frames() -> None:
    client = Client().greet()
    client.send(frame(HEADERS, PADDED | 0x20 | END_STREAM, 1, b"\x02" + bytes(5) + b"\x83" + bytes(2)))
    assert not client.streams
    client.send(frame(CONTINUATION, 0, 1, b"\x86"))
    answer = client.send(frame(CONTINUATION, END_HEADERS, 1, b"\x84"))
    assert kinds(answer) == [HEADERS]
    assert status(answer) == 0
    assert client.ends() == [[False]]


def test_pings_are_answered() -> None:
    (pong,) = Client().greet().send(frame(PING, 0, 0, b"12345678"))
    assert pong == Frame(PING, ACK, 0, b"12345678")


BROKEN: dict[str, tuple[bytes, int]] = {
    "data without stream": (data(b"", 0), PROTOCOL_ERROR),
    "data of a stream to come": (data(b"", 3), PROTOCOL_ERROR),
    "data of the server's stream": (data(b"", 2), PROTOCOL_ERROR),
    "too much padding": (headers() + frame(DATA, PADDED, 1, b"\x01"), PROTOCOL_ERROR),
    "padding without length": (headers() + frame(DATA, PADDED, 1, b""), PROTOCOL_ERROR),
    "too much padding of headers": (frame(HEADERS, PADDED | END_HEADERS, 1, b"\x09"), PROTOCOL_ERROR),
    "headers of the server's stream": (headers(2), PROTOCOL_ERROR),
    "headers without stream": (headers(0), PROTOCOL_ERROR),
    "a continuation of nothing": (frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL_ERROR),
    "a frame within a header block": (headers(flags=0) + frame(PING, 0, 0, bytes(8)), PROTOCOL_ERROR),
    "headers within a header block": (headers(flags=0) + headers(), PROTOCOL_ERROR),
    "another's continuation": (headers(flags=0) + frame(CONTINUATION, END_HEADERS, 3, b""), PROTOCOL_ERROR),
    "endless headers": (headers(flags=0) + frame(CONTINUATION, 0, 1, bytes(16_000)) * 5, ENHANCE_YOUR_CALM),
    "endless empty headers": (headers(flags=0) + frame(CONTINUATION, 0, 1, b"") * 9_999, ENHANCE_YOUR_CALM),
    "a push": (frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4)), PROTOCOL_ERROR),
    "a large frame": (frame(DATA, 0, 1, bytes(16_385)), FRAME_SIZE_ERROR),
    "a short reset": (headers() + frame(RST_STREAM, 0, 1, bytes(3)), FRAME_SIZE_ERROR),
    "a reset without stream": (reset(0), PROTOCOL_ERROR),
    "a reset of a stream to come": (reset(1), PROTOCOL_ERROR),
    "a short ping": (frame(PING, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    "a stream's ping": (frame(PING, 0, 1, bytes(8)), PROTOCOL_ERROR),
    "a stream's settings": (frame(SETTINGS, 0, 1, b""), PROTOCOL_ERROR),
    "half a setting": (frame(SETTINGS, 0, 0, bytes(5)), FRAME_SIZE_ERROR),
    "acknowledged settings with settings": (frame(SETTINGS, ACK, 0, bytes(6)), FRAME_SIZE_ERROR),
    "a window too wide": (settings(window=1 << 31), FLOW_CONTROL_ERROR),
    "frames too small": (settings(frame=16_383), PROTOCOL_ERROR),
    "frames too large": (settings(frame=1 << 24), PROTOCOL_ERROR),
    "a stream widened by new settings": (headers() + widen(9, 1) + settings(window=LARGEST_WINDOW), FLOW_CONTROL_ERROR),
    "a window of the connection widened by nothing": (widen(0), PROTOCOL_ERROR),
    "a window of the connection widened too far": (widen(LARGEST_WINDOW), FLOW_CONTROL_ERROR),
    "a window of a stream to come": (widen(1, 1), PROTOCOL_ERROR),
    "a short window": (frame(WINDOW_UPDATE, 0, 0, bytes(3)), FRAME_SIZE_ERROR),
    "a stream's goaway": (frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL_ERROR),
}


@pytest.mark.parametrize(("broken", "code"), BROKEN.values(), ids=BROKEN)
def test_a_broken_connection_is_told_why_and_closed(broken: bytes, code: int) -> None:
    client = Client().greet()
    assert go_away(client.send(broken)) == code
    assert client.transport.closed
    assert all(ends == [False] for ends in client.ends())
    assert client.send(headers(5)) == []
    client.lose()
    assert all(ends == [False] for ends in client.ends())


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX", PREFACE + headers()])
def test_what_is_not_http2_is_closed_at_once(start: bytes) -> None:
    client = Client()
    assert go_away(client.send(start)) == PROTOCOL_ERROR
    assert client.transport.closed


def test_frames_for_streams_that_have_ended_are_ignored() -> None:
    client = Client().greet()
    client.send(headers(), data(message(b"x") * 2))
    late = (data(message(b"x")), data(b"", flags=END_STREAM), widen(1, 1), widen(0, 1), reset(), headers(1))
    assert client.send(*late) == []
    assert status(client.send(headers(3), data(message(b"x") * 2, 3))) == 0


STREAM_ERRORS = {
    "a window widened by nothing": (widen(0, 1), PROTOCOL_ERROR),
    "a window widened too far": (widen(LARGEST_WINDOW, 1), FLOW_CONTROL_ERROR),
    "trailers that are not the end": (headers(), PROTOCOL_ERROR),
}


@pytest.mark.parametrize(("broken", "code"), STREAM_ERRORS.values(), ids=STREAM_ERRORS)
def test_a_broken_stream_is_reset_alone(broken: bytes, code: int) -> None:
    client = Client().greet()
    answer = client.send(headers(), broken, headers(3), data(message(b"x") * 2, 3))
    assert answer[0] == Frame(RST_STREAM, 0, 1, number(code))
    assert status(answer) == 0
    assert client.ends() == [[False], [True]]


def test_a_client_that_ends_early_gets_status_ok_but_the_stream_counts_as_abandoned() -> None:
    for end in (data(b"", flags=END_STREAM), headers(flags=END_HEADERS | END_STREAM)):
        client = Client().greet()
        client.send(headers(), data(message(b"one")))
        assert status(client.send(end)) == 0
        assert client.ends() == [[False]]


def test_the_end_may_come_with_the_last_message() -> None:
    client = Client().greet()
    assert status(client.send(headers(), data(message(b"x") * 2, flags=END_STREAM))) == 0
    assert client.ends() == [[True]]


def test_a_reset_in_the_middle_ends_the_stream() -> None:
    client = Client().greet()
    client.send(headers(), data(message(b"one")))
    assert client.send(reset(), data(message(b"two"))) == []
    assert client.ends() == [[False]]


def fail(_: bytes) -> Iterator[bytes]:
    yield b"half"
    raise ZeroDivisionError


def refuse(_: bytes) -> Iterable[bytes]:
    raise StreamError(3, "wrong: 100 % \N{BLACK STAR}" + "x" * 999)


FAILURES = {
    "a mistake of ours": (message(b"x"), fail, 13),
    "a refusal": (message(b"x"), refuse, 3),
    "a compressed message": (b"\x01" + bytes(4), refuse, 12),
    "a large message": (b"\x00" + (MAX_MESSAGE_BYTES + 1).to_bytes(4, "big"), refuse, 8),
}


@pytest.mark.parametrize(("sent", "reply", "code"), FAILURES.values(), ids=FAILURES)
def test_an_error_ends_its_stream_with_a_status(
    sent: bytes, reply: Callable[[bytes], Iterable[bytes]], code: int
) -> None:
    client = Client(lambda: FakeStream(reply)).greet()
    answer = client.send(headers(), data(sent), data(message(b"more")))
    assert status(answer) == code
    assert answer[-1] == Frame(RST_STREAM, 0, 1, number(NO_ERROR))
    assert client.ends() == [[False]]
    client.make = FakeStream
    assert status(client.send(headers(3), data(message(b"x") * 2, 3))) == 0


def test_a_stream_that_ends_within_a_message_is_an_invalid_argument() -> None:
    client = Client().greet()
    assert status(client.send(headers(), data(message(b"one")[:-1], flags=END_STREAM))) == 3


def test_mistakes_at_either_end_of_a_stream_leave_the_connection_up() -> None:
    client = Client(lambda: FakeStream(closed_error=ZeroDivisionError())).greet()
    assert status(client.send(headers(), data(message(b"x") * 2))) == 0

    def broken() -> FakeStream:
        raise ZeroDivisionError

    client.make = broken
    assert client.send(headers(3), data(message(b"x"), 3)) == [Frame(RST_STREAM, 0, 3, number(INTERNAL_ERROR))]
    client.make = FakeStream
    assert status(client.send(headers(5), data(message(b"x") * 2, 5))) == 0


@pytest.mark.parametrize(("size", "step"), [(220_000, 1_000), (8 << 20, 65_535), (220_000, 1 << 20)])
def test_a_large_answer_fits_the_clients_windows(size: int, step: int) -> None:
    large = bytes(range(256)) * (size // 256)
    client = Client(lambda: FakeStream(lambda _: (large,), last=1)).greet()
    answer = client.send(settings(window=step), headers(), data(message(b"x")))
    stream_window = step - len(body(answer))
    window = 65_535 - len(body(answer))
    while not client.ends()[0]:
        assert min(stream_window, window) == 0
        more = client.send(widen(step, 1), widen(step))
        stream_window, window = stream_window + step - len(body(more)), window + step - len(body(more))
        answer += more
    assert body(answer) == message(large)
    assert max(len(item.payload) for item in answer) <= 16_384
    assert answer[-1].flags & END_STREAM
    assert client.ends() == [[True]]


def test_a_window_may_become_negative() -> None:
    client = Client(lambda: FakeStream(lambda _: (b"x" * 995,), last=1)).greet()
    assert len(body(client.send(settings(window=600), headers(), data(message(b""))))) == 600
    assert body(client.send(settings(window=100))) == b""
    assert body(client.send(widen(500, 1))) == b""
    assert len(body(client.send(settings(window=150)))) == 50
    assert client.ends() == [[]]
    assert len(body(client.send(widen(10_000, 1)))) == 350
    assert client.ends() == [[True]]


def test_larger_frames_are_sent_to_clients_that_take_them() -> None:
    client = Client(lambda: FakeStream(lambda _: (b"x" * 60_000,), last=1)).greet()
    answer = client.send(settings(frame=1 << 20), headers(), data(message(b"")))
    assert kinds(answer) == [SETTINGS, HEADERS, DATA, HEADERS]


def test_a_message_waits_until_the_answers_to_the_one_before_are_sent() -> None:
    client = Client(lambda: FakeStream(lambda text: (text * 5_000,), last=4)).greet()
    sent = headers() + data(message(b"a") + message(b"b") + message(b"c"), flags=END_STREAM)
    first = client.send(settings(window=1_000), sent)
    assert client.streams[0].messages == [b"a"]
    rest = [item for _ in range(20) for item in client.send(widen(1_000, 1))]
    assert body(first + rest) == b"".join(message(text * 5_000) for text in (b"a", b"b", b"c"))
    assert status(rest) == 0
    assert client.ends() == [[False]]


def test_what_comes_after_the_last_message_is_not_kept_while_the_answer_waits() -> None:
    client = Client(lambda: FakeStream(lambda _: (b"x" * 9_000,), last=1)).greet()
    client.send(settings(window=1_000), headers(), data(message(b"")))
    for _ in range(20):
        assert client.send(data(message(b"x" * 16_000))) == []
    assert len(client.streams[0].messages) == 1
    client.send(widen(10_000, 1))
    assert client.ends() == [[True]]


def test_the_windows_that_clients_send_into_are_opened_again() -> None:
    client = Client(lambda: FakeStream(lambda _: (), last=10_000)).greet()
    client.send(headers())
    read = frame(DATA, 0, 1, message(bytes(16_379)))
    updates: list[Frame] = []
    for _ in range(3_000):
        updates += client.send(read)
    assert [item.stream_id for item in updates] == [1]
    assert int.from_bytes(updates[0].payload, "big") == (1 << 25) + 16_384
    assert not client.transport.closed


def test_a_client_that_ignores_its_window_is_sent_away() -> None:
    client = Client(lambda: FakeStream(lambda _: (b"x",), last=10_000)).greet()
    client.send(settings(window=0), headers())
    read = frame(DATA, 0, 1, bytes(16_384)) * 64
    answers = [client.send(read) for _ in range(65)]
    assert go_away(next(answer for answer in answers if kinds(answer)[-1:] == [GOAWAY])) == FLOW_CONTROL_ERROR


def test_nothing_is_read_while_the_client_does_not_read() -> None:
    client = Client().greet()
    client.connection.pause_writing()
    assert not client.transport.reading
    client.connection.resume_writing()
    assert client.transport.reading


def test_a_flood_of_resets_ends_the_connection() -> None:
    client = Client().greet()
    answers = [client.send(headers(i) + reset(i)) for i in range(1, 2_401, 2)]
    assert go_away(answers[1_000]) == ENHANCE_YOUR_CALM
    assert client.ends() == [[False]] * 1_001


def test_resets_of_answered_streams_are_no_flood() -> None:
    client = Client().greet()
    for i in range(1, 3_001, 2):
        client.send(headers(i) + data(message(b"x"), i) + reset(i))
    assert not client.transport.closed
    assert client.ends() == [[False]] * 1_500


def test_streams_beyond_the_announced_number_are_refused() -> None:
    client = Client().greet()
    assert client.send(*(headers(2 * i + 1) for i in range(16_384))) == []
    assert client.send(headers(40_001)) == [Frame(RST_STREAM, 0, 40_001, number(REFUSED_STREAM))]
    client.lose()
    assert client.ends() == [[False]] * 16_384


def test_a_connection_that_leaves_serves_the_streams_that_the_client_opened_until_it_knew() -> None:
    client = Client().greet()
    client.send(headers())
    client.connection.leave()
    farewell, ping = client.take()
    assert farewell.payload == struct.pack(">II", LARGEST_WINDOW, NO_ERROR)
    client.send(headers(3))
    (last,) = client.send(frame(PING, ACK, 0, ping.payload))
    assert last.payload == struct.pack(">II", 3, NO_ERROR)
    assert kinds(client.send(headers(5))) == [RST_STREAM]
    client.send(data(message(b"x") * 2))
    assert status(client.send(data(message(b"x") * 2, 3))) == 0
    assert client.ends() == [[True], [True]]
    assert kinds(client.send(headers(7))) == [RST_STREAM]
    assert not client.transport.is_closing()
    client.lose()
    assert not client.timers


def test_a_client_that_does_not_close_when_its_last_stream_has_ended_is_closed() -> None:
    client = Client().greet()
    client.send(headers())
    client.connection.leave()
    _, ping = client.take()
    client.send(frame(PING, ACK, 0, ping.payload))
    assert not client.timers
    client.send(data(message(b"x") * 2))
    client.send(headers(3))
    assert len(client.timers) == 1
    assert not client.transport.is_closing()
    client.connection.leave()
    client.timers.run()
    assert client.transport.closed


def test_a_client_that_does_not_confirm_that_we_leave_is_left_all_the_same() -> None:
    client = Client().greet()
    client.send(headers())
    client.connection.leave()
    client.connection.leave()
    client.take()
    client.timers.run()
    assert [item.payload for item in client.take()] == [struct.pack(">II", 1, NO_ERROR)]
    assert kinds(client.send(headers(3))) == [RST_STREAM]
    assert not client.timers
    client.send(data(message(b"x") * 2))
    assert not client.transport.is_closing()
    client.timers.run()
    assert client.transport.closed
    assert client.ends() == [[True]]


def test_an_idle_client_that_answers_nothing_is_closed() -> None:
    client = Client()
    client.connection.leave()
    client.timers.run()
    assert not client.transport.is_closing()
    client.timers.run()
    assert client.transport.closed


def test_an_aborted_connection_ends_its_streams_at_once() -> None:
    client = Client().greet()
    client.send(headers(), headers(3))
    client.connection.abort()
    assert client.transport.aborted
    assert client.ends() == [[False], [False]]
    client.lose()
    assert client.ends() == [[False], [False]]


stream_ids = st.sampled_from([0, 1, 2, 3, 5, 7])
payloads = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([message(b"hello"), message(b"x") * 3, b"", number(0), number(1), number(70_000), bytes(8)]),
)
any_frames = st.builds(frame, st.integers(0, 11), st.sampled_from([0, 1, 4, 5, 8, 9, 12, 255]), stream_ids, payloads)
valid_frames = st.one_of(
    st.builds(headers, st.sampled_from([1, 3, 5, 7, 9]), st.sampled_from([END_HEADERS, END_HEADERS | END_STREAM])),
    st.builds(data, payloads, st.just(1), st.sampled_from([0, END_STREAM])),
    st.builds(reset, st.just(1)),
    st.builds(widen, st.integers(1, 9_999), st.sampled_from([0, 1])),
    st.builds(lambda window: settings(window=window), st.integers(0, 70_000)),
    st.just(frame(PING, 0, 0, bytes(8))),
)


def check_fuzzed(sent: bytes, cuts: Sequence[int]) -> None:
    """Whatever is sent: no error, errors of the client end with GOAWAY, and each stream's end is told once."""
    client = Client(lambda: FakeStream(lambda text: (text * 2_000,)))
    answers: list[Frame] = []
    at = 0
    for cut in (*sorted(cuts), len(sent)):
        answers += client.send(sent[at:cut])
        at = max(at, cut)
    if client.transport.closed:
        assert answers[-1].kind == GOAWAY
        assert all(len(ends) == 1 for ends in client.ends())
    client.lose()
    assert all(len(ends) == 1 for ends in client.ends())
    sent_bytes = len(sent)
    assert len(answers) <= 10 + sent_bytes


@hypothesis_settings(deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=3))
@example(PREFACE, [])
def test_random_bytes_do_no_harm(sent: bytes, cuts: list[int]) -> None:
    check_fuzzed(sent, cuts)
    check_fuzzed(GREETING + sent, cuts)
    check_fuzzed(GREETING + headers() + sent, cuts)


@hypothesis_settings(deadline=None)
@given(st.lists(any_frames, max_size=20), st.lists(st.integers(0, 600), max_size=3))
def test_random_frames_do_no_harm(sent: list[bytes], cuts: list[int]) -> None:
    check_fuzzed(GREETING + b"".join(sent), cuts)


@hypothesis_settings(deadline=None)
@given(st.lists(valid_frames, max_size=30), st.lists(st.integers(0, 600), max_size=3))
def test_random_conversations_do_no_harm(sent: list[bytes], cuts: list[int]) -> None:
    check_fuzzed(GREETING + headers() + b"".join(sent), cuts)
