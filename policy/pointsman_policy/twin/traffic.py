"""Traffic as it was observed, drawn anew: arrivals, prompts and objectives in blocks, so that bursts stay bursts."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.experience.dataset import Experience

Floats = npt.NDArray[np.float64]

_BLOCK = 64
"""Successive requests that are drawn together."""
_LONGEST_GAP_SECONDS = 30.0
"""Longer pauses teach nothing: every expert is idle by then."""


class Drawn(NamedTuple):
    """n requests in order of arrival."""

    arrival_at: Floats
    """From 0 on, seconds, [n]."""
    prompt_tokens: npt.NDArray[np.int64]
    """[n]."""
    objectives: Floats
    """(TTFT, TPOT, NTPOT) seconds, 0 = none, [n, 3]."""
    may_drop: npt.NDArray[np.bool_]
    """[n]."""


@dataclass(frozen=True, eq=False)
class Traffic:
    """N observed requests in order of arrival."""

    gap_seconds: Floats
    """Since the one before, [N]."""
    prompt_tokens: npt.NDArray[np.int64]
    """[N]."""
    objectives: Floats
    """[N, 3]."""
    may_drop: npt.NDArray[np.bool_]
    """[N]."""

    def __post_init__(self) -> None:
        if not len(self.gap_seconds):
            raise ValueError("there is no traffic without any request")

    @property
    def requests_per_second(self) -> float:
        """Mean rate, long pauses left out."""
        return 1.0 / max(float(self.gap_seconds.mean()), 1e-9)

    @property
    def admission(self) -> str:
        """Which requests might be shed, as a mode of admission."""
        if not self.may_drop.any():
            return "Never"
        return "ShedHopeless" if self.may_drop.all() else "ShedSheddable"

    def draw(self, rng: np.random.Generator, count: int, requests_per_second: float) -> Drawn:
        """Draw requests by the block bootstrap.

        It keeps what successive requests have to do with each other (Kuensch, "The jackknife and the bootstrap for
        general stationary observations", Annals of Statistics 1989).

        Args:
            rng: Chooses the blocks.
            count: How many.
            requests_per_second: Mean rate; gaps are all stretched alike to it.
        """
        observed = len(self.gap_seconds)
        starts = rng.integers(observed, size=-(-count // _BLOCK))
        rows = ((starts[:, None] + np.arange(_BLOCK)) % observed).ravel()[:count]
        gaps = self.gap_seconds[rows]
        mean = float(gaps.mean())
        gaps = gaps / (mean * requests_per_second) if mean > 0.0 else np.full(count, 1.0 / requests_per_second)
        return Drawn(np.cumsum(gaps), self.prompt_tokens[rows], self.objectives[rows], self.may_drop[rows])


def observed_traffic(experience: Experience) -> Traffic:
    """Return the traffic of an experience, whatever became of the requests.

    Raises:
        ValueError: If it has no outcomes.
    """
    gaps = np.diff(experience["decided_at"], prepend=experience["decided_at"][:1])
    names = ("ttft_objective_seconds", "tpot_objective_seconds", "ntpot_objective_seconds")
    return Traffic(
        gap_seconds=np.clip(gaps, 0.0, _LONGEST_GAP_SECONDS),
        prompt_tokens=np.maximum(experience["prompt_tokens"], 1).astype(np.int64),
        objectives=np.stack([experience[name].astype(np.float64) for name in names], axis=1),
        may_drop=experience["may_drop"].astype(np.bool_),
    )
