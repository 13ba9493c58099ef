"""Domain randomisation: made-up situations, as unlike each other as those that a router may meet.

Fleets, loads, bursts, lengths, objectives, ages of telemetry, wrong beliefs, predictors and admission are all drawn.
A load of 1 is the fleet's capacity as `fleet_capacity` of a scenario counts it: the sum of the experts'
`capacity_requests_per_second` at the mean lengths within the tightest per-token objective.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pointsman_policy.latency.profiles import IterationTimeCoefficients, capacity_requests_per_second
from pointsman_policy.simulator.changes import Change
from pointsman_policy.simulator.random_answers import draw_lengths_and_quality, predict
from pointsman_policy.simulator.random_arrivals import draw_arrivals
from pointsman_policy.simulator.random_changes import draw_changes
from pointsman_policy.simulator.random_fleets import RandomFleet, draw_beliefs, draw_fleet
from pointsman_policy.simulator.random_objectives import draw_objectives
from pointsman_policy.simulator.simulation import Fleet, Requests, Visibility
from pointsman_policy.simulator.situation import Situation

Floats = npt.NDArray[np.float64]

_MOST_IN_FLIGHT_SHARE = 1 / 10
"""Of a run's requests, at most so many run at once: a run is then several times as long as a request."""
_MOST_REQUESTS_PER_SECOND = 30.0
_ATTEMPTS = 12
_FRESH_CHANCE = 0.15
_PROMPT_TELEMETRY_CHANCE = 0.5
_MEAN_EXPERTS = 3.0


@dataclass(frozen=True)
class Distribution:
    """What `draw_situation` draws from; chances and shares 0 to 1."""

    requests: int = 2_000
    """In one situation."""
    experts: tuple[int, int] = (2, 16)
    """Fewest and most; mostly few."""
    loads: tuple[float, float] = (0.3, 1.5)
    """Mean arrival rate over the fleet's capacity, least and greatest."""
    admissions: tuple[str, ...] = ("Never", "ShedHopeless", "ShedSheddable")
    """Each with the same chance."""
    wrong_belief_chance: float = 0.3
    """That believed coefficients are not the true ones."""
    belief_factors: tuple[float, float] = (0.6, 1.5)
    """A wrong belief's common factor, least and greatest; log-uniform."""
    change_chance: float = 0.2
    """That an expert slows down, gets lost or is added during the run."""
    telemetry_seconds: float = 5.0
    """Longest interval between load samples, and their longest delay."""

    def __post_init__(self) -> None:
        if self.requests < 1 or not 1 <= self.experts[0] <= self.experts[1]:
            raise ValueError("a distribution needs at least one request, and experts in ascending order from 1 on")
        if not 0 < self.loads[0] <= self.loads[1] or not 0 < self.belief_factors[0] <= self.belief_factors[1]:
            raise ValueError("loads and belief factors must be above 0 and in ascending order")


def draw_situation(rng: np.random.Generator, distribution: Distribution = Distribution()) -> Situation:
    """Draw a situation; the same generator state and distribution give the same one.

    Each kind of quantity has a generator of its own, so that changing one does not disturb the others.
    """
    chances, fleets, answering, predicting, targets, timing, seeing, changing = rng.spawn(8)
    count = distribution.requests
    experts = _draw_expert_count(chances, distribution.experts)
    load = float(chances.uniform(*distribution.loads))
    admission = str(chances.choice(distribution.admissions))
    sheddable = chances.uniform(0.1, 0.6)
    wrong = bool(chances.random() < distribution.wrong_belief_chance)

    for _ in range(_ATTEMPTS):
        fleet = draw_fleet(fleets, experts, int(count * _MOST_IN_FLIGHT_SHARE / experts))
        answers = draw_lengths_and_quality(answering, count, np.unique(fleet.parameters))
        mean_prompt = float(answers.prompt_tokens.mean())
        mean_output = answers.output_tokens.mean(axis=0)[fleet.model]
        objectives = draw_objectives(targets, count, fleet.coefficients, mean_prompt, mean_output)
        rate = load * _capacity(fleet, mean_prompt, mean_output, _mean_token_seconds(objectives))
        if rate < _MOST_REQUESTS_PER_SECOND:
            break
    predictions = predict(predicting, answers)
    arrivals = draw_arrivals(timing, count, rate)
    changes: tuple[Change, ...] = ()
    if changing.random() < distribution.change_chance:
        changes = draw_changes(changing, experts, float(arrivals[-1]))
    believed = draw_beliefs(seeing, fleet.coefficients, distribution.belief_factors if wrong else None)
    return Situation(
        name=f"{experts} experts, load {load:.2f}, {admission}",
        fleet=Fleet(
            coefficients=fleet.coefficients,
            believed_coefficients=believed,
            kv_capacity=fleet.kv_capacity,
            maximum_running=fleet.maximum_running,
            quality_prior=predictions.quality.mean(axis=0)[fleet.model],
        ),
        requests=Requests(
            arrival_at=arrivals,
            prompt_tokens=answers.prompt_tokens,
            output_tokens=np.ascontiguousarray(answers.output_tokens[:, fleet.model]),
            predicted_quality=predictions.quality[:, fleet.model].astype(np.float32, order="C"),
            predicted_output_tokens=predictions.output_tokens[:, fleet.model].astype(np.float32, order="C"),
            objectives=objectives,
            priority=-(chances.random(count) < sheddable).astype(np.int64),
            quality_floor=0.0,
        ),
        quality=np.ascontiguousarray(answers.quality[:, fleet.model]),
        visibility=_draw_visibility(seeing, distribution.telemetry_seconds),
        admission=admission,
        load=load,
        changes=changes,
    )


def _draw_expert_count(rng: np.random.Generator, bounds: tuple[int, int]) -> int:
    low, high = bounds
    more = int(rng.geometric(1.0 / (1.0 + _MEAN_EXPERTS))) - 1
    return low + more % (high - low + 1)


def _draw_visibility(rng: np.random.Generator, telemetry_seconds: float) -> Visibility:
    interval = float(rng.uniform(0.1, 1.0) * telemetry_seconds)
    if rng.random() < _FRESH_CHANCE:
        interval = 0.0
    delay = float(rng.uniform(0.0, 1.0) * telemetry_seconds)
    if rng.random() < _PROMPT_TELEMETRY_CHANCE:
        delay *= 0.04
    return Visibility(
        telemetry_interval=interval,
        telemetry_delay=delay,
        outcome_delay=float(rng.uniform(0.01, 0.5)),
        progress_interval=float(rng.uniform(0.5, 2.0)),
    )


def _mean_token_seconds(objectives: Floats) -> float:
    """Return the mean of the tightest per-token objectives of those that have one; 0 if none has."""
    per_token = np.where(objectives[:, 1:] > 0.0, objectives[:, 1:], np.inf).min(axis=1)
    finite = per_token[np.isfinite(per_token)]
    return float(finite.mean()) if finite.size else 0.0


def _capacity(fleet: RandomFleet, prompt_tokens: float, output_tokens: Floats, token_seconds: float) -> float:
    return sum(
        capacity_requests_per_second(
            IterationTimeCoefficients(*map(float, fleet.coefficients[e])),
            prompt_tokens=prompt_tokens,
            output_tokens=float(output_tokens[e]),
            token_seconds=token_seconds,
            maximum_running=int(fleet.maximum_running[e]),
            kv_capacity_tokens=int(fleet.kv_capacity[e]),
        )
        for e in range(len(fleet.coefficients))
    )
