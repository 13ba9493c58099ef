"""The status of a RouterPolicy, as stored in the API: what the operator found out, for people and tools.

Beyond the usual conditions it holds what the columns of ``kubectl get`` show, which can read one field each.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from pointsman_operator.control.rollout_document import Candidate, HistoryEntry
from pointsman_policy.documents import Document

ConditionStatus = Literal["True", "False", "Unknown"]
Count = Annotated[int, Field(ge=0, le=1_000_000)]

LONGEST_MESSAGE = 1_024
"""Characters of a condition's message; more is cut, so that a hundred wrong pods do not fill the object."""


class Condition(Document):
    """One aspect of the policy, in the form that Kubernetes uses everywhere."""

    type: str = Field(max_length=316)
    """Which aspect: Accepted, ExpertsDiscovered, MetricsFresh, Programmed, and where there is a policy service
    PolicyPromoted and LatencyModelFits."""
    status: ConditionStatus
    """True: it is so. False: it is not, and the message says what to do. Unknown: nobody can tell at the moment."""
    observed_generation: int = Field(ge=0)
    """The policy's metadata.generation that the condition speaks of."""
    last_transition_time: str = Field(json_schema_extra={"format": "date-time"})
    """When the status last became what it is."""
    reason: str = Field(min_length=1, max_length=128)
    """Why, in one CamelCase word for programs."""
    message: str = Field(max_length=32_768)
    """Why, for people: what is wrong, where, and how to mend it."""


class ExpertCount(Document):
    """How many experts the policy has."""

    ready: Count
    """Those that requests are sent to now."""
    total: Count
    """Those that are selected, ready or not, wrong or right."""
    summary: str = Field(max_length=32)
    """Both as "ready/total", for the column of kubectl."""


class RouterCount(Document):
    """How many routers serve the policy."""

    programmed: Count
    """Those that run this generation of the policy."""
    ready: Count
    """Those that are ready to route."""


class ActivePolicy(Document):
    """What decides on the policy's requests now, as the routers report it."""

    version: str = Field(max_length=253)
    """Version of the picker's parameters; "built-in" if it has none but those it comes with."""
    digest: Annotated[str, Field(max_length=128)] | None = None
    """Digest of the exported policy; absent if nothing was exported."""
    stage: str = Field(max_length=63)
    """Active: all routers use it. Mixed: they use different versions at the moment, this is the most frequent one."""


class Status(Document):
    """What the operator found out; only the operator writes here."""

    observed_generation: int = Field(ge=0)
    """The policy's metadata.generation that this status speaks of."""
    conditions: tuple[Condition, ...] = Field(default=(), max_length=16)
    """Aspects of the policy, at most one of each type."""
    experts: ExpertCount | None = None
    """How many experts the policy has; absent while the policy is not valid."""
    routers: RouterCount | None = None
    """How many routers serve the policy."""
    active_policy: ActivePolicy | None = None
    """What decides on the policy's requests now; absent while no router has reported."""
    slo_attainment_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """Share of the answered requests of the last five minutes that met their objectives; absent if there were none."""
    candidate: Candidate | None = None
    """The version on its way into service; absent if there is none."""
    history: Annotated[tuple[HistoryEntry, ...], Field(max_length=10)] | None = None
    """What happened to versions last, newest first; absent without a policy service."""

    def document(self) -> dict[str, Any]:
        """Return it as stored in the API; what is absent is left out."""
        return self.model_dump(by_alias=True, mode="json", exclude_none=True)
