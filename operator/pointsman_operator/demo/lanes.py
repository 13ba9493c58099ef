"""The rules side by side: each has a policy and a fleet of its own, twins of the scenario's."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pointsman_operator.demo.workload import DemoWorkload
from pointsman_policy.experts import Expert, IterationTime, Simulation
from pointsman_policy.latency.profiles import IterationTimeCoefficients
from pointsman_policy.simulator.answers import quality_moments, split_prompts
from pointsman_policy.simulator.lengths import output_lengths
from pointsman_policy.simulator.scenario import Scenario

RULE_LABEL = "pointsman.io/rule"


@dataclass(frozen=True, slots=True)
class Lane:
    """One rule."""

    picker: str
    slug: str
    """The picker's name in lower case, for names of objects."""
    experts: tuple[Expert, ...]
    """Its fleet."""

    @property
    def model_name(self) -> str:
        """What its clients put in "model"."""
        return f"edge-{self.slug}"


def build_lanes(workload: DemoWorkload, pickers: Sequence[str], free_address: Callable[[str], str]) -> tuple[Lane, ...]:
    """Return a lane for each rule.

    What is believed of the experts comes from the prompts set aside for fitting, which are not among those sent.

    Args:
        workload: Its scenario has the fleet.
        pickers: Each once.
        free_address: Returns an "ip:port" at an IP that nothing listens at.
    """
    twins = fleet(workload.scenario)
    lanes = []
    for number, picker in enumerate(pickers, start=1):
        slug = re.sub(r"(?<!^)(?=[A-Z])", "-", picker).lower()
        experts = tuple(
            expert.model_copy(
                update={
                    "name": f"{expert.name}.{slug}",
                    "endpoint": free_address(f"127.0.{number}.{index % 254 + 1}"),
                    "labels": {RULE_LABEL: slug},
                }
            )
            for index, expert in enumerate(twins)
        )
        lanes.append(Lane(picker, slug, experts))
    return tuple(lanes)


def fleet(scenario: Scenario) -> tuple[Expert, ...]:
    """Return the scenario's experts; their models are named as in the quality table, so that answers are found."""
    fit_rows = split_prompts(scenario)[0]
    quality = quality_moments(scenario, fit_rows).mean
    tokens = output_lengths(scenario).moments(fit_rows).mean
    experts = []
    for expert in scenario.experts:
        column = scenario.quality_models.index(expert.quality_model)
        experts.append(
            Expert(
                name=expert.name,
                endpoint="127.0.0.1:1",
                model=expert.quality_model,
                gpu=expert.gpu,
                quality_prior_percent=round(100 * float(np.clip(quality[column], 0, 1))),
                output_tokens_prior=max(round(float(tokens[column])), 1),
                maximum_running=expert.maximum_running,
                kv_capacity_tokens=expert.kv_capacity_tokens,
                iteration_time=_milliseconds(expert.believed),
                simulation=Simulation(iteration_time=_milliseconds(expert.coefficients)),
            )
        )
    return tuple(experts)


def _milliseconds(coefficients: IterationTimeCoefficients) -> IterationTime:
    return IterationTime(
        base_milliseconds=coefficients.base_seconds * 1e3,
        per_sequence_milliseconds=coefficients.per_sequence_seconds * 1e3,
        per_context_token_milliseconds=coefficients.per_context_token_seconds * 1e3,
        per_prefill_token_milliseconds=coefficients.per_prefill_token_seconds * 1e3,
    )
