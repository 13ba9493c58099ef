"""Trials: contenders in the same situations of a twin, over loads and over how late a router learns of load."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pointsman_policy.evaluation.paired import Batches, Interval, batches, mean_interval, paired_difference
from pointsman_policy.retraining.contenders import Contender
from pointsman_policy.simulator.simulation import Visibility
from pointsman_policy.simulator.situation import qos, run_situation
from pointsman_policy.twin.twin import Twin

_LOADS = (0.6, 0.9, 1.2)
"""Of the fleet's capacity, besides the observed one."""
_OBSERVED_BOUNDS = (0.05, 1.5)
_VISIBILITIES = {
    "fresh samples": Visibility(),
    "late samples": Visibility(telemetry_interval=5.0, telemetry_delay=2.0, progress_interval=2.0),
}
_TIES = 1


@dataclass(frozen=True)
class Trial:
    """One kind of circumstances."""

    name: str
    twin: Twin
    """Its beliefs are replaced by each contender's."""


@dataclass(frozen=True)
class Results:
    """QoS of each contender in each run."""

    runs: Mapping[str, Mapping[str, Sequence[tuple[int, Batches]]]]
    """By contender, then by trial: seed and QoS of successive requests."""

    @property
    def trials(self) -> tuple[str, ...]:
        """Names of the trials."""
        return tuple(next(iter(self.runs.values())))

    def mean(self, contender: str, trial: str | None = None) -> float:
        """Return a contender's mean QoS in one trial, or over all."""
        return mean_interval(self._of(contender, trial)).mean

    def gain(self, contender: str, other: str, trial: str | None = None) -> Interval:
        """Return how much better a contender is than another, in one trial or over all; its 95 % interval."""
        pairs = zip(self._of(contender, trial), self._of(other, trial), strict=True)
        return paired_difference([(seed, own, others) for (seed, own), (_, others) in pairs]).interval

    def _of(self, contender: str, trial: str | None) -> list[tuple[int, Batches]]:
        runs = self.runs[contender]
        return [run for name in runs if trial in (None, name) for run in runs[name]]


def usual_trials(twin: Twin) -> tuple[Trial, ...]:
    """Return the circumstances that versions are compared in: the observed load and others, with old news and fresh."""
    low, high = _OBSERVED_BOUNDS
    observed = min(max(twin.observed_load, low), high)
    loads = {f"observed load ({observed:.2f})": observed} | {f"load {load}": load for load in _LOADS}
    return tuple(
        Trial(f"{name}, {seen}", replace(twin, loads=(load, load), visibility=visibility))
        for name, load in loads.items()
        for seen, visibility in _VISIBILITIES.items()
    )


def compare(
    contenders: Mapping[str, Contender],
    trials: Sequence[Trial],
    seeds: Sequence[int],
    progress: Callable[[float], None] = lambda share: None,
) -> Results:
    """Run all contenders in all trials.

    Args:
        contenders: By the name that results go by.
        trials: The circumstances.
        seeds: Indices of situations; three or more, for intervals.
        progress: Called with the share that is done, 0 to 1.
    """
    runs: dict[str, dict[str, list[tuple[int, Batches]]]] = {
        name: {trial.name: [] for trial in trials} for name in contenders
    }
    total = len(trials) * len(seeds)
    for place, (trial, seed) in enumerate((trial, seed) for trial in trials for seed in seeds):
        for name, contender in contenders.items():
            situation = trial.twin.believing(contender.calibration).situation(seed)
            run = run_situation(situation, contender.picker, np.random.default_rng([seed, _TIES]))
            runs[name][trial.name].append((seed, batches(qos(situation, run))))
        progress((place + 1) / total)
    return Results(runs)
