"""Counts the tokens of an answer as it streams past, without holding it up or keeping its text."""

from typing import Final

import msgspec

_EVENT_PREFIX = b"data:"
_DONE = b"[DONE]"
_LINE_LIMIT = 1 << 20
_BODY_LIMIT = 8 << 20


class Usage(msgspec.Struct, frozen=True):
    """Token counts as a server states them; None = not stated."""

    completion_tokens: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    """The name that the Responses API has for completion tokens."""
    input_tokens: int | None = None

    @property
    def answer_tokens(self) -> int | None:
        """Tokens generated."""
        return _count(self.completion_tokens if self.completion_tokens is not None else self.output_tokens)

    @property
    def question_tokens(self) -> int | None:
        """Tokens in the prompt."""
        return _count(self.prompt_tokens if self.prompt_tokens is not None else self.input_tokens)


class _Payload(msgspec.Struct):
    usage: Usage | None = None
    choices: list[msgspec.Raw] | None = None
    response: "_Payload | None" = None


_USAGE: Final[msgspec.json.Decoder[Usage | None]] = msgspec.json.Decoder(Usage | None)
_PAYLOAD: Final = msgspec.json.Decoder(_Payload)


def read_usage(text: str | bytes) -> Usage | None:
    """Return the usage object in a JSON text; None if it is null or makes no sense."""
    try:
        return _USAGE.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return None


def count_tokens(usage: Usage | None, events: int, *, done: bool, usage_events: int) -> int:
    """Return the tokens of a streamed answer: as stated, else one for each event that carried text.

    Args:
        usage: The last usage seen.
        events: Data events so far, the usage event and ``[DONE]`` included.
        done: Whether ``[DONE]`` came.
        usage_events: Events that carried usage and no text.
    """
    stated = usage.answer_tokens if usage else None
    return stated if stated is not None else max(events - done - usage_events, 0)


class AnswerReader:
    """Reads one answer: server-sent events or a JSON body, split anywhere."""

    def __init__(self) -> None:
        self.streaming = False
        self.first_event_at: float | None = None
        """On the clock of `read`."""
        self._readable = False
        self._usage: Usage | None = None
        self._events = self._usage_events = 0
        self._done = False
        self._pending = b""
        self._body: list[bytes] = []
        self._body_length = 0

    def begin(self, content_type: str, content_encoding: str) -> None:
        """Take the answer's headers; compressed answers are not read."""
        self._readable = content_encoding.lower() in ("", "identity")
        self.streaming = "text/event-stream" in content_type.lower()

    def read(self, chunk: bytes, now: float) -> None:
        """Take the next bytes of the body, which arrived at `now`."""
        if not self._readable:
            return
        if not self.streaming:
            self._body_length += len(chunk)
            if self._body_length <= _BODY_LIMIT:
                self._body.append(chunk)
            return
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        if len(self._pending) > _LINE_LIMIT:
            self._pending = self._pending[: len(_EVENT_PREFIX)]
        for line in lines:
            if line.startswith(_EVENT_PREFIX):
                self._event(line[len(_EVENT_PREFIX) :].strip(), now)

    def end(self) -> None:
        """Take the end of the body."""
        if self.streaming and self._pending:
            self.read(b"\n", self.first_event_at or 0.0)
        if self._body and self._body_length <= _BODY_LIMIT:
            self._take_usage(b"".join(self._body))
            self._body.clear()

    @property
    def output_tokens(self) -> int | None:
        """Tokens so far; None if that cannot be told."""
        if self.streaming and self._readable:
            return count_tokens(self._usage, self._events, done=self._done, usage_events=self._usage_events)
        return self._usage.answer_tokens if self._usage else None

    @property
    def prompt_tokens(self) -> int | None:
        """Tokens in the prompt; None if the server did not say."""
        return self._usage.question_tokens if self._usage else None

    def _event(self, payload: bytes, now: float) -> None:
        if self.first_event_at is None:
            self.first_event_at = now
        self._events += 1
        if payload == _DONE:
            self._done = True
        elif b'"usage"' in payload and self._take_usage(payload):
            self._usage_events += 1

    def _take_usage(self, payload: bytes) -> bool:
        """Keep the payload's usage; return whether it had usage and no text."""
        try:
            read = _PAYLOAD.decode(payload)
        except (msgspec.DecodeError, UnicodeError):
            return False
        usage = read.usage or (read.response.usage if read.response else None)
        self._usage = usage or self._usage
        return usage is not None and not read.choices


def _count(value: int | None) -> int | None:
    return value if value is not None and value >= 0 else None
