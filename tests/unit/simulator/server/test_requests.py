import json
from typing import Any

import pytest

from pointsman_policy.errors import RequestError
from pointsman_policy.simulator.server.requests import read_chat, read_completion


def completion(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "prompt": "Say it.", **fields}).encode()


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "Say it."}], **fields}).encode()


def test_a_completion_is_read() -> None:
    question = read_completion(completion(max_tokens=5, temperature=0.2, unknown={"a": 1}))
    assert (question.model, question.prompt, question.prompt_tokens, question.maximum_tokens) == (
        "m",
        "Say it.",
        None,
        5,
    )
    assert not question.streaming


def test_limits_default_as_in_the_api() -> None:
    assert read_completion(completion()).maximum_tokens == 16
    assert read_chat(chat()).maximum_tokens is None
    assert read_chat(chat(max_tokens=7)).maximum_tokens == 7
    assert read_chat(chat(max_tokens=7, max_completion_tokens=9)).maximum_tokens == 9


@pytest.mark.parametrize(
    ("prompt", "text", "tokens"),
    [
        ("one", "one", None),
        (["one"], "one", None),
        ([3, 1, 2], "3 1 2", 3),
        ([[3, 1]], "3 1", 2),
    ],
)
def test_prompts_are_text_or_token_ids(prompt: Any, text: str, tokens: int | None) -> None:
    question = read_completion(completion(prompt=prompt))
    assert (question.prompt, question.prompt_tokens) == (text, tokens)


def test_the_prompt_of_a_chat_is_the_text_of_its_messages() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Say"}, {"type": "image_url", "image_url": {"url": "x"}}],
        },
        {"role": "assistant", "content": None, "tool_calls": []},
    ]
    assert read_chat(chat(messages=messages)).prompt == "Be brief.\nSay"


def test_usage_in_streams_is_asked_for() -> None:
    assert not read_chat(chat(stream=True)).include_usage
    assert not read_chat(chat(stream=True, stream_options={})).include_usage
    assert read_chat(chat(stream=True, stream_options={"include_usage": True})).include_usage


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"model": "\xff"}', "not valid JSON"),
        (b"[]", "Expected `object`, got `array`"),
        (b"[" * 100_000, "does not fit|nested too deeply"),
        (b'{"prompt": "x"}', "missing required field `model`"),
        (b'{"model": "m"}', "missing required field `prompt`"),
        (completion(model=None), r"got `null` - at `\$.model`"),
        (completion(prompt={"a": 1}), r"at `\$.prompt`"),
        (completion(prompt=[]), "one text or one list of token ids"),
        (completion(prompt=[[]]), "one text or one list of token ids"),
        (completion(prompt=["one", "two"]), "one text or one list of token ids"),
        (completion(prompt=[1, "two"]), "one text or one list of token ids"),
        (completion(max_tokens=0), "max_tokens must be at least 1, got 0"),
        (completion(max_tokens=-3), "max_tokens must be at least 1, got -3"),
        (completion(max_tokens="5"), r"Expected `int \| null`, got `str` - at `\$.max_tokens`"),
        (completion(n=2), "n must be 1, got 2"),
        (completion(stream="yes"), r"at `\$.stream`"),
        (completion(stream_options={"include_usage": True}), "only if stream is true"),
    ],
)
def test_bodies_that_are_no_completion_are_refused(raw: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        read_completion(raw)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"model": "m"}', "missing required field `messages`"),
        (chat(messages=[]), "send at least one message"),
        (chat(messages=["hello"]), r"at `\$.messages\[0\]`"),
        (chat(messages=[{"content": "hello"}]), "missing required field `role`"),
        (chat(messages=[{"role": "user", "content": 5}]), r"at `\$.messages\[0\].content`"),
        (chat(max_completion_tokens=0), "max_tokens must be at least 1, got 0"),
    ],
)
def test_bodies_that_are_no_chat_are_refused(raw: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        read_chat(raw)


def test_errors_never_quote_the_prompt() -> None:
    with pytest.raises(RequestError) as caught:
        read_completion(completion(prompt=["a secret", "another secret"]))
    assert "secret" not in str(caught.value)
