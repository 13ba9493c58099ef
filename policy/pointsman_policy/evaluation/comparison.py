"""Rules side by side: figures, intervals and paired differences, ready for tables and reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pointsman_policy.evaluation.metrics import Figures, mean_figures
from pointsman_policy.evaluation.paired import Batches, Interval, PairedDifference, mean_interval, paired_difference


@dataclass(frozen=True, eq=False)
class RuleRun:
    """One workload under one rule."""

    picker: str
    seed: int
    figures: Figures
    qos: Batches
    """Over requests in order of arrival."""


class Objectives(NamedTuple):
    """Targets that all requests share, seconds; 0 = none."""

    ttft_seconds: float = 0.0
    tpot_seconds: float = 0.0
    ntpot_seconds: float = 0.0


@dataclass(frozen=True)
class RuleResult:
    """A rule in one cell."""

    picker: str
    figures: Figures
    """Means over seeds."""
    qos: Interval
    """Of mean QoS."""


@dataclass(frozen=True)
class Cell:
    """Rules under the same circumstances, such as one load."""

    title: str
    results: tuple[RuleResult, ...]
    differences: Mapping[str, PairedDifference]
    """QoS of the comparison's best rule less that of each other one."""


@dataclass(frozen=True)
class Comparison:
    """Rules over several cells."""

    title: str
    description: str
    best: str
    """The rule with the highest mean QoS over all cells."""
    ranking: tuple[str, ...]
    """All rules, best first."""
    cells: tuple[Cell, ...]
    overall: Mapping[str, PairedDifference]
    """As a cell's `differences`, over all cells."""
    objectives: Objectives


_Workload = tuple[str, int]


def compare(
    title: str, description: str, objectives: Objectives, cells: Mapping[str, Sequence[RuleRun]]
) -> Comparison | None:
    """Compare the rules over the workloads that all of them have run; None if there is no such workload.

    Args:
        title: For people.
        description: For people.
        objectives: Of the requests, to be shown.
        cells: Runs by the title of their cell, in the order to be shown.
    """
    pickers = dict.fromkeys(run.picker for runs in cells.values() for run in runs)
    by_workload: dict[_Workload, dict[str, RuleRun]] = {}
    for cell, runs in cells.items():
        for run in runs:
            by_workload.setdefault((cell, run.seed), {})[run.picker] = run
    common = {workload: runs for workload, runs in by_workload.items() if len(runs) == len(pickers)}
    if not common:
        return None
    scores = {picker: mean_interval(_qos(common, picker)).mean for picker in pickers}
    ranking = tuple(sorted(pickers, key=lambda picker: -scores[picker]))
    return Comparison(
        title=title,
        description=description,
        best=ranking[0],
        ranking=ranking,
        cells=tuple(_cell(cell, ranking, common) for cell in dict.fromkeys(cell for cell, _ in common)),
        overall=_differences(ranking, common),
        objectives=objectives,
    )


def _cell(title: str, ranking: Sequence[str], common: Mapping[_Workload, Mapping[str, RuleRun]]) -> Cell:
    here = {workload: runs for workload, runs in common.items() if workload[0] == title}
    results = tuple(
        RuleResult(
            picker=picker,
            figures=mean_figures([runs[picker].figures for runs in here.values()]),
            qos=mean_interval(_qos(here, picker)),
        )
        for picker in ranking
    )
    return Cell(title, results, _differences(ranking, here))


def _qos(workloads: Mapping[_Workload, Mapping[str, RuleRun]], picker: str) -> list[tuple[int, Batches]]:
    return [(seed, runs[picker].qos) for (_, seed), runs in workloads.items()]


def _differences(
    ranking: Sequence[str], workloads: Mapping[_Workload, Mapping[str, RuleRun]]
) -> dict[str, PairedDifference]:
    best, *others = ranking
    return {
        other: paired_difference([(seed, runs[best].qos, runs[other].qos) for (_, seed), runs in workloads.items()])
        for other in others
    }
