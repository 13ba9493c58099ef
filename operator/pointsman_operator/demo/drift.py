"""A fleet that changes in the middle of a run, and three policies that know of it to different degrees."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pointsman_operator.demo.lanes import RULE_LABEL, Lane, fleet
from pointsman_operator.demo.workload import DemoWorkload
from pointsman_policy.experts import Expert, IterationTime
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.registry.version import PolicyVersion
from pointsman_policy.simulator.scenario import Scenario

PICKER = "HanActor"
DECLARED, LEARNING, INFORMED = "declared", "learning", "informed"
"""Goes by what was declared before the change; learns from outcomes; was told of the change beforehand."""
LANES = (DECLARED, LEARNING, INFORMED)


@dataclass(frozen=True, slots=True)
class Drift:
    """What changes."""

    at_seconds: float
    """Since the start."""
    slow_expert: str
    """Its iterations take longer from then on, and nobody is told."""
    pace: float
    """Times as long."""
    poor_model: str
    """Its answers are worse from then on."""
    quality_factor: float
    """Of their quality before."""


def drifted(workload: DemoWorkload, drift: Drift) -> DemoWorkload:
    """Return a workload whose answers' quality changes as a drift says."""
    quality = workload.requests.quality.copy()
    after = workload.requests.arrival_seconds >= drift.at_seconds
    for column, expert in enumerate(workload.scenario.experts):
        if expert.quality_model == drift.poor_model:
            quality[after, column] *= drift.quality_factor
    return replace(workload, requests=replace(workload.requests, quality=quality))


def drift_lanes(scenario: Scenario, drift: Drift, free_address: Callable[[str], str]) -> tuple[Lane, ...]:
    """Return a lane for each of `LANES`: twin fleets, of which the last is declared as it will be.

    Args:
        scenario: Has the fleet.
        drift: What will change.
        free_address: Returns an "ip:port" at an IP that nothing listens at.
    """
    lanes = []
    for number, slug in enumerate(LANES, start=1):
        experts = [_told(one, drift) if slug == INFORMED else one for one in fleet(scenario)]
        named = tuple(
            expert.model_copy(
                update={
                    "name": expert_name(expert.name, slug),
                    "endpoint": free_address(f"127.0.{number}.{index + 1}"),
                    "labels": {RULE_LABEL: slug},
                }
            )
            for index, expert in enumerate(experts)
        )
        lanes.append(Lane(PICKER, slug, named))
    return tuple(lanes)


def expert_name(name: str, slug: str) -> str:
    """Return what a scenario's expert is called in a lane."""
    return f"{name}.{slug}"


def _told(expert: Expert, drift: Drift) -> Expert:
    """Return an expert declared as it is after the change."""
    updates: dict[str, object] = {}
    if expert.name == drift.slow_expert and expert.iteration_time is not None:
        slower = {name: value * drift.pace for name, value in expert.iteration_time.model_dump().items()}
        updates["iteration_time"] = IterationTime(**slower)
    if expert.model == drift.poor_model:
        updates["quality_prior_percent"] = round(expert.quality_prior_percent * drift.quality_factor)
    return expert.model_copy(update=updates)


def poisoned(version: PolicyVersion) -> PolicyVersion:
    """Return a version that believes the opposite: fast experts are slow, and the worst model is the best."""
    known = version.calibration
    slowest_first = sorted(known.experts, key=lambda name: known.experts[name].base_seconds, reverse=True)
    experts = {name: known.experts[other] for name, other in zip(slowest_first, reversed(slowest_first), strict=True)}
    models = {
        name: one.model_copy(update={"quality": None if one.quality is None else 1.0 - one.quality})
        for name, one in known.models.items()
    }
    calibration = Calibration(experts=experts, models=models)
    return replace(version, calibration=calibration, training={"by": "hand, to do harm"})


def judged(workload: DemoWorkload, percent: int, rng: np.random.Generator) -> list[dict[str, float]]:
    """Return what a judge says of each model's answer to each request; of most requests nothing.

    Args:
        workload: Knows how good the answers are.
        percent: Share of the requests that are judged.
        rng: Draws which.
    """
    columns = workload.expert_of()
    quality = workload.requests.quality
    chosen = rng.random(len(quality)) < percent / 100
    return [
        {model: float(quality[row, column]) for model, column in columns.items()} if chosen[row] else {}
        for row in range(len(quality))
    ]
