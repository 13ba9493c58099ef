"""Streams as gateways really open them: many at once, broken off, with fields and names of another time."""

from collections.abc import Sequence
from typing import Final

import grpc

from pointsman.envoy.v3 import external_processor_pb2 as pb
from pointsman_operator.conformance import answers, messages
from pointsman_operator.conformance import conversation as until
from pointsman_operator.conformance.conversation import Conversation, Ending, Transcript, Turn
from pointsman_operator.conformance.rule import AnyRule, Level, Rule, Section, Subject, Violation
from pointsman_operator.conformance.rules.asking import (
    JSON_ANSWER,
    answer_head,
    ask,
    first_message,
    just,
    only,
)

_STREAMS: Final = 16
_ABANDONED_AT_EACH_POINT: Final = 3


def _numbered(subject: Subject, number: int) -> bytes:
    return messages.chat_body(subject.model, f"Train {number:02}?")


def _interleave(subject: Subject) -> Sequence[Conversation]:
    found = []
    for number in range(_STREAMS):
        body = _numbered(subject, number)
        half = len(body) // 2
        turns = (
            Turn((messages.request_headers(),), until.NOTHING),
            Turn((messages.request_body(body[:half], end_of_stream=False),), until.NOTHING),
            Turn((messages.request_body(body[half:]),), until.REQUEST_ANSWERED),
        )
        found.append(Conversation(turns))
    return found


def _each_has_its_own(transcripts: Sequence[Transcript], subject: Subject) -> None:
    for number, transcript in enumerate(transcripts):
        answers.picked(transcript)
        what = f"the request of stream {number + 1} of {len(transcripts)}"
        answers.same_body(_numbered(subject, number), answers.streamed(transcript, "request"), what)


def _stall(subject: Subject) -> Sequence[Conversation]:
    """Begin one request, make another in full, then end the first."""
    slow, quick = _numbered(subject, 0), _numbered(subject, 1)
    begun = (messages.request_headers(), messages.request_body(slow[:20], end_of_stream=False))
    ended = (messages.request_body(slow[20:]),)
    return (
        Conversation((Turn(begun, until.NOTHING), Turn((), until.NOTHING), Turn(ended, until.REQUEST_ANSWERED))),
        Conversation((Turn((), until.NOTHING), ask(subject, quick))),
    )


def _open_and_leave(_: Subject) -> Sequence[Conversation]:
    return just(ending=Ending.AWAIT_END)


def _ends_quietly(transcripts: Sequence[Transcript], _: Subject) -> None:
    transcript = only(transcripts)
    if transcript.answers:
        raise Violation("the picker answers a stream that said nothing", transcript.answers[0])
    if transcript.status is None:
        raise Violation("the picker keeps the stream open after the gateway has closed it")
    if transcript.status is not grpc.StatusCode.OK:
        raise Violation(f"expected status OK, {answers.describe_end(transcript)}")


def _abandon(subject: Subject) -> Sequence[Conversation]:
    asked = ask(subject)
    head = Turn(asked.messages[:1], until.NOTHING)
    points = ((head,), (asked,), (asked, answer_head(JSON_ANSWER)))
    left = [Conversation(turns, Ending.CANCEL) for turns in points for _ in range(_ABANDONED_AT_EACH_POINT)]
    return (*left, *just(ask(subject)))


def _is_still_picking(transcripts: Sequence[Transcript], _: Subject) -> None:
    answers.picked(transcripts[-1])


def _send_body_first(subject: Subject) -> Sequence[Conversation]:
    body = messages.request_body(messages.chat_body(subject.model))
    return just(Turn((body,), until.NOTHING), ending=Ending.AWAIT_END)


def _does_not_pick(transcripts: Sequence[Transcript], _: Subject) -> None:
    transcript = only(transcripts)
    pick = answers.find_pick(transcript)
    if pick is not None:
        raise Violation(f"it picked {pick.value} for a request whose headers never came", pick.message)
    if transcript.status is None and answers.refusal(transcript) is None:
        raise Violation("the picker neither ends the stream nor answers, so the gateway would wait")


def _ask_with_unknown_fields(subject: Subject) -> Sequence[Conversation]:
    head, *rest = ask(subject).messages
    inner = head.request_headers.SerializeToString() + messages.UNKNOWN_FIELD
    head.request_headers.CopyFrom(pb.HttpHeaders.FromString(inner))
    strange = [
        pb.ProcessingRequest.FromString(one.SerializeToString() + messages.UNKNOWN_FIELD) for one in (head, *rest)
    ]
    return just(Turn(strange, until.REQUEST_ANSWERED))


def _ask_with_metadata(subject: Subject) -> Sequence[Conversation]:
    metadata = {"envoy.filters.http.jwt_authn": {"payload": {"sub": "a", "roles": ["x", None, 7.5, True]}}, "empty": {}}
    turn = ask(subject, metadata=metadata)
    head = first_message(turn)
    head.attributes["envoy.filters.http.ext_proc"].update({"request.path": "/v1/chat/completions", "n": 1})
    return just(turn)


def _ask_without_headers(subject: Subject) -> Sequence[Conversation]:
    return just(ask(subject, headers={}))


def _ask_in_value(subject: Subject) -> Sequence[Conversation]:
    return just(ask(subject, in_value=True))


def _ask_in_capitals(subject: Subject) -> Sequence[Conversation]:
    return just(ask(subject, headers={name.title(): value for name, value in messages.CHAT.items()}))


def _ask_with_bytes(subject: Subject) -> Sequence[Conversation]:
    return just(ask(subject, headers={**messages.CHAT, "x-note": b"\xe9\xff\xfe", "x-empty": ""}))


def _is_picked(transcripts: Sequence[Transcript], _: Subject) -> None:
    answers.picked(only(transcripts))


def _is_answered(transcripts: Sequence[Transcript], _: Subject) -> None:
    answers.picked_or_refused(only(transcripts), "a request without headers")


RULES: Final[tuple[AnyRule, ...]] = (
    Rule(
        "streams-interleaved",
        Level.MUST,
        Section.EXT_PROC,
        f"{_STREAMS} streams whose messages alternate on one connection each get their own answer.",
        _interleave,
        _each_has_its_own,
        abreast=True,
    ),
    Rule(
        "stream-stalled",
        Level.MUST,
        Section.EXT_PROC,
        "A request that stops in its body holds up no other, and is answered when it goes on.",
        _stall,
        _each_has_its_own,
        abreast=True,
    ),
    Rule(
        "streams-abandoned",
        Level.MUST,
        Section.DESTINATION,
        "After streams that were cancelled before the body, after the pick and in the response, picks go on.",
        _abandon,
        _is_still_picking,
    ),
    Rule(
        "stream-without-messages",
        Level.SHOULD,
        Section.PRACTICE,
        "A stream that is closed before it said anything ends with status OK.",
        _open_and_leave,
        _ends_quietly,
    ),
    Rule(
        "body-before-headers",
        Level.SHOULD,
        Section.PRACTICE,
        "A body before its headers ends the stream or is refused; it is not picked for, and does not hang.",
        _send_body_first,
        _does_not_pick,
    ),
    Rule(
        "unknown-fields",
        Level.MUST,
        Section.EXT_PROC,
        "Fields that a later version of the messages has are passed over.",
        _ask_with_unknown_fields,
        _is_picked,
    ),
    Rule(
        "unknown-metadata",
        Level.MUST,
        Section.EXT_PROC,
        "Attributes, and metadata of other namespaces, do no harm.",
        _ask_with_metadata,
        _is_picked,
    ),
    Rule(
        "headers-none",
        Level.MUST,
        Section.DESTINATION,
        "An empty header map is answered with a pick or an error.",
        _ask_without_headers,
        _is_answered,
    ),
    Rule(
        "headers-in-value",
        Level.MUST,
        Section.EXT_PROC,
        "Headers in the field `value` count like those in `raw_value`.",
        _ask_in_value,
        _is_picked,
    ),
    Rule(
        "headers-as-bytes",
        Level.MUST,
        Section.EXT_PROC,
        "Header values that are empty or no UTF-8 do no harm.",
        _ask_with_bytes,
        _is_picked,
    ),
    Rule(
        "headers-in-capitals",
        Level.SHOULD,
        Section.PRACTICE,
        "The case of header names does not matter.",
        _ask_in_capitals,
        _is_picked,
    ),
)
