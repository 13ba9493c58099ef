"""Suites whose results are made up, so that what follows from them is known."""

from collections.abc import Callable, Sequence

import numpy as np

from pointsman_policy.evaluation.comparison import RuleRun
from pointsman_policy.evaluation.contestants import Contestant, line_up
from pointsman_policy.evaluation.materials import packaged
from pointsman_policy.evaluation.metrics import Figures
from pointsman_policy.evaluation.paired import Batches
from pointsman_policy.evaluation.policies import SuitePlan, SuiteRun, Workload
from pointsman_policy.evaluation.standings import Standings, standings
from pointsman_policy.evaluation.suite import suite

Quality = Callable[[Contestant, Workload], float]
"""Mean QoS of a contestant's run."""


def plan(names: Sequence[str], seeds: Sequence[int] = (1, 2, 3)) -> SuitePlan:
    chosen = tuple(one for one in suite(packaged(), 100) if one.name in names)
    assert len(chosen) == len(names)
    return SuitePlan(chosen, {}, line_up(), tuple(seeds))


def made_up(names: Sequence[str], quality: Quality, seeds: Sequence[int] = (1, 2, 3)) -> Standings:
    chosen = plan(names, seeds)
    runs = [
        SuiteRun(workload, run_of(contestant.name, workload, quality(contestant, workload)))
        for workload in chosen.workloads()
        for contestant in chosen.contestants
    ]
    return standings(chosen, runs)


def run_of(name: str, workload: Workload, qos: float, drop_ratio: float = 0.0) -> RuleRun:
    latencies = {field: np.nan for field in Figures.__dataclass_fields__ if field.endswith(("_p50", "_p99"))}
    figures = Figures(
        requests=100,
        mean_qos=qos,
        slo_attainment_ratio=qos,
        mean_quality_served=np.nan,
        drop_ratio=drop_ratio,
        failure_ratio=0.0,
        qos_per_busy_second=np.nan,
        decisions_per_second=np.nan,
        **latencies,
    )
    return RuleRun(name, workload.seed, figures, Batches(np.full(4, 25 * qos), np.full(4, 25)))


def steady(levels: dict[str, float], default: float = 0.3) -> Quality:
    """Return a quality that depends on the contestant, and a little on the seed in the same way for all."""
    return lambda contestant, workload: levels.get(contestant.name, default) + 0.001 * (workload.seed % 5)
