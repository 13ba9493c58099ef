"""The bodies and server-sent events of OpenAI's API, as vLLM writes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

Json = Mapping[str, Any]

WORDS = (" the", " signal", " is", " clear", " and", " every", " train", " runs", " on", " its", " own", " track")
"""The words of every answer, over and over; each counts as one token."""
DONE = b"data: [DONE]\n\n"


def answer_text(tokens: int) -> str:
    """Return an answer of so many tokens."""
    rounds, rest = divmod(tokens, len(WORDS))
    return "".join(WORDS) * rounds + "".join(WORDS[:rest])


class Format(Protocol):
    """How one kind of completion looks."""

    id_prefix: str
    whole_object: str
    chunk_object: str

    def opening(self) -> Json | None:
        """Return the choice of an event before the first token; None = there is no such event."""

    def piece(self, text: str, finish_reason: str | None) -> Json:
        """Return the choice of an event with some text."""

    def whole(self, text: str, finish_reason: str) -> Json:
        """Return the choice of a whole answer."""


class TextFormat:
    """Text completions."""

    id_prefix = "cmpl"
    whole_object = chunk_object = "text_completion"

    def opening(self) -> Json | None:
        """A stream begins with the first token."""
        return None

    def piece(self, text: str, finish_reason: str | None) -> Json:
        """An event looks like a whole answer."""
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason, "stop_reason": None}

    def whole(self, text: str, finish_reason: str) -> Json:
        """Text and why it ended."""
        return self.piece(text, finish_reason)


class ChatFormat:
    """Chat completions."""

    id_prefix = "chatcmpl"
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def opening(self) -> Json | None:
        """A stream begins with the role, sent along with the first token."""
        return self._choice("delta", {"role": "assistant", "content": ""}, None)

    def piece(self, text: str, finish_reason: str | None) -> Json:
        """A delta of the message."""
        return self._choice("delta", {"content": text}, finish_reason)

    def whole(self, text: str, finish_reason: str) -> Json:
        """The whole message."""
        return self._choice("message", {"role": "assistant", "content": text}, finish_reason)

    @staticmethod
    def _choice(key: str, content: Json, finish_reason: str | None) -> Json:
        return {"index": 0, key: content, "logprobs": None, "finish_reason": finish_reason, "stop_reason": None}


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer as its client will see it."""

    format: Format
    id: str
    created: int
    """Unix time, seconds."""
    model: str
    prompt_tokens: int
    output_tokens: int
    finish_reason: str
    """stop or length."""
    include_usage: bool = False
    """Whether a stream tells the usage."""

    def whole(self) -> bytes:
        """Return the body of an answer that is not streamed."""
        choice = self.format.whole(answer_text(self.output_tokens), self.finish_reason)
        return _encode(
            self._head(self.format.whole_object) | {"choices": [choice], "usage": self._usage()},
        )

    def opening(self) -> bytes:
        """Return what a stream sends before its first token, along with it; may be empty."""
        choice = self.format.opening()
        return b"" if choice is None else self._event([choice])

    def words(self) -> list[bytes]:
        """Return the events of the first tokens but the last; later ones are the same over and over."""
        count = min(len(WORDS), self.output_tokens - 1)
        return [self._event([self.format.piece(word, None)]) for word in WORDS[:count]]

    def closing(self) -> bytes:
        """Return the event of the last token and all that follows it."""
        word = WORDS[(self.output_tokens - 1) % len(WORDS)]
        last = self._event([self.format.piece(word, self.finish_reason)])
        usage = self._event([], self._usage()) if self.include_usage else b""
        return last + usage + DONE

    def _event(self, choices: list[Json], usage: Json | None = None) -> bytes:
        chunk = self._head(self.format.chunk_object) | {"choices": choices}
        if self.include_usage:
            chunk["usage"] = usage
        return b"data: " + _encode(chunk) + b"\n\n"

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _usage(self) -> Json:
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + self.output_tokens,
            "completion_tokens": self.output_tokens,
            "prompt_tokens_details": None,
        }


def error_body(message: str, kind: str, status: int, field: str | None = None) -> bytes:
    """Return the body of an error."""
    return _encode({"error": {"message": message, "type": kind, "param": field, "code": status}})


def models_body(names: tuple[str, ...], created: int, context_length_tokens: int) -> bytes:
    """Return the list of models.

    Args:
        names: What clients may ask for; the first is the model's own.
        created: Unix time, seconds.
        context_length_tokens: 0 = not limited.
    """
    cards = [
        {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": "vllm",
            "root": names[0],
            "parent": None,
            "max_model_len": context_length_tokens or None,
        }
        for name in names
    ]
    return _encode({"object": "list", "data": cards})


def _encode(value: Json) -> bytes:
    return msgspec.json.encode(value)
