"""What goes into a routing decision and what comes out: the only types that serving and routing share."""

import enum
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from pointsman_operator.discovery.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class ObjectiveOverrides:
    """Latency targets of one request, seconds; None keeps the policy's, 0 removes it."""

    ttft_seconds: float | None = None
    tpot_seconds: float | None = None
    ntpot_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RouteQuery:
    """One request, as far as routing looks at it."""

    model: str
    """What the client put in "model"; "auto" and "" mean the only policy there is, or has experts in `subset`."""
    prompt: str = ""
    prompt_tokens: int = 0
    """0 = estimate from the prompt's text."""
    max_output_tokens: int = 0
    """0 = no limit known."""
    objectives: ObjectiveOverrides = ObjectiveOverrides()
    subset: frozenset[str] | None = None
    """Endpoints ("ip:port") that may be picked; None = all, empty = none."""
    priority: int = 0
    request_id: str = ""
    streaming: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """One expert in a decision, with the predictions for the request on it."""

    endpoint: Endpoint
    allowed: bool
    exclusion: str
    """Why it could not be picked; empty if allowed."""
    score: float | None
    """Higher is better, comparable within one decision; None where the picker gave none."""
    ttft_seconds: float
    tpot_seconds: float
    ntpot_seconds: float
    quality: float
    output_tokens: float
    slo_probability: float
    impact: float
    """Predicted loss of QoS among requests already there, in requests."""


class Reason(NamedTuple):
    """Why a decision went where it did; put into words only when somebody asks."""

    expert: str
    """The pick's name."""
    picker: str
    summary: str
    """What the picker goes by."""
    estimates: npt.NDArray[np.void]
    """ESTIMATE rows of all candidates."""
    pick: int
    """The pick's row."""

    def __str__(self) -> str:
        row = self.estimates[self.pick]
        ttft, ntpot, met = (float(row[name]) for name in ("ttft_seconds", "ntpot_seconds", "slo_probability"))
        return (
            f"{self.expert}, by {self.picker}: {self.summary} (predicted TTFT {ttft * 1e3:.0f} ms, "
            f"per token {ntpot * 1e3:.1f} ms, P(objectives) {met:.2f})"
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """Where one request goes, and why."""

    id: str
    policy: str
    """As "namespace/name"."""
    picker: str
    policy_version: str
    reason: Reason | str
    fallbacks: tuple[str, ...]
    """Why earlier pickers of the chain did not answer, as "Picker: reason"."""
    endpoints: tuple[Endpoint, ...]
    """In order of preference, never empty; the first was picked."""
    model_rewrite: str | None
    """What "model" in the body must become; None = leave it. Valid for all of `endpoints`."""


class OutcomeStatus(enum.Enum):
    """How a request ended."""

    IN_PROGRESS = 1
    COMPLETED = 2
    CANCELLED = 3
    FAILED = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a decision's request went, as far as it is known; None = unknown. Spans count from the request's arrival."""

    decision_id: str
    status: OutcomeStatus
    endpoint: str = ""
    """The "ip:port" that really served; empty = the decision's first."""
    ttft_seconds: float | None = None
    duration_seconds: float | None = None
    output_tokens: int | None = None
    prompt_tokens: int | None = None
    quality: float | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """A recent decision with everything that it rested on."""

    decision: Decision
    age_seconds: float
    prompt_tokens: int
    objectives: ObjectiveOverrides
    load_ratio: float
    candidates: tuple[Candidate, ...]
    """Best first; the ones that could not be picked last."""
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class ExpertView:
    """What the router believes about one expert now."""

    endpoint: Endpoint
    ready: bool
    running_requests: float
    waiting_requests: float
    kv_cache_utilization_ratio: float | None
    telemetry_age_seconds: float | None
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyReport:
    """What a router runs of one RouterPolicy, and how that goes."""

    policy: str
    """As "namespace/name"."""
    uid: str = ""
    """Of the object in Kubernetes; empty for policies from files."""
    generation: int = 0
    """The newest that was seen, in effect or not; 0 for policies from files."""
    model_name: str = ""
    """Empty while an older policy has it."""
    picker: str = ""
    """The one asked first; empty if nothing of the policy is in effect."""
    policy_version: str = ""
    experts: int = 0
    ready_experts: int = 0
    fresh_experts: int = 0
    """Ready ones whose newest load sample is still believed."""
    oldest_telemetry_age_seconds: float | None = None
    """Among the newest samples of the ready experts; None = there is none."""
    telemetry_problem: str = ""
    problem: str = ""
    """Why `generation` is not in effect; empty = it is."""
    judged_requests: int = 0
    """Finished requests of which it is known whether they met their objectives."""
    met_requests: int = 0
    """Those that met all of them."""


class Routing(Protocol):
    """The routing core as serving sees it. All methods are synchronous, take microseconds and run on the event loop."""

    def route(self, query: RouteQuery) -> Decision:
        """Pick an expert and open a decision. Raises: RouteError."""

    def report(self, outcome: Outcome) -> None:
        """Take progress or the end of a decision's request. Raises: UnknownDecisionError."""

    def label(self, decision_id: str, quality: float) -> None:
        """Take the quality, 0 to 1, of an answer judged after its end. Raises: UnknownDecisionError."""

    def explain(self, decision_id: str) -> Explanation:
        """Return a recent decision. Raises: UnknownDecisionError."""

    def experts(self, model: str) -> tuple[str, tuple[ExpertView, ...]]:
        """Return the policy ("namespace/name") that serves a model, and its experts. Raises: UnknownModelError."""

    def models(self) -> tuple[str, ...]:
        """Return the model names that clients may use."""

    def reports(self) -> tuple[PolicyReport, ...]:
        """Return what is known of each policy by routing alone."""

    def open_decisions(self) -> int:
        """Return the number of decisions whose end is not known yet."""
