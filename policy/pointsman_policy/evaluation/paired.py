"""Intervals and paired comparisons: how much better a rule is on the same requests, and how sure that is.

With three seeds or more, the seeds' means are independent samples and a t interval over them is good. With fewer, the
interval comes from within the runs. Successive requests share a queue, so what happens to them is correlated; batch
means (Law and Kelton, "Simulation Modeling and Analysis") answer that: the t interval is over the means of batches of
at least 50 successive requests, long enough to be nearly independent while queues drain. Such an interval says nothing
of how another draw of requests would turn out, and is too narrow where queues never drain; more seeds tell.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

BATCH_REQUESTS = 50
_MOST_BATCHES = 200
_LEAST_SEEDS = 3


@dataclass(frozen=True, eq=False)
class Batches:
    """A figure of successive requests, summed batch by batch: all that the statistics need to keep of a run."""

    sums: npt.NDArray[np.float64]
    """[B]."""
    sizes: npt.NDArray[np.int64]
    """Requests in each, [B]."""

    @property
    def mean(self) -> float:
        """The mean over requests."""
        return float(self.sums.sum() / self.sizes.sum())

    def minus(self, other: "Batches") -> "Batches":
        """Return the paired difference to the same requests in another run."""
        if not np.array_equal(self.sizes, other.sizes):
            raise ValueError("only runs of the same requests can be paired")
        return Batches(self.sums - other.sums, self.sizes)


def batches(values: npt.NDArray[np.float64]) -> Batches:
    """Sum a run's values, [n], over at most 200 batches of at least 50 successive requests."""
    count = min(max(len(values) // BATCH_REQUESTS, 1), _MOST_BATCHES)
    edges = np.linspace(0, len(values), count + 1).astype(np.int64)
    return Batches(np.add.reduceat(values, edges[:-1]), np.diff(edges))


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % confidence interval."""

    mean: float
    low: float
    """NaN if there is too little to tell, like `high`."""
    high: float
    over: Literal["seeds", "batches"]
    """Samples that the interval is over."""

    @property
    def verdict(self) -> Literal["better", "worse", "undecided"]:
        """For a difference: whether the interval leaves out 0, and on which side it then lies."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "undecided"


@dataclass(frozen=True)
class PairedDifference:
    """A rule less another one."""

    interval: Interval
    """Of reference minus other, in the unit of the figure."""
    relative: float
    """The mean difference as a share of the other's mean; NaN if that is 0."""


def mean_interval(runs: Sequence[tuple[int, Batches]]) -> Interval:
    """Return the mean over runs, each with the same weight.

    Args:
        runs: Seed and values, at least one; several runs of a seed (its loads) count as one sample.
    """
    means = np.array([run.mean for _, run in runs])
    run_seeds = np.array([seed for seed, _ in runs])
    mean = float(means.mean())
    seeds = np.unique(run_seeds)
    if len(seeds) >= _LEAST_SEEDS:
        of_seeds = [means[run_seeds == seed].mean() for seed in seeds]
        error, freedom = float(np.std(of_seeds, ddof=1)) / math.sqrt(len(seeds)), len(seeds) - 1
        return _interval(mean, error, freedom, "seeds")
    return _interval(mean, *_batch_error([run for _, run in runs]), "batches")


def paired_difference(runs: Sequence[tuple[int, Batches, Batches]]) -> PairedDifference:
    """Compare two rules over all their common runs.

    Args:
        runs: Seed, reference and other, at least one; as in `mean_interval`.
    """
    interval = mean_interval([(seed, reference.minus(other)) for seed, reference, other in runs])
    other_mean = float(np.mean([other.mean for _, _, other in runs]))
    return PairedDifference(interval, interval.mean / other_mean if other_mean else math.nan)


def _interval(mean: float, error: float, freedom: int, over: Literal["seeds", "batches"]) -> Interval:
    reach = t_quantile(freedom) * error if freedom > 0 else math.nan
    return Interval(mean, mean - reach, mean + reach, over)


def _batch_error(runs: Sequence[Batches]) -> tuple[float, int]:
    """Return the standard error of the mean of the runs' means, and its degrees of freedom; 0 = not known."""
    variance, freedom = 0.0, 0
    for run in runs:
        count = len(run.sums)
        if count < 2:
            return math.nan, 0
        variance += float(np.var(run.sums / run.sizes, ddof=1)) / count
        freedom += count - 1
    return math.sqrt(variance) / len(runs), freedom


@cache
def t_quantile(freedom: int, confidence: float = 0.95) -> float:
    """Return how many standard errors a two-sided interval reaches: the quantile of Student's t distribution.

    With t = sqrt(v) tan(a) the density of t becomes cos(a)^(v-1) on a quarter circle, which a fine sum integrates.

    Args:
        freedom: Degrees of freedom v, at least 1.
        confidence: Between 0 and 1.
    """
    angle = np.linspace(0.0, math.pi / 2, 20_001)
    density = np.cos(angle) ** (freedom - 1)
    mass = np.cumsum((density[1:] + density[:-1]) / 2)
    at = float(np.interp(confidence, mass / mass[-1], angle[1:]))
    return math.sqrt(freedom) * math.tan(at)
