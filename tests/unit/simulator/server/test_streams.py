import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from pointsman_policy.simulator.server.formats import ChatFormat, Format, Reply, TextFormat, answer_text
from pointsman_policy.simulator.server.streams import EventStream


class FakeTransport(asyncio.WriteTransport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closing = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing


def reply(form: Format, tokens: int, *, include_usage: bool = False, reason: str = "stop") -> Reply:
    return Reply(form, "id-1", 1_700_000_000, "m", 7, tokens, reason, include_usage)


def dechunked(raw: bytes) -> bytes:
    body = b""
    while raw:
        size, _, rest = raw.partition(b"\r\n")
        count = int(size, 16)
        assert count > 0
        assert rest[count : count + 2] == b"\r\n"
        body += rest[:count]
        raw = rest[count + 2 :]
    return body


def events(body: bytes) -> list[Any]:
    parts = body.decode().split("\n\n")
    assert parts.pop() == ""
    assert all(part.startswith("data: ") for part in parts)
    assert parts.pop() == "data: [DONE]"
    return [json.loads(part.removeprefix("data: ")) for part in parts]


async def write(answer: Reply, told: Sequence[int], *, chunked: bool = True) -> list[bytes]:
    transport = FakeTransport()
    ended = asyncio.get_running_loop().create_future()
    stream = EventStream(transport, answer, chunked=chunked, ended=ended)
    for tokens in told:
        assert not ended.done()
        stream(tokens)
    assert ended.done()
    return transport.writes


@pytest.mark.parametrize("told", [range(1, 41), [40], [3, 20, 39, 40]], ids=["one by one", "at once", "late"])
async def test_a_text_stream_carries_the_whole_answer_however_it_is_told(told: Sequence[int]) -> None:
    writes = await write(reply(TextFormat(), 40), told)
    assert len(writes) == len(told)
    chunks = events(dechunked(b"".join(writes)))
    assert len(chunks) == 40
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == answer_text(40)
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 39 + ["stop"]
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    assert all("usage" not in chunk for chunk in chunks)


async def test_a_chat_stream_begins_with_the_role() -> None:
    chunks = events(dechunked(b"".join(await write(reply(ChatFormat(), 3, reason="length"), [1, 2, 3]))))
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == answer_text(3)
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


@pytest.mark.parametrize("form", [TextFormat(), ChatFormat()])
async def test_usage_comes_last_when_asked_for(form: Format) -> None:
    chunks = events(dechunked(b"".join(await write(reply(form, 2, include_usage=True), [1, 2]))))
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 2,
        "total_tokens": 9,
        "prompt_tokens_details": None,
    }


async def test_an_answer_may_be_a_single_token() -> None:
    chunks = events(dechunked(b"".join(await write(reply(TextFormat(), 1), [1]))))
    assert [chunk["choices"][0]["text"] for chunk in chunks] == [answer_text(1)]


async def test_clients_of_http_1_0_get_no_chunks() -> None:
    assert len(events(b"".join(await write(reply(TextFormat(), 5), [2, 5], chunked=False)))) == 5


async def test_nothing_is_written_to_a_client_that_has_left() -> None:
    transport = FakeTransport()
    ended = asyncio.get_running_loop().create_future()
    stream = EventStream(transport, reply(TextFormat(), 3), chunked=True, ended=ended)
    transport.closing = True
    ended.cancel()
    stream(2)
    stream(3)
    assert transport.writes == []


def test_a_whole_answer_says_what_its_stream_says() -> None:
    text = json.loads(reply(TextFormat(), 30).whole())
    assert text["choices"][0]["text"] == answer_text(30)
    assert text["usage"]["completion_tokens"] == 30
    message = json.loads(reply(ChatFormat(), 30).whole())
    assert message["choices"][0]["message"] == {"role": "assistant", "content": answer_text(30)}
    assert message["object"] == "chat.completion"


@pytest.mark.parametrize("tokens", [1, 11, 12, 13, 100])
def test_each_word_of_an_answer_is_one_token(tokens: int) -> None:
    assert len(answer_text(tokens).split()) == tokens
