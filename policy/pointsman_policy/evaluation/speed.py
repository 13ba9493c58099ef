"""How fast the simulator is: ``python -m pointsman_policy.evaluation.speed`` prints a table.

One core, three unlike experts, Poisson arrivals at 0.9 of what they can carry. Compiling is left out, and so is
drawing the workload; the rest of a run counts, in seconds of processor time.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from pointsman_policy.evaluation.emulation import emulate
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.simulator.sample import data_folder
from pointsman_policy.simulator.scenario import Scenario, resolve_scenario
from pointsman_policy.simulator.scenario_document import ScenarioDocument
from pointsman_policy.simulator.situation import build_fleet
from pointsman_policy.simulator.workload import build_workload

RULES = ("RoundRobin", "ShortestQueue", "SloFilteredQuality", "ImpactGreedy")
REQUESTS = 100_000
LOAD = 0.9


@dataclass(frozen=True)
class Speed:
    """Simulated requests per second of one core under one rule."""

    picker: str
    requests_per_second: float
    """Median over repeats."""
    slowest: float
    fastest: float


def speed_scenario(requests: int) -> Scenario:
    """Return the scenario that is timed."""
    document = ScenarioDocument.model_validate(
        {
            "name": "speed",
            "experts": [
                {"name": "small", "model": "gemma-2-2b", "gpu": "A10"},
                {"name": "middle", "model": "Llama-3.1-8B", "gpu": "L40S"},
                {"name": "large", "model": "gemma-2-9b", "gpu": "A100-SXM-80G"},
            ],
            "requests": requests,
            "quality": {"scores": "scores.csv", "prompts": "prompts.csv"},
            "loadFactors": [LOAD],
        }
    )
    return resolve_scenario(document, data_folder(), "speed")


def measure_speed(rules: Sequence[str] = RULES, requests: int = REQUESTS, repeats: int = 5) -> list[Speed]:
    """Run the same workload several times under each rule.

    Args:
        rules: Names of pickers.
        requests: In one run, at least 1.
        repeats: Timed runs of each rule, at least 1; the rules take turns.
    """
    scenario = speed_scenario(requests)
    fleet, workload = build_fleet(scenario), build_workload(scenario, LOAD, seed=1)
    pickers = [PICKERS[name] for name in rules]
    speeds: dict[str, list[float]] = {name: [] for name in rules}
    for repeat in range(-1, repeats):
        for picker in pickers:
            started = time.process_time()  # what else runs on a shared machine counts less than on a wall clock
            emulate(scenario, fleet, workload, picker, np.random.default_rng(1))
            if repeat >= 0:  # the first round compiles
                speeds[picker.name].append(requests / (time.process_time() - started))
    return [Speed(name, statistics.median(values), min(values), max(values)) for name, values in speeds.items()]


def speed_table(speeds: Sequence[Speed]) -> Table:
    """Return measured speeds as a table."""
    table = Table(title=f"Simulated requests per second and core, 3 experts at {LOAD} of capacity")
    table.add_column("Rule")
    for heading in ("Median", "Slowest", "Fastest"):
        table.add_column(heading, justify="right")
    for speed in speeds:
        values = (speed.requests_per_second, speed.slowest, speed.fastest)
        table.add_row(speed.picker, *(f"{value:,.0f}" for value in values))
    return table


if __name__ == "__main__":
    Console().print(speed_table(measure_speed()))
