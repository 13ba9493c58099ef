import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pytest

from pointsman_policy.latency.estimator import estimate_all, estimates, normal_cdf, tightest, work_seconds
from pointsman_policy.latency.profiles import IterationTimeCoefficients, capacity_requests_per_second
from pointsman_policy.ledger import new_ledger, open_entry
from pointsman_policy.reckoning import BELIEF, new_loads, note_prefill, reckon
from pointsman_policy.simulator.engine import COEFFICIENTS, Engine, advance, enqueue, generated, new_engine
from pointsman_policy.state import Record, RoutingState, empty_state

L40S_8B = (0.0207, 3.1e-5, 2.08e-7, 5.8e-5)

Lengths: TypeAlias = Callable[[np.random.Generator], tuple[int, int]]


def alike(rng: np.random.Generator) -> tuple[int, int]:
    return 400, 200


def unlike(rng: np.random.Generator) -> tuple[int, int]:
    return int(rng.integers(50, 1_500)), int(rng.lognormal(0, 0.7) * 200) + 1


@dataclass(frozen=True)
class Case:
    """An expert under Poisson arrivals, and the errors that its predictions may have (median of predicted/true)."""

    rate: float
    lengths: Lengths
    ttft: tuple[float, float]
    tpot: tuple[float, float]
    ntpot: tuple[float, float]
    maximum_running: int = 256
    kv_capacity: float = 0
    probe: tuple[int, int] = (400, 200)


CASES = {
    "idle": Case(1e-6, alike, (0.999, 1.001), (0.999, 1.001), (0.999, 1.001)),
    "light": Case(2, alike, (0.8, 1.2), (0.97, 1.05), (0.97, 1.05)),
    "half full": Case(10, alike, (0.7, 1.2), (0.93, 1.07), (0.93, 1.07)),
    "half full, unlike lengths": Case(8, unlike, (0.6, 1.2), (0.85, 1.1), (0.85, 1.1)),
    "half full, long prompt": Case(8, unlike, (0.8, 1.1), (0.8, 1.1), (0.8, 1.1), probe=(4_000, 200)),
    "full batch with a short queue": Case(3, alike, (0.8, 1.3), (0.95, 1.05), (0.93, 1.1), maximum_running=16),
    "full batch with a queue": Case(4, alike, (0.8, 1.1), (0.95, 1.05), (0.88, 1.05), maximum_running=16),
    "full batch, unlike lengths": Case(8, unlike, (0.9, 1.2), (0.95, 1.1), (0.95, 1.15), maximum_running=32),
    "short of cache": Case(4, alike, (0.7, 1.1), (0.85, 1.1), (0.8, 1.05), kv_capacity=8_000),
    "short of cache, unlike lengths": Case(5, unlike, (0.8, 1.1), (0.9, 1.1), (0.85, 1.1), kv_capacity=16_000),
}


def believed_state(engine: Engine, arrivals: list[float], lengths: list[tuple[int, int]], now: float) -> RoutingState:
    """Return what a router makes of its own requests, told everything up to now and all lengths."""
    ledger, loads, beliefs = new_ledger(1, len(arrivals) + 1), new_loads(1), np.zeros(1, BELIEF)
    expert = engine.expert[0]
    for name in COEFFICIENTS:
        beliefs[name] = expert[name]
    beliefs["kv_capacity_tokens"] = expert["kv_capacity"] if expert["kv_capacity"] < np.inf else 0
    beliefs["maximum_running_count"] = expert["maximum_running"]
    for i, (arrival, (prompt, output)) in enumerate(zip(arrivals, lengths, strict=True)):
        note_prefill(loads, 0, arrival, float(prompt))
        if np.isnan(engine.request[i]["finished_at"]):
            entry = ledger.entry[open_entry(ledger, 0)]
            entry["arrival_at"] = arrival
            entry["first_token_at"] = engine.request[i]["first_token_at"]
            entry["expected_first_token_at"] = math.inf
            entry["progress_at"] = expert["clock"]
            entry["tokens"] = generated(engine, 0, i)
            entry["prompt_tokens"], entry["predicted_output_tokens"] = prompt, output
    state = empty_state(1)
    reckon(ledger, beliefs, loads, np.arange(1), now, state)
    state.allowed[:] = True
    return state


def predicted_over_true(case: Case, seed: int, now: float = 20.0) -> tuple[float, float, float]:
    """Return the ratios of TTFT, TPOT and NTPOT for one request that comes in the midst of others."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, now + 30, rng.poisson(case.rate * (now + 30)))).tolist()
    before = [t for t in times if t < now]
    lengths = [case.lengths(rng) for _ in times]
    limits = np.array([float(case.kv_capacity)]), np.array([case.maximum_running])
    engine = new_engine(np.array([L40S_8B]), *limits, len(times) + 1)
    for i, t in enumerate(before):
        advance(engine, 0, t)
        enqueue(engine, 0, i, *lengths[i], t)
    advance(engine, 0, now)
    state = believed_state(engine, before, lengths[: len(before)], now)
    prompt, output = case.probe
    state.request["prompt_tokens"] = prompt
    state.candidate["predicted_output_tokens"] = output
    predicted = estimates(state)[0]
    enqueue(engine, 0, len(times), prompt, output, now)
    for i, t in enumerate(times[len(before) :], len(before)):
        advance(engine, 0, t)
        enqueue(engine, 0, i, *lengths[i], t)
    advance(engine, 0, math.inf)
    probe = engine.request[len(times)]
    first, end = float(probe["first_token_at"]) - now, float(probe["finished_at"]) - now
    return (
        float(predicted["ttft_seconds"]) / first,
        float(predicted["tpot_seconds"]) / ((end - first) / (output - 1)),
        float(predicted["ntpot_seconds"]) / (end / output),
    )


@pytest.mark.parametrize("name", CASES)
def test_predictions_are_near_what_the_engine_does(name: str) -> None:
    case = CASES[name]
    ttft, tpot, ntpot = np.median([predicted_over_true(case, seed) for seed in range(15)], axis=0)
    assert case.ttft[0] < ttft < case.ttft[1]
    assert case.tpot[0] < tpot < case.tpot[1]
    assert case.ntpot[0] < ntpot < case.ntpot[1]


def state_of(
    running: float = 0,
    waiting: float = 0,
    prompt: float = 200,
    output: float = 100,
    maximum_running: float = 16,
    listed: float = 10,
    **objectives: float,
) -> RoutingState:
    """Return one expert with like requests, each half way through its 200 tokens after 5 seconds."""
    state = empty_state(1, 16, 16)
    expert = state.expert
    expert["base_seconds"], expert["per_sequence_seconds"] = 0.02, 2e-4
    expert["per_context_token_seconds"], expert["per_prefill_token_seconds"] = 1e-6, 5e-5
    expert["maximum_running_count"] = maximum_running
    expert["running_request_count"], expert["waiting_request_count"] = running, waiting
    expert["running_context_tokens"], expert["running_remaining_tokens"] = 300 * running, 100 * running
    expert["waiting_prompt_tokens"], expert["waiting_output_tokens"] = 200 * waiting, 200 * waiting
    for slots, mask, count, tokens in (
        (state.running, state.running_mask, running, 100),
        (state.waiting, state.waiting_mask, waiting, 0),
    ):
        mask[0, : int(min(count, listed))] = True
        slots["prompt_tokens"], slots["predicted_output_tokens"], slots["predicted_quality"] = 200, 200, 0.6
        slots["generated_tokens"] = tokens
        slots["age_seconds"] = 2.5 if tokens else 0.5
        slots["decode_age_seconds"] = 2.4 if tokens else 0.0
    state.request["prompt_tokens"] = prompt
    state.candidate["predicted_output_tokens"] = output
    state.allowed[:] = True
    for name, seconds in objectives.items():
        state.request[f"{name}_objective_seconds"] = seconds
        state.running[f"{name}_objective_seconds"] = seconds
        state.waiting[f"{name}_objective_seconds"] = seconds
    return state


def estimate_of(state: RoutingState) -> Record:
    return estimates(state)[0]


def test_an_idle_expert_is_worked_out_by_hand() -> None:
    row = estimate_of(state_of())
    ttft = 0.02 + 2e-4 + 1e-6 * 200 + 5e-5 * 200
    tpot = 0.02 + 2e-4 + 1e-6 * (200 + 50)
    assert row["ttft_seconds"] == pytest.approx(ttft)
    assert row["tpot_seconds"] == pytest.approx(tpot)
    assert row["ntpot_seconds"] == pytest.approx((ttft + 99 * tpot) / 100)


@pytest.mark.parametrize("field", ["ttft_seconds", "tpot_seconds", "ntpot_seconds"])
def test_predictions_grow_with_load_and_with_the_prompt(field: str) -> None:
    by_load = [estimate_of(state_of(running, 0))[field] for running in range(16)]
    by_queue = [estimate_of(state_of(16, waiting))[field] for waiting in range(16)]
    by_prompt = [estimate_of(state_of(4, 0, prompt=prompt))[field] for prompt in (1, 100, 1_000, 10_000)]
    assert (np.diff(by_load) > 0).all()
    assert (np.diff(by_queue) > -1e-3 * by_queue[0]).all()
    assert (np.diff(by_prompt) > 0).all()


def test_a_queue_adds_to_the_first_token() -> None:
    waits = [estimate_of(state_of(16, waiting))["ttft_seconds"] for waiting in (0, 8, 16)]
    assert waits[0] > 10 * estimate_of(state_of(15))["ttft_seconds"]
    assert (np.diff(waits) > 0).all()


@pytest.mark.parametrize("kind", ["ttft", "tpot", "ntpot"])
def test_the_probability_is_a_probability_and_grows_with_the_objective(kind: str) -> None:
    for running, waiting in ((0, 0), (8, 0), (16, 10)):
        chances = [
            float(estimate_of(state_of(running, waiting, **{kind: seconds}))["slo_probability"])
            for seconds in (1e-4, 0.01, 0.02, 0.03, 0.05, 0.3, 3.0, 300.0)
        ]
        assert all(0 <= chance <= 1 for chance in chances)
        assert (np.diff(chances) >= 0).all()
        assert chances[0] < 0.03
        assert chances[-1] > 0.99


def test_every_objective_counts() -> None:
    hard = estimate_of(state_of(8, ttft=0.035))["slo_probability"]
    both = estimate_of(state_of(8, ttft=0.035, ntpot=0.5, tpot=0.5))["slo_probability"]
    assert 0.05 < hard < 0.95
    assert both == pytest.approx(hard, abs=1e-3)


def test_without_objectives_every_request_meets_them_and_harms_nobody() -> None:
    row = estimate_of(state_of(16, 16, prompt=30_000))
    assert row["slo_probability"] == 1
    assert row["impact"] == 0


def test_pessimism_multiplies_predicted_times() -> None:
    state = state_of(8)
    rows = np.zeros(1, estimates(state).dtype)
    plain = estimate_of(state).copy()
    estimate_all(state, 1.5, 0.25, 0.5, rows)
    for field in ("ttft_seconds", "tpot_seconds", "ntpot_seconds"):
        assert rows[0][field] == pytest.approx(1.5 * plain[field])


def test_an_idle_expert_has_nobody_to_harm() -> None:
    assert estimate_of(state_of(0, 0, prompt=30_000, ntpot=0.03))["impact"] == 0


@pytest.mark.parametrize("kind", ["tpot", "ntpot"])
def test_the_impact_grows_with_the_prompt_and_stays_below_all_quality_there(kind: str) -> None:
    impacts = [
        float(estimate_of(state_of(8, prompt=prompt, **{kind: 0.026}))["impact"])
        for prompt in (10, 200, 2_000, 10_000, 100_000)
    ]
    assert impacts[0] >= 0
    assert (np.diff(impacts) > 0).all()
    assert 8 * 0.6 * 0.5 < impacts[-1] <= 8 * 0.6


def test_requests_that_are_late_already_cannot_be_harmed() -> None:
    state = state_of(8, prompt=5_000, ntpot=0.03)
    state.running["age_seconds"] = 60.0
    assert estimate_of(state)["impact"] < 1e-6


def test_requests_that_cannot_be_late_are_not_harmed() -> None:
    assert estimate_of(state_of(8, prompt=1_000, ntpot=5.0))["impact"] < 1e-6


def test_requests_that_end_before_the_new_one_starts_are_not_harmed() -> None:
    state = state_of(16, 16, prompt=5_000, ntpot=0.03)
    state.waiting_mask[:] = False
    assert estimate_of(state)["impact"] < 1e-6


def test_requests_beyond_the_slots_count_like_those_listed() -> None:
    def impact(listed: int) -> float:
        return float(
            estimate_of(state_of(16, 4, prompt=4_000, maximum_running=64, listed=listed, ntpot=0.03))["impact"]
        )

    assert impact(16) > 0.5
    assert impact(4) == pytest.approx(impact(16), rel=1e-3)


def test_the_tightest_limit_per_token_counts_and_none_is_infinite() -> None:
    assert tightest(0.0, 0.0) == math.inf
    assert tightest(0.02, 0.0) == 0.02
    assert tightest(0.0, 0.03) == 0.03
    assert tightest(0.02, 0.03) == tightest(0.03, 0.02) == 0.02


@pytest.mark.parametrize("limit", [0.0, 0.01, 0.025, 0.03, 0.1])
@pytest.mark.parametrize(("maximum_running", "kv_capacity"), [(256, 0), (16, 0), (256, 4_000)])
def test_work_is_the_inverse_of_the_capacity(limit: float, maximum_running: int, kv_capacity: int) -> None:
    state = state_of(maximum_running=maximum_running)
    state.expert["kv_capacity_tokens"] = kv_capacity
    rate = capacity_requests_per_second(
        IterationTimeCoefficients(0.02, 2e-4, 1e-6, 5e-5),
        prompt_tokens=500,
        output_tokens=150,
        token_seconds=limit,
        maximum_running=maximum_running,
        kv_capacity_tokens=kv_capacity,
    )
    assert work_seconds(state, 0, 500.0, 150.0, limit or math.inf) == pytest.approx(1 / rate, rel=1e-5)


def test_the_estimate_holds_the_work_of_the_tightest_objective() -> None:
    state = state_of(tpot=0.025, ntpot=0.03)
    assert estimate_of(state)["work_seconds"] == pytest.approx(work_seconds(state, 0, 200.0, 100.0, 0.025), rel=1e-6)


def test_an_idle_experts_slack_is_free_and_one_that_is_just_in_time_has_none() -> None:
    state = state_of()
    idle = estimate_of(state)["ntpot_seconds"]
    state.request[0]["ntpot_objective_seconds"] = 2 * idle
    assert estimate_of(state)["crowding_ratio"] == pytest.approx(0.0, abs=1e-6)
    state.expert[0]["running_request_count"] = 20
    state.expert[0]["running_context_tokens"] = 5_000
    state.expert[0]["running_remaining_tokens"] = 1_000
    busy = estimate_of(state)["ntpot_seconds"]
    assert estimate_of(state)["crowding_ratio"] == pytest.approx((busy - idle) / idle, rel=1e-4)
    state.request[0]["ntpot_objective_seconds"] = busy
    assert estimate_of(state)["crowding_ratio"] == pytest.approx(1.0, rel=1e-4)


def test_an_objective_that_cannot_be_kept_alone_is_as_crowded_as_can_be() -> None:
    assert estimate_of(state_of(ntpot=1e-6))["crowding_ratio"] == 1.5
    assert estimate_of(state_of())["crowding_ratio"] == 0.0


def test_the_normal_distribution_is_the_standard_one() -> None:
    for z in (*np.linspace(-9.0, 9.0, 1_801).tolist(), -np.inf, np.inf):
        assert normal_cdf(z) == pytest.approx(0.5 * math.erfc(-z / math.sqrt(2.0)), abs=2e-9)
    assert math.isnan(normal_cdf(math.nan))
