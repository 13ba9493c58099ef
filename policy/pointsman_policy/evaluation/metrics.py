"""Quality of service and what it is made of: one definition for simulated and for measured runs.

TTFT is arrival to first token; TPOT (end - first token)/(tokens - 1); NTPOT (end - arrival)/tokens, queueing and
prefill included. The QoS of a request is its quality if every objective set for it is met, else 0; a request that was
dropped or failed counts 0. Means are over all that arrived, percentiles over all that were answered.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What became of n requests, in order of arrival. Values of requests without an answer are ignored."""

    arrival_at: Floats
    """Seconds on any clock that all times share, [n]."""
    first_token_at: Floats
    """[n]."""
    end_at: Floats
    """[n]."""
    output_tokens: npt.NDArray[np.int64]
    """Tokens of the answer, [n]; below 1 = not known, so that no per-token objective counts as met."""
    quality: Floats
    """Of the answer, 0 to 1, [n]."""
    objectives: Floats
    """TTFT, TPOT and NTPOT, seconds, 0 = none, [n, 3]."""
    answered: npt.NDArray[np.bool_]
    """Got its whole answer, [n]."""
    dropped: npt.NDArray[np.bool_]
    """Shed by the router, [n]; a request that is neither answered nor dropped has failed."""

    def __post_init__(self) -> None:
        if not len(self.arrival_at):
            raise ValueError("there are no figures without any request")
        if (self.answered & self.dropped).any():
            raise ValueError("a request cannot be both answered and dropped")

    def __len__(self) -> int:
        return len(self.arrival_at)

    def ttft_seconds(self) -> Floats:
        """Return TTFT, [n]; NaN where there is no answer."""
        return np.where(self.answered, self.first_token_at - self.arrival_at, np.nan)

    def tpot_seconds(self) -> Floats:
        """Return TPOT, [n]; NaN where there is no answer or one of a single token."""
        gaps = np.where(self.answered & (self.output_tokens > 1), self.output_tokens - 1.0, np.nan)
        seconds: Floats = (self.end_at - self.first_token_at) / gaps
        return seconds

    def ntpot_seconds(self) -> Floats:
        """Return NTPOT, [n]; NaN where there is no answer."""
        tokens = np.where(self.answered & (self.output_tokens > 0), self.output_tokens, np.nan)
        seconds: Floats = (self.end_at - self.arrival_at) / tokens
        return seconds

    def met(self) -> npt.NDArray[np.bool_]:
        """Return who was answered within every objective set for it, [n]; one token has no TPOT to miss."""
        ttft, tpot, ntpot = self.objectives.T
        single = self.output_tokens == 1
        within = _within(self.ttft_seconds(), ttft) & _within(self.ntpot_seconds(), ntpot)
        met: npt.NDArray[np.bool_] = self.answered & within & (single | _within(self.tpot_seconds(), tpot))
        return met

    def qos(self) -> Floats:
        """Return the QoS of each request, 0 to 1, [n]."""
        return np.where(self.met(), self.quality, 0.0)


def _within(seconds: Floats, objective_seconds: Floats) -> npt.NDArray[np.bool_]:
    return (objective_seconds <= 0.0) | (seconds <= objective_seconds)


@dataclass(frozen=True)
class Figures:
    """The figures of one run, or their means over several; NaN = not known."""

    requests: int
    """That arrived."""
    mean_qos: float
    """Over all that arrived."""
    slo_attainment_ratio: float
    """Share of all that arrived that was answered within its objectives."""
    mean_quality_served: float
    """Over the answered."""
    drop_ratio: float
    """Share shed by the router."""
    failure_ratio: float
    """Share neither answered nor dropped."""
    ttft_seconds_p50: float
    ttft_seconds_p99: float
    tpot_seconds_p50: float
    tpot_seconds_p99: float
    ntpot_seconds_p50: float
    ntpot_seconds_p99: float
    qos_per_busy_second: float
    """Sum of QoS over the experts' summed busy seconds: what the hardware's time was used for."""
    decisions_per_second: float
    """Requests per second that the run took to compute."""


def figures(
    outcomes: Outcomes, busy_seconds: float | None = None, decisions_per_second: float | None = None
) -> Figures:
    """Return the figures of one run.

    Args:
        outcomes: What became of its requests.
        busy_seconds: Summed over experts; None = not known.
        decisions_per_second: None = not known.
    """
    qos = outcomes.qos()
    ttft, tpot, ntpot = (
        _percentiles(seconds)
        for seconds in (outcomes.ttft_seconds(), outcomes.tpot_seconds(), outcomes.ntpot_seconds())
    )
    answered = outcomes.answered
    return Figures(
        requests=len(outcomes),
        mean_qos=float(qos.mean()),
        slo_attainment_ratio=float(outcomes.met().mean()),
        mean_quality_served=float(outcomes.quality[answered].mean()) if answered.any() else np.nan,
        drop_ratio=float(outcomes.dropped.mean()),
        failure_ratio=float((~answered & ~outcomes.dropped).mean()),
        ttft_seconds_p50=ttft[0],
        ttft_seconds_p99=ttft[1],
        tpot_seconds_p50=tpot[0],
        tpot_seconds_p99=tpot[1],
        ntpot_seconds_p50=ntpot[0],
        ntpot_seconds_p99=ntpot[1],
        qos_per_busy_second=float(qos.sum()) / busy_seconds if busy_seconds else np.nan,
        decisions_per_second=np.nan if decisions_per_second is None else decisions_per_second,
    )


def _percentiles(seconds: Floats) -> tuple[float, float]:
    known = seconds[~np.isnan(seconds)]
    if not known.size:
        return np.nan, np.nan
    p50, p99 = np.percentile(known, (50, 99))
    return float(p50), float(p99)


def mean_figures(runs: Sequence[Figures]) -> Figures:
    """Return the mean of every figure over the runs that know it (percentiles too), and the sum of their requests."""
    means = {name: _mean([getattr(run, name) for run in runs]) for name in _MEAN_FIGURES}
    return Figures(requests=sum(run.requests for run in runs), **means)


_MEAN_FIGURES = tuple(field.name for field in dataclasses.fields(Figures) if field.name != "requests")


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else np.nan
