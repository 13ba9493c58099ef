"""The part of a RouterPolicy's status that speaks of its rollout; shares are whole permille, as there are no floats."""

from typing import Annotated

from pydantic import Field

from pointsman_policy.documents import Document

MOST_REQUESTS = 10**15
"""More than there will be, and still exact as a float, which is what Helm makes of numbers."""

Requests = Annotated[int, Field(ge=0, le=MOST_REQUESTS)]
Percent = Annotated[int, Field(ge=0, le=100)]
Permille = Annotated[int, Field(ge=0, le=1_000)]
PermilleDifference = Annotated[int, Field(ge=-1_000, le=1_000)]
Version = Annotated[str, Field(max_length=63)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class Gate(Document):
    """What the comparison before any traffic said."""

    passed: bool
    """Whether the version may serve."""
    summary: str = Field(max_length=2_048)
    """Why, or why not, for people."""
    candidate_qos_permille: Permille
    """Mean QoS of the version in the simulated scenarios, 0 to 1000."""
    active_qos_permille: Permille
    """That of the active version."""
    rule_qos_permille: Permille
    """That of the rule ImpactGreedy."""
    gain_lower_bound_permille: PermilleDifference
    """Lower confidence bound of the version's gain over the active one."""
    replay_agreement_percent: Percent
    """Share of stored decisions on which both agree."""


class Shadow(Document):
    """What the version would have done."""

    decisions: Requests
    """Decisions that it made beside the active version."""
    agreement_percent: Percent
    """Share of them on which both agree."""
    predicted_gain_permille: PermilleDifference
    """QoS that it promises itself of its choices over those that were made."""


class Arm(Document):
    """One side of the comparison."""

    requests: Requests
    """Those that could be judged."""
    qos_permille: Permille
    """Their mean QoS."""
    slo_attainment_permille: Permille
    """Share of them that met their objectives."""


class Canary(Document):
    """The version's requests against the others of the same time."""

    percent: Percent
    """Share of requests that it serves."""
    candidate: Arm
    """Its requests."""
    control: Arm
    """The others."""
    qos_difference_low_permille: PermilleDifference
    """Lower end of the interval of its QoS less that of the others; it holds however often it is looked at."""
    qos_difference_high_permille: PermilleDifference
    """Upper end."""
    slo_difference_low_permille: PermilleDifference
    """Lower end of the same for SLO attainment."""
    slo_difference_high_permille: PermilleDifference
    """Upper end."""


class Candidate(Document):
    """A version on its way into service."""

    version: Version
    """Its name."""
    digest: str = Field(max_length=128)
    """SHA-256 of its files."""
    stage: str = Field(max_length=63)
    """Waiting, Shadow or Canary."""
    since: Time
    """When this stage began."""
    waiting_for: str = Field(max_length=1_024)
    """What the next stage waits for, for people; empty = nothing."""
    gate: Gate | None = None
    """What the comparison before any traffic said."""
    shadow: Shadow | None = None
    """What it would have done; absent before the shadow."""
    canary: Canary | None = None
    """How its requests went; absent before the canary."""


class HistoryEntry(Document):
    """Something that happened to a version."""

    at: Time
    """When."""
    version: Version
    """Its name; "packaged" is the one that comes with Pointsman."""
    stage: str = Field(max_length=63)
    """Waiting, Rejected (by the gate), Shadow, Canary, Active, Retired (another one followed) or RolledBack."""
    reason: str = Field(max_length=1_024)
    """Why, for people."""
