"""The turns that most rules share: a request put to the picker, and the response to it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pointsman.envoy.v3 import external_processor_pb2 as pb
from pointsman_operator.conformance import conversation as until
from pointsman_operator.conformance import messages
from pointsman_operator.conformance.conversation import Conversation, Ending, Transcript, Turn
from pointsman_operator.conformance.rule import Subject

JSON_ANSWER: Final = {":status": "200", "content-type": "application/json"}
STREAMED_ANSWER: Final = {":status": "200", "content-type": "text/event-stream; charset=utf-8"}


def ask(
    subject: Subject,
    body: bytes | None = None,
    *,
    headers: Mapping[str, str | bytes] = messages.CHAT,
    chunk_bytes: int = messages.CHUNK_BYTES,
    metadata: Mapping[str, Any] | None = None,
    mode: str | None = messages.FULL_DUPLEX,
    in_value: bool = False,
) -> Turn:
    """Return a request with a body, streamed, and the wait for its answer."""
    sent = messages.chat_body(subject.model) if body is None else body
    head = messages.request_headers(headers, mode=mode, metadata=metadata, in_value=in_value)
    return Turn((head, *messages.request_chunks(sent, chunk_bytes)), until.REQUEST_ANSWERED)


def ask_without_body(
    headers: Mapping[str, str | bytes] = messages.GET, *, metadata: Mapping[str, Any] | None = None
) -> Turn:
    """Return a request that ends with its headers, and the wait for its answer."""
    head = messages.request_headers(headers, end_of_stream=True, metadata=metadata)
    return Turn((head,), until.REQUEST_HEADERS_ANSWERED)


def just(*turns: Turn, ending: Ending = Ending.HALF_CLOSE) -> Sequence[Conversation]:
    """Return one conversation."""
    return (Conversation(turns, ending),)


def answer_head(headers: Mapping[str, str | bytes], *, served: str = "", end_of_stream: bool = False) -> Turn:
    """Return the head of a response, and the wait for the picker's answer."""
    head = messages.response_headers(headers, served=served, end_of_stream=end_of_stream)
    return Turn((head,), until.RESPONSE_HEADERS_ANSWERED)


def answer_body(body: bytes, chunk_bytes: int = messages.CHUNK_BYTES) -> Turn:
    """Return the body of a response, and the wait until all of it is back."""
    return Turn(tuple(messages.response_chunks(body, chunk_bytes)), until.RESPONSE_ANSWERED)


def served_by(subject: Subject) -> str:
    """Return an endpoint that may have served the request."""
    return subject.endpoints[0] if subject.endpoints else ""


def only(transcripts: Sequence[Transcript]) -> Transcript:
    """Return the transcript of the only conversation."""
    (transcript,) = transcripts
    return transcript


def first_message(turn: Turn) -> pb.ProcessingRequest:
    """Return the message that opens a turn, to be changed before it is sent."""
    return turn.messages[0]
