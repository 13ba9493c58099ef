"""What an emulated server reads from the bodies of OpenAI's API; unknown fields are ignored."""

from dataclasses import dataclass
from typing import Annotated, Final, TypeVar

import msgspec

from pointsman_policy.errors import RequestError

DEFAULT_COMPLETION_TOKENS = 16
"""Tokens of a text completion that sets no `max_tokens`; a chat completion has no such limit."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request for one answer."""

    model: str
    prompt: str
    """Its text, or its token ids written out."""
    prompt_tokens: int | None
    """The number of token ids; None = it was text."""
    maximum_tokens: int | None
    """None = not limited."""
    streaming: bool
    include_usage: bool
    """A stream ends with an event that holds the usage."""


class _Simulation(msgspec.Struct, forbid_unknown_fields=True):
    pace: Annotated[float, msgspec.Meta(gt=0, le=1_000)]


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Body(msgspec.Struct):
    model: str
    max_tokens: int | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


class _Completion(_Body, kw_only=True):
    prompt: str | list[int | str | list[int]]


class _Part(msgspec.Struct):
    text: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None


class _Chat(_Body, kw_only=True):
    messages: list[_Message]
    max_completion_tokens: int | None = None


_BodyT = TypeVar("_BodyT", bound=_Body)

_COMPLETION: Final = msgspec.json.Decoder(_Completion)
_CHAT: Final = msgspec.json.Decoder(_Chat)


def read_completion(raw: bytes) -> Question:
    """Read the body of a text completion.

    Raises:
        RequestError: If it is not one that asks for one answer to one prompt.
    """
    body = _decode(_COMPLETION, raw)
    prompt, prompt_tokens = _prompt(body.prompt)
    limit = body.max_tokens if body.max_tokens is not None else DEFAULT_COMPLETION_TOKENS
    return _question(body, prompt, prompt_tokens, limit)


def read_chat(raw: bytes) -> Question:
    """Read the body of a chat completion; its prompt is the texts of its messages, one a line.

    Raises:
        RequestError: If it is not one that asks for one answer.
    """
    body = _decode(_CHAT, raw)
    if not body.messages:
        raise RequestError("messages is empty; send at least one message", field="messages")
    texts = [text for message in body.messages for text in _texts(message)]
    limit = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    return _question(body, "\n".join(texts), None, limit)


def _decode(decoder: msgspec.json.Decoder[_BodyT], raw: bytes) -> _BodyT:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise RequestError(f"the body does not fit this API: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"the body is not valid JSON ({error}); send one JSON object in UTF-8") from None
    except RecursionError:
        raise RequestError("the body is nested too deeply; send a flat JSON object") from None


def _question(body: _Body, prompt: str, prompt_tokens: int | None, limit: int | None) -> Question:
    if limit is not None and limit < 1:
        raise RequestError(f"max_tokens must be at least 1, got {limit}", field="max_tokens")
    if body.n not in (None, 1):
        raise RequestError(f"n must be 1, got {body.n}; ask again for each further answer", field="n")
    if body.stream_options is not None and not body.stream:
        raise RequestError("stream_options may be set only if stream is true", field="stream_options")
    return Question(
        model=body.model,
        prompt=prompt,
        prompt_tokens=prompt_tokens,
        maximum_tokens=limit,
        streaming=bool(body.stream),
        include_usage=body.stream_options is not None and bool(body.stream_options.include_usage),
    )


def _prompt(value: str | list[int | str | list[int]]) -> tuple[str, int | None]:
    """Return the text, or token ids written out and their number."""
    if isinstance(value, str):
        return value, None
    if len(value) == 1 and not isinstance(value[0], int):
        return _prompt(value[0])  # type: ignore[arg-type]  # a list of ids is a list
    if not value or not all(isinstance(item, int) for item in value):
        raise RequestError("prompt must be one text or one list of token ids", field="prompt")
    return " ".join(map(str, value)), len(value)


def _texts(message: _Message) -> list[str]:
    if message.content is None:
        return []
    if isinstance(message.content, str):
        return [message.content]
    return [part.text for part in message.content if part.text is not None]


def read_pace(body: bytes) -> float:
    """Return what the body of `PUT /simulation` asks for.

    Raises:
        RequestError: If it is something else.
    """
    try:
        return msgspec.json.decode(body, type=_Simulation).pace
    except msgspec.DecodeError as error:
        raise RequestError(f'put a pace above 0, such as {{"pace": 1.6}} ({error})') from error
