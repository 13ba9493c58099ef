"""What routers say of themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """One RouterPolicy as a router runs it."""

    uid: str
    """Of the object, which tells it from an earlier one of the same name."""
    generation: int
    """The newest that the router has seen, in effect or not."""
    picker: str = ""
    """Asked first; empty if nothing of the policy is in effect."""
    policy_version: str = ""
    """Of the picker's parameters; empty for pickers without any."""
    ready_expert_count: int = 0
    expert_count: int = 0
    fresh_expert_count: int = 0
    """Ready experts whose load is known and young enough."""
    telemetry_problem: str = ""
    """Why load is missing or read another way; empty = it is complete."""
    problem: str = ""
    """Why this generation is not in effect; empty = it is."""
    answered_request_count: int = 0
    """Of which it is known whether they met their objectives, since the router started."""
    met_objective_count: int = 0
    """Those of them that did."""


@dataclass(frozen=True, slots=True)
class RouterReport:
    """One ready router's last answer."""

    router: str
    """Name of its pod."""
    policies: Mapping[str, PolicyReport] = field(default_factory=dict)
    """By "namespace/name"; empty if it did not answer."""
    problem: str = ""
    """Why it did not answer; empty = it did."""
