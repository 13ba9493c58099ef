"""Figures of a run: quality of service and what it is made of.

Means are over all that arrived, percentiles over all that were answered.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pointsman_policy.simulator.outcomes import Outcomes

Floats = npt.NDArray[np.float64]


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
