"""`pointsman bench policies`: every contestant on every scenario of the suite, on the same requests, on all cores."""

import concurrent.futures
import dataclasses
import multiprocessing
import os
import signal
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pointsman_policy.evaluation.comparison import RuleRun
from pointsman_policy.evaluation.contestants import Contestant, Knowledge, situation_for
from pointsman_policy.evaluation.metrics import figures
from pointsman_policy.evaluation.paired import batches
from pointsman_policy.evaluation.suite import SuiteScenario
from pointsman_policy.simulator.scenario import Scenario
from pointsman_policy.simulator.situation import Situation, run_situation, situation_outcomes

_TIES = 1


class Workload(NamedTuple):
    """What all contestants meet alike."""

    scenario: str
    load: float
    seed: int


@dataclass(frozen=True, eq=False)
class SuiteRun:
    """One workload under one contestant."""

    workload: Workload
    rule: RuleRun


@dataclass(frozen=True, eq=False)
class SuitePlan:
    """What to run."""

    scenarios: tuple[SuiteScenario, ...]
    prepared: Mapping[str, Scenario]
    """From `prepare`, by name."""
    contestants: tuple[Contestant, ...]
    seeds: tuple[int, ...]

    def workloads(self) -> list[Workload]:
        """Return all workloads; the first seed comes first everywhere, so that a run stopped early is an even one."""
        return [
            Workload(scenario.name, load, seed)
            for seed in self.seeds
            for scenario in self.scenarios
            for load in scenario.document.load_factors
        ]


def run_suite(plan: SuitePlan, processes: int) -> Generator[list[SuiteRun], None, None]:
    """Run every workload under all contestants; yields the runs of one workload at a time, as they come in.

    Closing the iterator, or Ctrl-C, ends the processes once they have finished the workloads that they are at.

    Args:
        plan: What to run.
        processes: How many to start; 1 = run in this one.
    """
    if processes == 1:
        for workload in plan.workloads():
            yield _run_workload(plan, workload)
        return
    compile_kernels(plan)  # once, for all processes to find in the cache on disk
    with concurrent.futures.ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(plan,)
    ) as executor:
        try:
            tasks = [executor.submit(_run_here, workload) for workload in plan.workloads()]
            for task in concurrent.futures.as_completed(tasks):
                yield task.result()
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


def compile_kernels(plan: SuitePlan) -> None:
    """Run every picker once on a few requests."""
    scenario = plan.prepared[plan.scenarios[0].name]
    scenario = dataclasses.replace(scenario, document=scenario.document.model_copy(update={"requests": 20}))
    for contestant in plan.contestants:
        _run(situation_for(contestant, scenario, 0.5, 0), contestant, 0)


def default_processes() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_plan_here: SuitePlan | None = None
"""What this process works at, if it is one of `run_suite`'s."""


def _begin(plan: SuitePlan) -> None:
    global _plan_here
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _plan_here = plan


def _run_here(workload: Workload) -> list[SuiteRun]:
    if _plan_here is None:
        raise RuntimeError("this process has no plan")
    return _run_workload(_plan_here, workload)


def _run_workload(plan: SuitePlan, workload: Workload) -> list[SuiteRun]:
    scenario = plan.prepared[workload.scenario]
    situations: dict[Knowledge, Situation] = {}
    runs = []
    for contestant in plan.contestants:
        if contestant.knowledge not in situations:
            situations[contestant.knowledge] = situation_for(contestant, scenario, workload.load, workload.seed)
        rule = _run(situations[contestant.knowledge], contestant, workload.seed)
        runs.append(SuiteRun(workload, rule))
    return runs


def _run(situation: Situation, contestant: Contestant, seed: int) -> RuleRun:
    run = run_situation(situation, contestant.picker, np.random.default_rng((seed, _TIES)))
    outcomes = situation_outcomes(situation, run)
    return RuleRun(
        picker=contestant.name,
        seed=seed,
        figures=figures(outcomes, float(run.busy_seconds.sum()), len(situation) / run.wall_seconds),
        qos=batches(outcomes.qos()),
    )


def in_order(plan: SuitePlan, runs: Sequence[SuiteRun]) -> list[SuiteRun]:
    """Return runs in the plan's order, whatever order they came in."""
    place = {workload: index for index, workload in enumerate(plan.workloads())}
    who = {contestant.name: index for index, contestant in enumerate(plan.contestants)}
    return sorted(runs, key=lambda run: (place[run.workload], who[run.rule.picker]))
