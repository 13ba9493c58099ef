"""The requests of one run: when they come, how long they are, how good each expert's answer is, what is predicted.

Everything is drawn before the run from the seed alone, so that all pickers meet the same requests; and each kind of
quantity has a random generator of its own, so that changing one does not disturb the others.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pointsman_policy.latency.profiles import capacity_requests_per_second
from pointsman_policy.simulator.answers import draw_answers, predict_answers, split_prompts
from pointsman_policy.simulator.arrivals import bursty, daily_shape, poisson, varying
from pointsman_policy.simulator.lengths import output_lengths, prompt_lengths
from pointsman_policy.simulator.scenario import Scenario
from pointsman_policy.simulator.scenario_document import ScenarioDocument, Targets


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """n requests in the order of their arrival, and E experts."""

    arrival_seconds: npt.NDArray[np.float64]
    """[n], non-decreasing."""
    prompt_tokens: npt.NDArray[np.int64]
    """[n], at least 1."""
    output_tokens: npt.NDArray[np.int64]
    """[n, E], at least 1: the true length of each expert's answer."""
    quality: npt.NDArray[np.float32]
    """[n, E], 0 to 1: the true quality of each expert's answer."""
    predicted_quality: npt.NDArray[np.float32]
    """[n, E], 0 to 1."""
    predicted_output_tokens: npt.NDArray[np.float32]
    """[n, E], at least 1."""
    objectives: npt.NDArray[np.float64]
    """[n, 3]: TTFT, TPOT and NTPOT, seconds; 0 = none."""
    priority: npt.NDArray[np.int64]
    """[n]; below 0 = sheddable."""
    prompt_index: npt.NDArray[np.int64]
    """[n], row of the scenario's table; -1 = none."""

    def __len__(self) -> int:
        return len(self.arrival_seconds)


def build_workload(scenario: Scenario, load_factor: float, seed: int) -> Workload:
    """Draw a run's requests; another load factor moves the same requests closer together or further apart.

    Args:
        scenario: What to draw from.
        load_factor: Mean arrival rate over the fleet's capacity, above 0.
        seed: Any non-negative integer.
    """
    document = scenario.document
    # One child each, in this order for ever: a new quantity goes to the end, so that the others stay as they are.
    timing, choice, prompt, answer, prediction, urgency, demands = map(
        np.random.default_rng, np.random.SeedSequence(seed).spawn(7)
    )
    arrival_seconds, trace_rows = _draw_arrivals(scenario, timing, load_factor * fleet_capacity(scenario))
    prompt_rows = _draw_prompts(scenario, choice)
    truth = draw_answers(scenario, answer, prompt_rows, trace_rows)
    predicted = predict_answers(scenario, prediction, prompt_rows, truth)
    columns = [scenario.quality_models.index(expert.quality_model) for expert in scenario.experts]
    return Workload(
        arrival_seconds=arrival_seconds,
        prompt_tokens=prompt_lengths(scenario).draw(prompt, prompt_rows, trace_rows)[:, 0].astype(np.int64),
        output_tokens=truth.output_tokens[:, columns].astype(np.int64),
        quality=truth.quality[:, columns].astype(np.float32),
        predicted_quality=predicted.quality[:, columns].astype(np.float32),
        predicted_output_tokens=predicted.output_tokens[:, columns].astype(np.float32),
        objectives=_draw_objectives(document, demands),
        priority=-(urgency.random(document.requests) < document.admission.sheddable_percent / 100).astype(np.int64),
        prompt_index=prompt_rows,
    )


def fleet_capacity(scenario: Scenario) -> float:
    """Return the requests per second that the fleet carries within the per-token objective: load factor 1.

    It is the sum of the experts' `capacity_requests_per_second` at the scenario's mean lengths, with their true
    coefficients.
    """
    evaluation_rows = split_prompts(scenario)[1]
    prompt_tokens = float(prompt_lengths(scenario).moments(evaluation_rows).mean[0])
    output_tokens = output_lengths(scenario).moments(evaluation_rows).mean
    return sum(
        capacity_requests_per_second(
            expert.coefficients,
            prompt_tokens=prompt_tokens,
            output_tokens=float(output_tokens[scenario.quality_models.index(expert.quality_model)]),
            token_seconds=scenario.token_seconds_objective,
            maximum_running=expert.maximum_running,
            kv_capacity_tokens=expert.kv_capacity_tokens,
        )
        for expert in scenario.experts
    )


def _draw_arrivals(
    scenario: Scenario, rng: np.random.Generator, rate: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return arrival seconds, and the trace's row of each request (all 0 without a trace)."""
    document, count, trace = scenario.document.arrivals, scenario.document.requests, scenario.trace
    rows = np.zeros(count, np.int64)
    if trace is not None:
        start = int(rng.integers(len(trace)))
        rows = (start + np.arange(count)) % len(trace)
        if document.kind == "trace":
            return trace.window(start, count).at_rate(rate).arrival_seconds, rows
    if document.kind == "diurnal":
        shape = daily_shape() if scenario.rates is None else scenario.rates.day(int(rng.integers(len(scenario.rates))))
        return varying(rng, rate, count, document.coefficient_of_variation, shape), rows
    if document.kind == "bursty":
        return bursty(rng, rate, count, document.coefficient_of_variation), rows
    return poisson(rng, rate, count), rows


def _draw_prompts(scenario: Scenario, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return a row of the table for each request: each evaluation prompt once, in random order, then all over again."""
    count = scenario.document.requests
    rows = split_prompts(scenario)[1]
    if not rows.size:
        return np.full(count, -1, np.int64)
    rounds = -(-count // len(rows))
    return np.concatenate([rng.permutation(rows) for _ in range(rounds)])[:count].astype(np.int64)


def _draw_objectives(document: ScenarioDocument, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return (TTFT, TPOT, NTPOT) seconds of each request, [n, 3]."""
    kinds = np.stack([_seconds(targets) for targets in (*document.objective_classes, document.objectives)])
    edges = np.cumsum([entry.share_percent / 100 for entry in document.objective_classes])
    objectives: npt.NDArray[np.float64] = kinds[np.searchsorted(edges, rng.random(document.requests), side="right")]
    return objectives


def _seconds(targets: Targets) -> npt.NDArray[np.float64]:
    milliseconds = (
        targets.time_to_first_token_milliseconds,
        targets.time_per_output_token_milliseconds,
        targets.normalized_time_per_output_token_milliseconds,
    )
    return np.array(milliseconds) * 1e-3
