"""A scripted ext_proc stream as a gateway holds it, and the record of one that was held."""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import grpc

from pointsman.envoy.v3 import external_processor_pb2 as pb


@dataclass(slots=True)
class Transcript:
    """What happened on one stream."""

    lines: list[tuple[bool, str]] = field(default_factory=list)
    """(sent by the gateway, kind of message) in the order of events."""
    answers: list[pb.ProcessingResponse] = field(default_factory=list)
    turn_begins_at: int = 0
    """Number of answers before the current turn."""
    missed: str = ""
    """What did not come in time; empty = everything did."""
    status: grpc.StatusCode | None = None
    """How the picker ended the stream; None = it did not."""
    details: str = ""

    @property
    def answers_in_turn(self) -> Sequence[pb.ProcessingResponse]:
        """Answers since the current turn began."""
        return self.answers[self.turn_begins_at :]

    def sent(self, message: pb.ProcessingRequest) -> None:
        """Record a message of the gateway."""
        self.lines.append((True, message.WhichOneof("request") or "empty message"))

    def take(self, answer: pb.ProcessingResponse) -> None:
        """Record a message of the picker."""
        self.answers.append(answer)
        self.lines.append((False, answer.WhichOneof("response") or "empty message"))

    def describe(self) -> list[str]:
        """Return one line for each message, runs of equal ones together, and one for the end."""
        told: list[list[object]] = []
        for sent, kind in self.lines:
            line = f"{'->' if sent else '<-'} {kind}"
            if told and told[-1][0] == line:
                told[-1][1] = int(str(told[-1][1])) + 1
            else:
                told.append([line, 1])
        lines = [f"{line} x {count}" if count != 1 else str(line) for line, count in told]
        if self.missed:
            lines.append(f"!! {self.missed} did not come")
        if self.status is not None:
            lines.append(f"<- stream ended: {self.status.name} {self.details}".rstrip())
        return lines


@dataclass(frozen=True, slots=True)
class Until:
    """What a gateway waits for before it goes on."""

    what: str
    reached: Callable[[Transcript], bool]


class Ending(enum.Enum):
    """How the gateway leaves once all is said."""

    HALF_CLOSE = "closes its side and listens a moment longer"
    AWAIT_END = "closes its side and waits for the picker to end the stream"
    CANCEL = "cancels the call, as when the client has gone"


@dataclass(frozen=True, slots=True)
class Turn:
    """Messages sent in a row, and what must have come back before the next turn."""

    messages: Sequence[pb.ProcessingRequest]
    until: Until


@dataclass(frozen=True, slots=True)
class Conversation:
    """One stream from its first message to its end."""

    turns: Sequence[Turn]
    ending: Ending = Ending.HALF_CLOSE


def _answered(kind: str, *, in_turn: bool = False) -> Callable[[Transcript], bool]:
    def reached(transcript: Transcript) -> bool:
        answers = transcript.answers_in_turn if in_turn else transcript.answers
        return any(answer.WhichOneof("response") in (kind, "immediate_response") for answer in answers)

    return reached


def _body_ended(leg: str) -> Callable[[Transcript], bool]:
    def reached(transcript: Transcript) -> bool:
        for answer in transcript.answers:
            kind = answer.WhichOneof("response")
            if kind == "immediate_response":
                return True
            if kind == f"{leg}_body" and _is_final(getattr(answer, f"{leg}_body")):
                return _answered(f"{leg}_headers")(transcript)
        return False

    return reached


def _is_final(body: pb.BodyResponse) -> bool:
    """Return whether no more of the body follows; an answer that streams nothing is wrong, but all there is."""
    mutation = body.response.body_mutation
    return mutation.WhichOneof("mutation") != "streamed_response" or mutation.streamed_response.end_of_stream


NOTHING = Until("nothing", lambda _: True)
REQUEST_HEADERS_ANSWERED = Until("an answer to the request's headers", _answered("request_headers"))
REQUEST_BODY_ANSWERED = Until("an answer to the request's body", _answered("request_body"))
REQUEST_ANSWERED = Until("an answer to the headers and all of the body of the request", _body_ended("request"))
REQUEST_TRAILERS_ANSWERED = Until("an answer to the request's trailers", _answered("request_trailers"))
RESPONSE_HEADERS_ANSWERED = Until("an answer to the response's headers", _answered("response_headers"))
RESPONSE_PIECE_ANSWERED = Until("an answer to a piece of the response's body", _answered("response_body", in_turn=True))
RESPONSE_ANSWERED = Until("an answer to the headers and all of the body of the response", _body_ended("response"))
RESPONSE_TRAILERS_ANSWERED = Until("an answer to the response's trailers", _answered("response_trailers"))
