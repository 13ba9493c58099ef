"""What a decision rested on, kept to explain it and to judge its outcome."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from pointsman_operator.decision import Candidate, Decision, Explanation, ObjectiveOverrides, Outcome, OutcomeStatus
from pointsman_operator.learning import Learning
from pointsman_operator.state.policy_view import Objectives, PolicyView

LATENCIES: tuple[Literal["ttft", "tpot", "ntpot"], ...] = ("ttft", "tpot", "ntpot")


@dataclass(slots=True)
class Trace:
    """A decision and what it rested on. Holds no prompt."""

    decision: Decision
    view: PolicyView
    made_at: float
    heard_at: float
    """When it was made, or its progress was last reported."""
    objectives: Objectives
    prompt_tokens: int
    load_ratio: float
    chosen: int
    scores: npt.NDArray[np.float64]
    allowed: npt.NDArray[np.bool_]
    estimates: npt.NDArray[np.void]
    predictions: npt.NDArray[np.void]
    exclusions: Mapping[int, str]
    """Why experts could not be picked, by index."""
    row: int
    slot: int
    learning: Learning
    outcome: Outcome | None = None

    def explanation(self, now: float) -> Explanation:
        """Return it in the words of the API, best candidates first and those that could not be picked last."""
        candidates = [_candidate(self, index) for index in range(len(self.scores))]
        candidates.sort(key=lambda item: (not item.allowed, -(item.score if item.score is not None else -np.inf)))
        return Explanation(
            decision=replace(self.decision, reason=str(self.decision.reason)),
            age_seconds=now - self.made_at,
            prompt_tokens=self.prompt_tokens,
            objectives=ObjectiveOverrides(*self.objectives),
            load_ratio=self.load_ratio,
            candidates=tuple(candidates),
            outcome=self.outcome,
        )

    def predicted_seconds(self, kind: Literal["ttft", "tpot", "ntpot"]) -> float:
        """Return a latency predicted for the pick."""
        return float(self.estimates[self.chosen][f"{kind}_seconds"])

    def slo_met(self, outcome: Outcome) -> bool | None:
        """Tell whether the request met all of its objectives; None if it had none or that cannot be told.

        A request that its client gave up on is not judged; one that failed has not met them.
        """
        if not any(self.objectives) or outcome.status is OutcomeStatus.CANCELLED:
            return None
        if outcome.status is not OutcomeStatus.COMPLETED:
            return False
        limits = zip(self.objectives, latencies(outcome), strict=True)
        verdicts = [None if value is None else value <= limit for limit, value in limits if limit]
        if False in verdicts:
            return False
        return None if None in verdicts else True

    def quality(self, outcome: Outcome) -> float:
        """Return the quality of the answer: as measured, else as predicted."""
        if outcome.quality is not None:
            return outcome.quality
        return float(self.predictions[self.chosen]["predicted_quality"])


def _candidate(trace: Trace, index: int) -> Candidate:
    predicted = trace.estimates[index]
    score = float(trace.scores[index])
    return Candidate(
        endpoint=trace.view.endpoints[index],
        allowed=bool(trace.allowed[index]),
        exclusion=trace.exclusions.get(index, ""),
        score=score if np.isfinite(score) and trace.allowed[index] else None,
        ttft_seconds=float(predicted["ttft_seconds"]),
        tpot_seconds=float(predicted["tpot_seconds"]),
        ntpot_seconds=float(predicted["ntpot_seconds"]),
        quality=float(trace.predictions[index]["predicted_quality"]),
        output_tokens=float(trace.predictions[index]["predicted_output_tokens"]),
        slo_probability=float(predicted["slo_probability"]),
        impact=float(predicted["impact"]),
    )


def latencies(outcome: Outcome) -> tuple[float | None, float | None, float | None]:
    """Return TTFT, TPOT and NTPOT, seconds; None = unknown."""
    ttft, total, tokens = outcome.ttft_seconds, outcome.duration_seconds, outcome.output_tokens
    ntpot = total / tokens if total and tokens else None
    tpot = None
    if total and ttft is not None and tokens and tokens > 1:
        tpot = max(total - ttft, 0.0) / (tokens - 1)
    return ttft, tpot, ntpot
