"""Shows results: a table for people, JSON for programs."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from google.protobuf import text_format
from google.protobuf.message import Message
from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pointsman.envoy.v3 import external_processor_pb2 as pb
from pointsman_operator.conformance.rule import Subject
from pointsman_operator.conformance.running import Outcome, Result

_COLOURS: Final = {
    Outcome.PASSED: "green",
    Outcome.FAILED: "bold red",
    Outcome.WARNING: "yellow",
    Outcome.ABSENT: "dim",
    Outcome.SKIPPED: "dim",
}
_SHOWN_BYTES: Final = 200


def conforms(results: Sequence[Result]) -> bool:
    """Return whether no rule with level MUST is broken."""
    return all(one.outcome is not Outcome.FAILED for one in results)


def table(target: str, results: Sequence[Result]) -> Table:
    """Return one row for each rule."""
    shown = Table(title=f"Endpoint Picker Protocol v1.0: {escape(target)}", title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("Rule", "Level", "Result"):
        shown.add_column(heading, no_wrap=True)
    shown.add_column("Reason", overflow="fold")
    for one in results:
        shown.add_row(one.rule.id, one.rule.level, Text(one.outcome, style=_COLOURS[one.outcome]), escape(one.reason))
    return shown


def details(results: Sequence[Result]) -> RenderableType:
    """Return conversation and message of each broken rule."""
    parts: list[RenderableType] = []
    for one in results:
        if one.outcome in (Outcome.FAILED, Outcome.WARNING):
            parts += [
                Text(f"{one.rule.id}: {one.rule.demand}", style="bold"),
                Text(f"  {one.reason}", style=_COLOURS[one.outcome]),
                *(Text(f"  {line}") for line in (*one.conversation, *in_text(one.message).splitlines())),
                Text(),
            ]
    return Group(*parts)


def summary(results: Sequence[Result]) -> str:
    """Return how many rules ended how."""
    counts = Counter(one.outcome for one in results)
    told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome])
    return f"{'conforms' if conforms(results) else 'does not conform'}: {told or 'no rules'}"


def as_json(target: str, subject: Subject, results: Sequence[Result]) -> dict[str, Any]:
    """Return everything as JSON values."""
    return {
        "protocol": "Endpoint Picker Protocol v1.0",
        "target": target,
        "model": subject.model,
        "endpoints": list(subject.endpoints),
        "conforms": conforms(results),
        "rules": [
            {
                "id": one.rule.id,
                "level": one.rule.level,
                "section": one.rule.section,
                "demand": one.rule.demand,
                "result": one.outcome,
                "reason": one.reason,
                "conversation": list(one.conversation),
                "message": in_text(one.message),
                "seconds": round(one.seconds, 4),
            }
            for one in results
        ],
    }


def in_text(message: Message | None) -> str:
    """Return a message in protobuf's text form, long bodies cut."""
    if message is None:
        return ""
    shown = type(message)()
    shown.CopyFrom(message)
    if isinstance(shown, pb.ProcessingResponse):
        _cut_bodies(shown)
    return text_format.MessageToString(shown, as_utf8=True).strip()


def _cut_bodies(answer: pb.ProcessingResponse) -> None:
    parts: list[Any] = []
    kind = answer.WhichOneof("response")
    if kind == "immediate_response":
        parts = [answer.immediate_response]
    elif kind in ("request_body", "response_body"):
        mutation = getattr(answer, kind).response.body_mutation
        which = mutation.WhichOneof("mutation")
        parts = [mutation.streamed_response] if which == "streamed_response" else [mutation] if which == "body" else []
    for part in parts:
        if len(part.body) > _SHOWN_BYTES:
            part.body = part.body[:_SHOWN_BYTES] + b"... (%d bytes)" % len(part.body)
