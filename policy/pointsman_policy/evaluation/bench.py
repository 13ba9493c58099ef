"""The offline benchmark: every scenario at every load with every seed under every rule, on the same requests."""

import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pointsman_policy.errors import DocumentError
from pointsman_policy.evaluation.comparison import Comparison, Objectives, RuleRun, compare
from pointsman_policy.evaluation.emulation import emulate, run_outcomes
from pointsman_policy.evaluation.metrics import figures
from pointsman_policy.evaluation.paired import batches
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.simulator.scenario import Scenario
from pointsman_policy.simulator.scenario_document import Objectives as ObjectivesDocument
from pointsman_policy.simulator.simulation import Fleet, Run
from pointsman_policy.simulator.situation import build_fleet
from pointsman_policy.simulator.workload import Workload, build_workload

RESULT_FIGURES = (
    "mean_qos",
    "slo_attainment_ratio",
    "mean_quality_served",
    "drop_ratio",
    "failure_ratio",
    "ttft_seconds_p50",
    "ttft_seconds_p99",
    "tpot_seconds_p50",
    "tpot_seconds_p99",
    "ntpot_seconds_p50",
    "ntpot_seconds_p99",
    "qos_per_busy_second",
    "decisions_per_second",
    "requests",
)
"""Figures in `results.json`."""

_TIES = 1


@dataclass(frozen=True, eq=False)
class BenchRun:
    """One run and where it belongs."""

    scenario: Scenario
    load: float
    rule: RuleRun


@dataclass(frozen=True, eq=False)
class BenchPlan:
    """What to run."""

    scenarios: tuple[Scenario, ...]
    pickers: tuple[Picker, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        names = [scenario.name for scenario in self.scenarios]
        for name in names:
            if names.count(name) > 1:
                raise DocumentError("--scenario", f"two scenarios have the name {name!r}; give each its own 'name'")

    def __len__(self) -> int:
        loads = sum(len(scenario.document.load_factors) for scenario in self.scenarios)
        return loads * len(self.seeds) * len(self.pickers)


def find_pickers(names: Sequence[str], pickers: Mapping[str, Picker] = PICKERS) -> tuple[Picker, ...]:
    """Return pickers by name, each once, in the order given.

    Raises:
        DocumentError: If a name is unknown, or there is none.
    """
    unknown = [name for name in names if name not in pickers]
    if unknown or not names:
        problem = f"no picker is named {', '.join(map(repr, unknown))}" if unknown else "no picker is given"
        raise DocumentError("--picker", f"{problem}; choose from {', '.join(sorted(pickers))}")
    return tuple(pickers[name] for name in dict.fromkeys(names))


def run_bench(plan: BenchPlan) -> Iterator[BenchRun]:
    """Run everything, one workload after the other; each workload is drawn once and given to all rules.

    The runs are the same for the same plan, but for `decisions_per_second`.
    """
    warm = False
    for scenario in plan.scenarios:
        fleet = build_fleet(scenario)
        for load in scenario.document.load_factors:
            for seed in plan.seeds:
                workload = build_workload(scenario, load, seed)
                if not warm:
                    _emulate(scenario, fleet, workload, plan.pickers[0], seed)  # compiles the simulator
                    warm = True
                for picker in plan.pickers:
                    run = _emulate(scenario, fleet, workload, picker, seed)
                    yield _bench_run(scenario, load, seed, picker, workload, run)


def _emulate(scenario: Scenario, fleet: Fleet, workload: Workload, picker: Picker, seed: int) -> Run:
    return emulate(scenario, fleet, workload, picker, np.random.default_rng((seed, _TIES)))


def _bench_run(scenario: Scenario, load: float, seed: int, picker: Picker, workload: Workload, run: Run) -> BenchRun:
    outcomes = run_outcomes(workload, run)
    rule = RuleRun(
        picker=picker.name,
        seed=seed,
        figures=figures(outcomes, float(run.busy_seconds.sum()), len(workload) / run.wall_seconds),
        qos=batches(outcomes.qos()),
    )
    return BenchRun(scenario, load, rule)


def compare_runs(runs: Sequence[BenchRun]) -> list[Comparison]:
    """Compare the rules scenario by scenario, load by load; what only some rules have run is left out."""
    by_scenario: dict[str, list[BenchRun]] = {}
    for run in runs:
        by_scenario.setdefault(run.scenario.name, []).append(run)
    comparisons = []
    for name, of_scenario in by_scenario.items():
        cells: dict[str, list[RuleRun]] = {}
        for run in of_scenario:
            cells.setdefault(f"load {run.load:g}", []).append(run.rule)
        document = of_scenario[0].scenario.document
        comparisons.append(compare(name, document.description, objective_seconds(document.objectives), cells))
    return [comparison for comparison in comparisons if comparison is not None]


def objective_seconds(document: ObjectivesDocument) -> Objectives:
    """Return a document's latency targets in seconds."""
    return Objectives(
        ttft_seconds=document.time_to_first_token_milliseconds * 1e-3,
        tpot_seconds=document.time_per_output_token_milliseconds * 1e-3,
        ntpot_seconds=document.normalized_time_per_output_token_milliseconds * 1e-3,
    )


def write_results(path: Path, runs: Sequence[BenchRun], complete: bool) -> None:
    """Write `results.json` in one step: a reader sees the old file or all of the new one.

    Args:
        path: The file.
        runs: One row each; figures that are not known are null.
        complete: False if the benchmark was stopped before its end.

    Raises:
        OSError: If it cannot be written.
    """
    rows = [
        {"scenario": run.scenario.name, "load": run.load, "seed": run.rule.seed, "picker": run.rule.picker}
        | {name: json_number(getattr(run.rule.figures, name)) for name in RESULT_FIGURES}
        for run in runs
    ]
    write_text(path, json.dumps({"meta": {"schema": 1, "complete": complete}, "rows": rows}, indent=1) + "\n")


def json_number(value: float) -> float | None:
    """Return a figure as JSON has it: null if it is not known."""
    return value if math.isfinite(value) else None


def write_text(path: Path, text: str) -> None:
    """Replace a file by another one in one step.

    Raises:
        OSError: If it cannot be written; the old file then stays.
    """
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
        file.write(text)
    temporary = Path(file.name)
    try:
        temporary.chmod(0o644)
        os.replace(temporary, path)  # noqa: PTH105
    except OSError:
        temporary.unlink()
        raise
