"""The response leg in FULL_DUPLEX_STREAMED mode: who served, and an answer that passes unharmed and at once."""

import gzip
from collections.abc import Callable, Sequence
from typing import Final

from pointsman_operator.conformance import answers, messages, names
from pointsman_operator.conformance import conversation as until
from pointsman_operator.conformance.conversation import Conversation, Transcript, Turn
from pointsman_operator.conformance.rule import AnyRule, Check, Conversations, Level, Rule, Section, Subject, Violation
from pointsman_operator.conformance.rules.asking import (
    JSON_ANSWER,
    STREAMED_ANSWER,
    answer_body,
    answer_head,
    ask,
    just,
    only,
    served_by,
)

_EVENTS: Final = 20
_SPLIT_EVENTS: Final = 8
_ODD_BYTES: Final = 7
"""Pieces of this size split events, and characters in them."""


def _event_stream() -> bytes:
    return b"".join(messages.events(_SPLIT_EVENTS))


def _large() -> bytes:
    return messages.completion()[:-1] + b', "padding": "' + b"x" * messages.LARGE_BODY_BYTES + b'"}'


def _compressed() -> bytes:
    return gzip.compress(messages.completion(), mtime=0)


def _upstream_error() -> bytes:
    return b'{"error": {"message": "the engine is restarting", "code": 503}}'


def _respond(*turns: Turn) -> Conversations:
    return lambda subject: just(ask(subject), *turns)


def _keeps(body: Callable[[], bytes], what: str) -> Check:
    def check(transcripts: Sequence[Transcript], _: Subject) -> None:
        transcript = only(transcripts)
        answers.stayed(transcript)
        answers.same_body(body(), answers.streamed(transcript, "response"), what)

    return check


def _answers(kind: str, what: str) -> Check:
    def check(transcripts: Sequence[Transcript], _: Subject) -> None:
        transcript = only(transcripts)
        answers.stayed(transcript)
        if not answers.of_kind(transcript, kind):
            raise Violation(f"expected an answer to {what}, {answers.describe_end(transcript)}")

    return check


def _respond_served(subject: Subject) -> Sequence[Conversation]:
    head = answer_head(JSON_ANSWER, served=served_by(subject) or names.STRANGER)
    return just(ask(subject), head, answer_body(messages.completion()))


def _respond_served_by_stranger(subject: Subject) -> Sequence[Conversation]:
    return just(ask(subject), answer_head(JSON_ANSWER, served=names.STRANGER), answer_body(messages.completion()))


def _shows_served(transcripts: Sequence[Transcript], subject: Subject) -> None:
    transcript = only(transcripts)
    answers.stayed(transcript)
    served = served_by(subject) or names.STRANGER
    for answer in answers.of_kind(transcript, "response_headers"):
        option = answers.set_header(answers.common(answer).header_mutation, names.TEST_SERVED)
        if option is None or answers.header_text(option) != served:
            shown = "nothing" if option is None else repr(answers.header_text(option))
            raise Violation(f"{names.TEST_SERVED} is set to {shown}, not to {served}", answer)


def _respond_event_by_event(subject: Subject) -> Sequence[Conversation]:
    *events, last = messages.events(_EVENTS)
    turns = [Turn((messages.response_body(one, end_of_stream=False),), until.RESPONSE_PIECE_ANSWERED) for one in events]
    return just(ask(subject), answer_head(STREAMED_ANSWER), *turns, answer_body(last))


def _is_at_once(transcripts: Sequence[Transcript], _: Subject) -> None:
    transcript = only(transcripts)
    answers.stayed(transcript)
    if transcript.missed:
        returned = len(answers.pieces_of(transcript, "response"))
        raise Violation(f"{returned} of {_EVENTS} events came back at once; {answers.describe_end(transcript)}")


def _is_in_order(transcripts: Sequence[Transcript], _: Subject) -> None:
    transcript = only(transcripts)
    answers.stayed(transcript)
    answers.in_order(transcript, "response")


def _ends_once(transcripts: Sequence[Transcript], _: Subject) -> None:
    transcript = only(transcripts)
    answers.stayed(transcript)
    answers.ended_once(transcript, "response")


def _respond_with_trailers(subject: Subject) -> Sequence[Conversation]:
    body = messages.response_body(messages.completion(), end_of_stream=False)
    turn = Turn((body, messages.response_trailers()), until.RESPONSE_TRAILERS_ANSWERED)
    return just(ask(subject), answer_head(JSON_ANSWER), turn)


RULES: Final[tuple[AnyRule, ...]] = (
    Rule(
        "response-headers",
        Level.MUST,
        Section.EXT_PROC,
        "The response's headers are answered, before any of its body is sent.",
        _respond(answer_head(JSON_ANSWER), answer_body(messages.completion())),
        _answers("response_headers", "the response's headers"),
    ),
    Rule(
        "served-taken",
        Level.MUST,
        Section.SERVED,
        "`x-gateway-destination-endpoint-served` in the metadata `envoy.lb` is taken, and the response goes on.",
        _respond_served,
        _answers("response_headers", "response headers with the served endpoint"),
    ),
    Rule(
        "served-by-stranger",
        Level.SHOULD,
        Section.PRACTICE,
        "A served endpoint that was never picked (the pool changed, the gateway chose) does no harm.",
        _respond_served_by_stranger,
        _keeps(messages.completion, "the response"),
    ),
    Rule(
        "served-shown",
        Level.MAY,
        Section.PRACTICE,
        "The served endpoint is shown to the client in `x-conformance-test-served-endpoint`, for tests of gateways.",
        _respond_served,
        _shows_served,
    ),
    Rule(
        "response-order",
        Level.MUST,
        Section.EXT_PROC,
        "Answers come in the order headers, body; headers are answered once.",
        _respond(answer_head(JSON_ANSWER), answer_body(messages.completion(), _ODD_BYTES)),
        _is_in_order,
    ),
    Rule(
        "response-body",
        Level.MUST,
        Section.STREAMING,
        "A JSON response comes back; it may be held until its end.",
        _respond(answer_head(JSON_ANSWER), answer_body(messages.completion(), _ODD_BYTES)),
        _keeps(messages.completion, "the response"),
    ),
    Rule(
        "response-end",
        Level.MUST,
        Section.EXT_PROC,
        "The last piece of the response that comes back, and only it, has `end_of_stream`.",
        _respond(answer_head(STREAMED_ANSWER), answer_body(_event_stream(), 100)),
        _ends_once,
    ),
    Rule(
        "response-large",
        Level.MUST,
        Section.STREAMING,
        "A response of 1 MiB comes back whole.",
        _respond(answer_head(JSON_ANSWER), answer_body(_large())),
        _keeps(_large, "the response"),
    ),
    Rule(
        "response-events",
        Level.MUST,
        Section.STREAMING,
        "Server-sent events split anywhere come back whole.",
        _respond(answer_head(STREAMED_ANSWER), answer_body(_event_stream(), _ODD_BYTES)),
        _keeps(_event_stream, "the event stream"),
    ),
    Rule(
        "response-events-at-once",
        Level.MUST,
        Section.STREAMING,
        "Every event comes back before the next one is sent: tokens reach clients as they are made.",
        _respond_event_by_event,
        _is_at_once,
    ),
    Rule(
        "response-compressed",
        Level.MUST,
        Section.STREAMING,
        "A compressed response comes back as it is.",
        _respond(answer_head({**JSON_ANSWER, "content-encoding": "gzip"}), answer_body(_compressed())),
        _keeps(_compressed, "the compressed response"),
    ),
    Rule(
        "response-error",
        Level.MUST,
        Section.STREAMING,
        "An error of the model server comes back as it is.",
        _respond(answer_head({**JSON_ANSWER, ":status": "503"}), answer_body(_upstream_error())),
        _keeps(_upstream_error, "the error"),
    ),
    Rule(
        "response-without-body",
        Level.MUST,
        Section.EXT_PROC,
        "A response that ends with its headers is answered.",
        _respond(answer_head({":status": "204"}, end_of_stream=True)),
        _answers("response_headers", "a response without a body"),
    ),
    Rule(
        "response-trailers",
        Level.MUST,
        Section.EXT_PROC,
        "The response's trailers are answered.",
        _respond_with_trailers,
        _answers("response_trailers", "the response's trailers"),
    ),
)
