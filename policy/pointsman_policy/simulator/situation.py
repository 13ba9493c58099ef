"""A situation: everything about one run but the picker, whether made up or drawn from a scenario."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pointsman_policy.latency.profiles import IterationTimeCoefficients
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.simulator.answers import quality_moments, split_prompts
from pointsman_policy.simulator.outcomes import Outcomes
from pointsman_policy.simulator.scenario import Scenario
from pointsman_policy.simulator.simulation import Change, Fleet, Requests, Run, Visibility, simulate
from pointsman_policy.simulator.workload import Workload, build_workload
from pointsman_policy.state import DROP


@dataclass(frozen=True, eq=False)
class Situation:
    """n requests that E experts are to serve."""

    name: str
    fleet: Fleet
    requests: Requests
    quality: npt.NDArray[np.float64]
    """True quality of each expert's answer, 0 to 1, [n, E]."""
    visibility: Visibility
    admission: str
    """Never, ShedSheddable or ShedHopeless."""
    load: float = 1.0
    """Mean arrival rate over the fleet's capacity."""
    changes: tuple[Change, ...] = ()
    """What happens to the fleet during the run."""

    def __len__(self) -> int:
        return len(self.requests.arrival_at)

    @property
    def may_drop(self) -> bool:
        """Whether any request may be shed."""
        return self.admission != "Never"


def situation_from_scenario(scenario: Scenario, load: float, seed: int) -> Situation:
    """Draw a run of a scenario, the same that `pointsman bench` makes of this load factor and seed."""
    workload = build_workload(scenario, load, seed)
    return Situation(
        name=scenario.name,
        fleet=build_fleet(scenario),
        requests=build_requests(scenario, workload),
        quality=workload.quality.astype(np.float64),
        visibility=build_visibility(scenario),
        admission=scenario.document.admission.mode,
        load=load,
        changes=build_changes(scenario, workload),
    )


def run_situation(situation: Situation, picker: Picker, rng: np.random.Generator) -> Run:
    """Send a situation's requests through its fleet.

    Args:
        situation: The fleet, the requests and what is seen of them.
        picker: The rule.
        rng: Breaks ties.
    """
    return simulate(
        situation.fleet,
        situation.requests,
        picker,
        rng,
        situation.visibility,
        situation.admission,
        situation.changes,
    )


def situation_outcomes(situation: Situation, run: Run) -> Outcomes:
    """Return what became of a situation's requests in a run."""
    requests = situation.requests
    dropped = run.expert == DROP
    rows, columns = np.arange(len(situation)), np.maximum(run.expert, 0)
    return Outcomes(
        arrival_at=requests.arrival_at,
        first_token_at=run.first_token_at,
        end_at=run.finished_at,
        output_tokens=requests.output_tokens[rows, columns],
        quality=situation.quality[rows, columns],
        objectives=requests.objectives,
        answered=~dropped & ~np.isnan(run.finished_at),
        dropped=dropped,
    )


def qos(situation: Situation, run: Run) -> npt.NDArray[np.float64]:
    """Return the QoS of each request in a run, 0 to 1, [n]."""
    return situation_outcomes(situation, run).qos()


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
        progress_interval=outcomes.progress_milliseconds * 1e-3,
        discovery_delay=telemetry.discovery_milliseconds * 1e-3,
    )


def build_changes(scenario: Scenario, workload: Workload) -> tuple[Change, ...]:
    """Return what happens to the scenario's experts while a workload arrives."""
    end = float(workload.arrival_seconds[-1])
    names = [expert.name for expert in scenario.experts]
    return tuple(
        Change(
            at_seconds=end * change.at_percent / 100,
            expert=names.index(change.expert),
            kind=change.kind,
            value=(change.iteration_time_percent or 100) / 100,
        )
        for change in scenario.document.changes
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
