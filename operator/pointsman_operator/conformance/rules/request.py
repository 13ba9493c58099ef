"""The request leg in FULL_DUPLEX_STREAMED mode, and what other modes there are."""

from collections.abc import Callable, Sequence
from typing import Final

from pointsman_operator.conformance import answers, messages
from pointsman_operator.conformance import conversation as until
from pointsman_operator.conformance.conversation import Conversation, Transcript, Turn
from pointsman_operator.conformance.rule import (
    AnyRule,
    Check,
    Conversations,
    Level,
    Rule,
    Section,
    Subject,
    Violation,
)
from pointsman_operator.conformance.rules.asking import ask, just, only

LARGEST_PIECE_BYTES: Final = 64 << 10

Body = Callable[[Subject], bytes]


def _plain(subject: Subject) -> bytes:
    return messages.chat_body(subject.model)


def _accented(subject: Subject) -> bytes:
    return messages.chat_body(subject.model, "Größe, 線路 und 🚂?")


def _large(subject: Subject) -> bytes:
    return messages.large_body(subject.model)


def _long(subject: Subject) -> bytes:
    return messages.chat_body(subject.model, messages.long_text())


def _spaced(subject: Subject) -> bytes:
    """Return JSON that no encoder would write so: order, spaces, escapes, numbers."""
    text = r'"messages" : [ {"role":"user",  "content":"caf\u00e9 \/ bar"} ]'
    return messages.chat_body(subject.model)[:-1] + f',\n\t"temperature" : 0.10, "seed":1e2 , {text} }}\n'.encode()


def _ask(body: Body, chunk_bytes: int = messages.CHUNK_BYTES) -> Conversations:
    return lambda subject: just(ask(subject, body(subject), chunk_bytes=chunk_bytes))


def _keeps(body: Body, what: str) -> Check:
    def check(transcripts: Sequence[Transcript], subject: Subject) -> None:
        transcript = only(transcripts)
        answers.picked(transcript)
        answers.same_body(body(subject), answers.streamed(transcript, "request"), what)

    return check


def _keeps_bytes(transcripts: Sequence[Transcript], subject: Subject) -> None:
    transcript = only(transcripts)
    answers.picked(transcript)
    answers.same_bytes(_spaced(subject), answers.streamed(transcript, "request"), "the request")


def _is_in_order(transcripts: Sequence[Transcript], _: Subject) -> None:
    transcript = only(transcripts)
    answers.picked(transcript)
    answers.in_order(transcript, "request")
    for answer in transcript.answers:
        kind = answer.WhichOneof("response") or "an answer without content"
        if not kind.startswith("request"):
            raise Violation(f"{kind} came for a request that was not answered yet", answer)


def _ends_once(transcripts: Sequence[Transcript], _: Subject) -> None:
    transcript = only(transcripts)
    answers.picked(transcript)
    answers.ended_once(transcript, "request")


def _pieces_fit(transcripts: Sequence[Transcript], _: Subject) -> None:
    for piece in answers.pieces_of(only(transcripts), "request"):
        if len(piece.body) > LARGEST_PIECE_BYTES:
            raise Violation(f"a piece has {len(piece.body)} bytes, more than {LARGEST_PIECE_BYTES}")


def _tells_length(transcripts: Sequence[Transcript], _: Subject) -> None:
    transcript = only(transcripts)
    pick = answers.picked(transcript)
    option = answers.set_header(answers.common(pick.message).header_mutation, "content-length")
    if option is None:
        return
    length = len(answers.streamed(transcript, "request"))
    if answers.header_text(option) != str(length):
        raise Violation(
            f"content-length is set to {answers.header_text(option)}, the body has {length} bytes", pick.message
        )


def _ask_with_empty_last_chunk(subject: Subject) -> Sequence[Conversation]:
    head, body = ask(subject).messages
    body.request_body.end_of_stream = False
    return just(Turn((head, body, messages.request_body(b"")), until.REQUEST_ANSWERED))


def _survives_empty_last_chunk(transcripts: Sequence[Transcript], subject: Subject) -> None:
    transcript = only(transcripts)
    answers.picked(transcript)
    answers.same_body(_plain(subject), answers.streamed(transcript, "request"), "the request")


def _ask_with_trailers(subject: Subject) -> Sequence[Conversation]:
    head, body = ask(subject).messages
    body.request_body.end_of_stream = False
    return just(Turn((head, body, messages.request_trailers()), until.REQUEST_TRAILERS_ANSWERED))


def _answers_trailers(transcripts: Sequence[Transcript], subject: Subject) -> None:
    transcript = only(transcripts)
    answers.picked(transcript)
    if not answers.of_kind(transcript, "request_trailers"):
        raise Violation(f"expected an answer to the request's trailers, {answers.describe_end(transcript)}")
    answers.same_body(_plain(subject), answers.streamed(transcript, "request"), "the request before its trailers")


def _ask_untold(subject: Subject) -> Sequence[Conversation]:
    return just(ask(subject, mode=None))


def _ask_buffered(subject: Subject) -> Sequence[Conversation]:
    head, body = ask(subject, mode=messages.BUFFERED).messages
    return just(Turn((head,), until.REQUEST_HEADERS_ANSWERED), Turn((body,), until.REQUEST_BODY_ANSWERED))


def _picks_buffered(transcripts: Sequence[Transcript], _: Subject) -> None:
    transcript = only(transcripts)
    answers.picked(transcript)
    if not answers.of_kind(transcript, "request_body") and not answers.refusal(transcript):
        raise Violation(f"expected an answer to the buffered body, {answers.describe_end(transcript)}")
    if answers.pieces_of(transcript, "request"):
        raise Violation("the buffered body is answered with a streamed_response", transcript.answers[-1])


RULES: Final[tuple[AnyRule, ...]] = (
    Rule(
        "request-order",
        Level.MUST,
        Section.EXT_PROC,
        "Answers come in the order headers, body; headers are answered once.",
        _ask(_plain),
        _is_in_order,
    ),
    Rule(
        "request-body",
        Level.MUST,
        Section.STREAMING,
        "The body comes back in `streamed_response`; it may be written anew and name another model, no more.",
        _ask(_plain),
        _keeps(_plain, "the request"),
    ),
    Rule(
        "request-end",
        Level.MUST,
        Section.EXT_PROC,
        "The last piece of the body that comes back, and only it, has `end_of_stream`.",
        _ask(_long),
        _ends_once,
    ),
    Rule(
        "request-in-bytes",
        Level.MUST,
        Section.STREAMING,
        "A body that arrives byte by byte, characters split, comes back whole.",
        _ask(_accented, 1),
        _keeps(_accented, "the request"),
    ),
    Rule(
        "request-large",
        Level.MUST,
        Section.STREAMING,
        "A body of 1 MiB in pieces of 64 KiB comes back whole.",
        _ask(_large),
        _keeps(_large, "the request"),
    ),
    Rule(
        "request-piece-size",
        Level.SHOULD,
        Section.PRACTICE,
        "No piece that comes back has more than 64 KiB: Envoy's limit for one.",
        _ask(_long),
        _pieces_fit,
    ),
    Rule(
        "request-bytes",
        Level.SHOULD,
        Section.PRACTICE,
        "The body comes back byte for byte but for the model's name: an encoder loses escapes, order, numbers.",
        _ask(_spaced),
        _keeps_bytes,
    ),
    Rule(
        "request-length",
        Level.MUST,
        Section.EXT_PROC,
        "If `content-length` is set, it is the length of the body that comes back.",
        _ask(_spaced),
        _tells_length,
    ),
    Rule(
        "request-empty-last-chunk",
        Level.MUST,
        Section.EXT_PROC,
        "A body whose end comes as an empty piece of its own is answered in full.",
        _ask_with_empty_last_chunk,
        _survives_empty_last_chunk,
    ),
    Rule(
        "request-trailers",
        Level.MUST,
        Section.EXT_PROC,
        "Trailers end the body and are answered; a gateway waits for that.",
        _ask_with_trailers,
        _answers_trailers,
    ),
    Rule(
        "mode-untold",
        Level.SHOULD,
        Section.PRACTICE,
        "A gateway that does not tell its mode (`protocol_config`) streams in full duplex.",
        _ask_untold,
        _keeps(_plain, "the request"),
    ),
    Rule(
        "mode-buffered",
        Level.MAY,
        Section.EXT_PROC,
        "Gateways that send bodies whole (BUFFERED) are served too: each message has one answer.",
        _ask_buffered,
        _picks_buffered,
    ),
)
