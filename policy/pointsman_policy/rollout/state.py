"""Where a policy's rollout stands: a JSON document, so that it goes on where it was when its service starts anew."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from pointsman_policy.documents import Document
from pointsman_policy.errors import PointsmanError

LONGEST_HISTORY = 10

Percent = Annotated[int, Field(ge=0, le=100)]
Seconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class RolloutError(PointsmanError):
    """A version cannot be promoted or rolled back as it was asked for; the message says why and what to do."""


class Stage(StrEnum):
    """How far a version has come."""

    REJECTED = "Rejected"
    """It did not pass the gate."""
    WAITING = "Waiting"
    """It passed the gate and waits for a promotion."""
    SHADOW = "Shadow"
    CANARY = "Canary"
    ACTIVE = "Active"
    RETIRED = "Retired"
    """It was active or a candidate until another one came."""
    ROLLED_BACK = "RolledBack"


class RolloutSettings(Document):
    """What a RouterPolicy says of its rollout."""

    manual: bool = False
    """Each stage waits for a promotion."""
    shadow_minutes: Annotated[int, Field(ge=0)] = 30
    """0 = there is no shadow."""
    canary_percents: tuple[Annotated[int, Field(ge=1, le=100)], ...] = (5, 25, 50)
    """Rising; empty = there is no canary."""
    canary_minutes: Annotated[int, Field(ge=0)] = 10
    """Of each step, at least."""
    canary_requests: Annotated[int, Field(ge=1)] = 300
    """Of each step, at least."""
    maximum_slo_regression_percent: Annotated[float, Field(ge=0.0, le=100.0)] = 1.0
    """Percentage points of SLO attainment and of QoS."""

    @property
    def margin(self) -> float:
        """How much worse a canary may be, 0 to 1."""
        return self.maximum_slo_regression_percent / 100.0


class VersionName(Document):
    """A version and its content."""

    version: str
    """Empty = the packaged policy."""
    digest: str


PACKAGED = VersionName(version="", digest="")


class Candidate(Document):
    """A version on its way."""

    id: VersionName
    stage: Literal[Stage.WAITING, Stage.SHADOW, Stage.CANARY]
    since: Seconds
    """When its stage or its canary step began, Unix seconds."""
    canary_since: Seconds = 0.0
    """When its first canary step began; the comparison holds all requests from then on. 0 = it has not."""
    percent: Percent = 0
    """Of requests that it serves; 0 outside the canary."""
    requests_before: Annotated[int, Field(ge=0)] = 0
    """Canary requests of the steps before this one."""


class HistoryEntry(Document):
    """Something that happened to a version."""

    at: Seconds
    version: str
    stage: Stage
    reason: str


class RolloutState(Document):
    """Where a policy stands; a file's content."""

    schema_version: Literal[1] = 1
    active: VersionName = PACKAGED
    active_since: Seconds = 0.0
    earlier: tuple[VersionName, ...] = ()
    """Versions that were active before and were not withdrawn, newest first; the packaged policy follows the last."""
    candidate: Candidate | None = None
    history: Annotated[tuple[HistoryEntry, ...], Field(max_length=LONGEST_HISTORY)] = ()
    """Newest first."""
    withdrawn: tuple[str, ...] = ()
    """Versions that were rejected or rolled back, newest first: only people bring them back."""

    def stage_of(self, version: str) -> Stage | None:
        """Return how far a version has come; None = it was never offered, or so long ago that it is forgotten."""
        if version == self.active.version:
            return Stage.ACTIVE
        if self.candidate is not None and version == self.candidate.id.version:
            return self.candidate.stage
        noted = (entry.stage for entry in self.history if entry.version == version)
        return next(noted, Stage.RETIRED if any(version == one.version for one in self.earlier) else None)
