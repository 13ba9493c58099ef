"""Requests that a picker cannot read or serve: an error for the client, never a broken stream."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pointsman_operator.conformance import answers, messages, names
from pointsman_operator.conformance.conversation import Conversation, Transcript
from pointsman_operator.conformance.rule import (
    AnyRule,
    Level,
    NotApplicable,
    Rule,
    Section,
    Subject,
    Violation,
)
from pointsman_operator.conformance.rules.asking import ask, just, only

UNREADABLE: Final[Mapping[str, bytes]] = {
    "a body that is not JSON": b'{"model": "m", "messages": [',
    "an empty body": b"",
    "a body without a model": b'{"messages": []}',
    "a JSON list": b'["model", "m"]',
    "a model that is a number": b'{"model": 7, "messages": []}',
    "bytes that are no UTF-8": b'{"model": "\xff\xfe"}',
    "brackets nested 10,000 deep": b"[" * 10_000,
}


def _ask_unreadably(subject: Subject) -> Sequence[Conversation]:
    return [conversation for body in UNREADABLE.values() for conversation in just(ask(subject, body))]


def _each_answered(transcripts: Sequence[Transcript], _: Subject) -> None:
    for what, transcript in zip(UNREADABLE, transcripts, strict=False):
        answers.picked_or_refused(transcript, what)


def _blames_client(what: Callable[[int], str]) -> Callable[[Sequence[Transcript], Subject], None]:
    def check(transcripts: Sequence[Transcript], _: Subject) -> None:
        for index, transcript in enumerate(transcripts):
            answer = answers.refusal(transcript)
            if answer is not None and not 400 <= answer.immediate_response.status.code < 500:
                raise Violation(f"{what(index)}: expected status 4xx, got {answers.describe_refusal(answer)}", answer)

    return check


def _ask_unknown_model(subject: Subject) -> Sequence[Conversation]:
    return just(ask(subject, messages.chat_body("no-such-model-conformance")))


def _ask_strangers(subject: Subject) -> Sequence[Conversation]:
    body = messages.chat_body(subject.model, messages.long_text())
    return just(ask(subject, body, metadata=messages.subset_hint([names.STRANGER])))


def _refused(transcripts: Sequence[Transcript]) -> Transcript:
    transcript = only(transcripts)
    if answers.refusal(transcript) is None:
        raise NotApplicable("nothing was refused; see subset-of-strangers-503")
    return transcript


def _is_last(transcripts: Sequence[Transcript], _: Subject) -> None:
    told = answers.kinds(_refused(transcripts))
    after = told[told.index("immediate_response") + 1 :]
    if after:
        raise Violation(f"after the ImmediateResponse came {', '.join(dict.fromkeys(after))}")


def _is_alone(transcripts: Sequence[Transcript], _: Subject) -> None:
    transcript = _refused(transcripts)
    pick = answers.find_pick(transcript)
    if pick is not None:
        raise Violation(f"the request is refused, and sent to {pick.value}", pick.message)


RULES: Final[tuple[AnyRule, ...]] = (
    Rule(
        "unreadable-answered",
        Level.MUST,
        Section.DESTINATION,
        "A request that cannot be read (no JSON, empty, no model, no UTF-8, nested deeply) gets a pick or an error.",
        _ask_unreadably,
        _each_answered,
    ),
    Rule(
        "unreadable-4xx",
        Level.SHOULD,
        Section.PRACTICE,
        "If such a request is refused, the status blames the client (400), not the server.",
        _ask_unreadably,
        _blames_client(lambda index: list(UNREADABLE)[index]),
    ),
    Rule(
        "unknown-model-4xx",
        Level.SHOULD,
        Section.PRACTICE,
        "If a model that nobody serves is refused, the status blames the client (404).",
        _ask_unknown_model,
        _blames_client(lambda _: "an unknown model"),
    ),
    Rule(
        "refusal-last",
        Level.MUST,
        Section.EXT_PROC,
        "Nothing follows an ImmediateResponse.",
        _ask_strangers,
        _is_last,
    ),
    Rule(
        "refusal-alone",
        Level.MUST,
        Section.DESTINATION,
        "A request is either sent somewhere or refused, not both.",
        _ask_strangers,
        _is_alone,
    ),
)
