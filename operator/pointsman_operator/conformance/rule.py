"""What a rule is, and what is known of the picker under test."""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import Message

from pointsman_operator.conformance.conversation import Conversation, Transcript


class Level(enum.StrEnum):
    """How strongly the protocol words a demand."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"


class Section(enum.StrEnum):
    """Where the demand is written."""

    EXT_PROC = "ext_proc"
    STREAMING = "Streaming mode"
    SUBSET = "Endpoint Subset"
    DESTINATION = "Destination Endpoint"
    SERVED = "Destination Endpoint Served"
    HEALTH = "Health Checking"
    PRACTICE = "practice"


SECTION_SOURCES: Mapping[Section, str] = {
    Section.EXT_PROC: "Envoy's external processing protocol, which a picker MUST implement",
    Section.STREAMING: "the protocol's introduction: pickers MUST support streaming of requests and responses",
    Section.SUBSET: "the section of that name",
    Section.DESTINATION: "the section of that name",
    Section.SERVED: "the section of that name",
    Section.HEALTH: "the section of that name",
    Section.PRACTICE: "not in the text: what pickers and gateways in use rely on",
}


class Violation(Exception):  # noqa: N818 - it is a finding about the picker, not an error of ours
    """The picker breaks a rule.

    Args:
        reason: What it did and what was expected.
        message: The message that shows it, if one does.
    """

    def __init__(self, reason: str, message: Message | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.message = message


class NotApplicable(Exception):  # noqa: N818
    """The rule says nothing about this picker, or cannot be checked with what is known; the text says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is known of the picker."""

    model: str
    """A model that it serves."""
    endpoints: tuple[str, ...] = ()
    """Endpoints that it may pick, each "ip:port"."""
    endpoints_are_told: bool = False
    """They are its whole pool, as the user says; else they were learned from its picks."""
    shed_model: str = ""
    """A model whose requests it sheds now; empty = `model`."""
    shed_headers: Mapping[str, str] = field(default_factory=dict)
    """Headers that make it shed a request now."""
    empty_model: str = ""
    """A model that has no ready endpoint now; empty = none is known."""
    timeout_seconds: float = 5.0
    """Longest time that a gateway waits for an answer."""

    @property
    def sheds(self) -> bool:
        """Whether it is known how to make it shed."""
        return bool(self.shed_model or self.shed_headers)

    def some_endpoints(self, count: int) -> tuple[str, ...]:
        """Return the first `count` endpoints. Raises: NotApplicable."""
        if len(self.endpoints) < count:
            known = ", ".join(self.endpoints) or "none"
            raise NotApplicable(f"needs {count} endpoints, known: {known}; name them with --endpoints")
        return self.endpoints[:count]


Conversations = Callable[[Subject], Sequence[Conversation]]
Check = Callable[[Sequence[Transcript], Subject], None]
HealthCheck = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Rule:
    """One demand of the protocol."""

    id: str
    level: Level
    section: Section
    demand: str
    """What the picker does, in one sentence."""
    converse: Conversations
    """The conversations that show it. Raises: NotApplicable."""
    check: Check
    """Judges their transcripts. Raises: Violation, NotApplicable."""
    abreast: bool = False
    """The conversations are held at once, turn by turn; else one after the other until one goes unanswered."""


@dataclass(frozen=True, slots=True)
class HealthRule:
    """One demand on the health service."""

    id: str
    level: Level
    section: Section
    demand: str
    service: str
    """The service asked for."""
    check: HealthCheck
    """Judges the status, or the name of the gRPC code. Raises: Violation."""


AnyRule = Rule | HealthRule
