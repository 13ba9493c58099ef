"""From a scenario to a run of the simulator and back to outcomes."""

import numpy as np

from pointsman_policy.evaluation.metrics import Outcomes
from pointsman_policy.latency.profiles import IterationTimeCoefficients
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.simulator.answers import quality_moments, split_prompts
from pointsman_policy.simulator.scenario import Scenario
from pointsman_policy.simulator.simulation import Fleet, Requests, Run, Visibility, simulate
from pointsman_policy.simulator.workload import Workload
from pointsman_policy.state import DROP

_NEVER_SECONDS = 1e9


def build_fleet(scenario: Scenario) -> Fleet:
    """Return the experts as they are, and as the scenario's beliefs have them."""
    experts = scenario.experts
    quality_prior = quality_moments(scenario, split_prompts(scenario)[0]).mean
    columns = [scenario.quality_models.index(expert.quality_model) for expert in experts]
    return Fleet(
        coefficients=np.array([_row(expert.coefficients) for expert in experts]),
        believed_coefficients=np.array([_row(expert.believed) for expert in experts]),
        kv_capacity=np.array([expert.kv_capacity_tokens for expert in experts], np.float64),
        maximum_running=np.array([expert.maximum_running for expert in experts], np.int64),
        quality_prior=np.asarray(quality_prior, np.float64)[columns],
    )


def _row(coefficients: IterationTimeCoefficients) -> tuple[float, float, float, float]:
    return (
        coefficients.base_seconds,
        coefficients.per_sequence_seconds,
        coefficients.per_context_token_seconds,
        coefficients.per_prefill_token_seconds,
    )


def build_visibility(scenario: Scenario) -> Visibility:
    """Return how late the scenario's router learns what happens."""
    telemetry, outcomes = scenario.document.telemetry, scenario.document.outcomes
    return Visibility(
        telemetry_interval=telemetry.interval_milliseconds * 1e-3,
        telemetry_delay=telemetry.delay_milliseconds * 1e-3,
        outcome_delay=outcomes.delay_milliseconds * 1e-3,
        progress_interval=outcomes.progress_milliseconds * 1e-3 or _NEVER_SECONDS,
    )


def build_requests(scenario: Scenario, workload: Workload) -> Requests:
    """Return what the simulator needs of a workload."""
    return Requests(
        arrival_at=workload.arrival_seconds,
        prompt_tokens=workload.prompt_tokens,
        output_tokens=workload.output_tokens,
        predicted_quality=workload.predicted_quality,
        predicted_output_tokens=workload.predicted_output_tokens,
        objectives=workload.objectives,
        priority=workload.priority,
        quality_floor=scenario.document.objectives.quality_floor_percent / 100,
    )


def emulate(scenario: Scenario, fleet: Fleet, workload: Workload, picker: Picker, rng: np.random.Generator) -> Run:
    """Send a workload through the scenario's emulated fleet.

    Args:
        scenario: Gives visibility and admission.
        fleet: From `build_fleet`.
        workload: From `build_workload`.
        picker: The rule.
        rng: Breaks ties.
    """
    requests = build_requests(scenario, workload)
    return simulate(fleet, requests, picker, rng, build_visibility(scenario), scenario.document.admission.mode)


def run_outcomes(workload: Workload, run: Run) -> Outcomes:
    """Return what became of a workload's requests in a run."""
    dropped = run.expert == DROP
    rows, columns = np.arange(len(workload)), np.maximum(run.expert, 0)
    return Outcomes(
        arrival_at=workload.arrival_seconds,
        first_token_at=run.first_token_at,
        end_at=run.finished_at,
        output_tokens=workload.output_tokens[rows, columns],
        quality=workload.quality[rows, columns].astype(np.float64),
        objectives=workload.objectives,
        answered=~dropped & ~np.isnan(run.finished_at),
        dropped=dropped,
    )
