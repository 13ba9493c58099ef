"""Ratios of mean QoS between contestants over parts of the suite.

Ratios are of means over scenarios, loads and seeds. A mean of per-cell percentages would tell nothing: where a rule has
almost no QoS left, its percentages explode.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pointsman_policy.evaluation.contestants import Contestant, Role
from pointsman_policy.evaluation.paired import Batches, PairedDifference, paired_difference
from pointsman_policy.evaluation.policies import SuitePlan, SuiteRun, Workload
from pointsman_policy.evaluation.suite import SuiteScenario

Where = Callable[[SuiteScenario, float], bool]
"""Chooses cells by scenario and load."""


def everywhere(scenario: SuiteScenario, load: float) -> bool:
    """Choose every cell."""
    return True


class Ratio(NamedTuple):
    """Mean QoS of one contestant over another's, on the same requests."""

    value: float
    """NaN if the other has none."""
    low: float
    """Of the 95 % interval of the paired difference, over the other's mean; NaN if there is too little to tell."""
    high: float
    other: str
    """Whom it is a ratio to."""
    place: str = ""
    """Scenario, or scenario and load, that it is of."""


@dataclass(frozen=True, eq=False)
class Standings:
    """The runs of a suite, ready for questions."""

    plan: SuitePlan
    runs: dict[str, dict[Workload, SuiteRun]]
    """By contestant."""

    def contestants(self, role: Role, of: str | None = None) -> list[Contestant]:
        """Return who has a role, and belongs to a subject if one is named."""
        return [one for one in self.plan.contestants if one.role == role and of in (None, one.of)]

    def workloads(self, where: Where = everywhere) -> list[Workload]:
        """Return the finished workloads of the chosen cells."""
        scenarios = {scenario.name: scenario for scenario in self.plan.scenarios}
        finished = next(iter(self.runs.values()), {})
        return [workload for workload in finished if where(scenarios[workload.scenario], workload.load)]

    def mean(self, contestant: str, where: Where = everywhere) -> float:
        """Return mean QoS over the chosen cells; NaN if there are none."""
        values = [self.runs[contestant][workload].rule.qos.mean for workload in self.workloads(where)]
        return float(np.mean(values)) if values else np.nan

    def drop_ratio(self, contestant: str, where: Where = everywhere) -> float:
        """Return the share of requests shed over the chosen cells; NaN if there are none."""
        values = [self.runs[contestant][workload].rule.figures.drop_ratio for workload in self.workloads(where)]
        return float(np.mean(values)) if values else np.nan

    def difference(self, one: str, other: str, where: Where = everywhere) -> PairedDifference | None:
        """Return the paired difference of mean QoS over the chosen cells; None if there are none."""
        pairs = [
            (workload.seed, self.runs[one][workload].rule.qos, self.runs[other][workload].rule.qos)
            for workload in self.workloads(where)
        ]
        return paired_difference(pairs) if pairs else None

    def ratio(self, one: str, other: str, where: Where = everywhere, place: str = "") -> Ratio:
        """Return the ratio of mean QoS over the chosen cells."""
        pairs = [
            (workload.seed, self.runs[one][workload].rule.qos, self.runs[other][workload].rule.qos)
            for workload in self.workloads(where)
        ]
        return _ratio(pairs, other, place)

    def against_best(self, one: str, others: Sequence[str], where: Where = everywhere, place: str = "") -> Ratio:
        """Return the ratio to whichever of the others is best over the chosen cells."""
        best = max(others, key=lambda other: self.mean(other, where))
        return self.ratio(one, best, where, place)

    def by_scenario(self, where: Where = everywhere) -> dict[str, Where]:
        """Return the scenarios of the chosen cells that have runs, each with how to choose its cells."""
        names = dict.fromkeys(workload.scenario for workload in self.workloads(where))
        return {name: _only(where, name, None) for name in names}

    def by_cell(self, where: Where = everywhere) -> dict[str, Where]:
        """Return the chosen cells that have runs, by a title of scenario and load."""
        cells = dict.fromkeys((workload.scenario, workload.load) for workload in self.workloads(where))
        return {f"{name}, load {load:g}": _only(where, name, load) for name, load in cells}

    def retention(self, contestant: str, scenario: SuiteScenario) -> Ratio:
        """Return what is left of a contestant's mean QoS in a scenario's reference, paired workload by workload."""
        finished = self.workloads()
        there = {
            (workload.load, workload.seed): workload for workload in finished if workload.scenario == scenario.reference
        }
        runs = self.runs[contestant]
        pairs = []
        for workload in finished:
            fresh = there.get((workload.load, workload.seed))
            if workload.scenario == scenario.name and fresh is not None:
                pairs.append((workload.seed, runs[workload].rule.qos, runs[fresh].rule.qos))
        return _ratio(pairs, scenario.reference, scenario.name)


def _ratio(pairs: Sequence[tuple[int, Batches, Batches]], other: str, place: str) -> Ratio:
    base = float(np.mean([of_other.mean for _, _, of_other in pairs])) if pairs else 0.0
    if not base > 0:
        return Ratio(np.nan, np.nan, np.nan, other, place)
    interval = paired_difference(pairs).interval
    return Ratio(1 + interval.mean / base, 1 + interval.low / base, 1 + interval.high / base, other, place)


def _only(where: Where, name: str, load: float | None) -> Where:
    def chosen(scenario: SuiteScenario, at: float) -> bool:
        return scenario.name == name and load in (None, at) and where(scenario, at)

    return chosen


def standings(plan: SuitePlan, runs: Sequence[SuiteRun]) -> Standings:
    """Return the standings of a suite; workloads that not all contestants have finished are left out."""
    by_contestant: dict[str, dict[Workload, SuiteRun]] = {one.name: {} for one in plan.contestants}
    for run in runs:
        by_contestant[run.rule.picker][run.workload] = run
    finished = [
        workload for workload in plan.workloads() if all(workload in of_one for of_one in by_contestant.values())
    ]
    return Standings(plan, {name: {key: of_one[key] for key in finished} for name, of_one in by_contestant.items()})
