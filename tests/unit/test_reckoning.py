import math
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from pointsman_policy.ledger import Ledger, close_entry, new_ledger, open_entry
from pointsman_policy.pace import PREFILL_WINDOW_SECONDS
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.reckoning import (
    BELIEF,
    LOAD_WINDOW_SECONDS,
    count_arrival,
    new_arrivals,
    new_loads,
    note_prefill,
    observe,
    reckon,
)
from pointsman_policy.simulator.simulation import Fleet, Requests, Run, Visibility, simulate
from pointsman_policy.state import RoutingState, empty_state

BASE, PER_SEQUENCE, PER_CONTEXT_TOKEN, PER_PREFILL_TOKEN = 0.01, 0.001, 1e-6, 1e-5


@dataclass
class Router:
    """What a router knows of a few experts."""

    experts: int = 1
    maximum_running: int = 8
    kv_capacity: float = 0
    ledger: Ledger = field(init=False)
    loads: npt.NDArray[np.void] = field(init=False)
    beliefs: npt.NDArray[np.void] = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = new_ledger(self.experts, 256)
        self.loads = new_loads(self.experts)
        self.beliefs = np.zeros(self.experts, BELIEF)
        self.beliefs["base_seconds"] = BASE
        self.beliefs["per_sequence_seconds"] = PER_SEQUENCE
        self.beliefs["per_context_token_seconds"] = PER_CONTEXT_TOKEN
        self.beliefs["per_prefill_token_seconds"] = PER_PREFILL_TOKEN
        self.beliefs["maximum_running_count"] = self.maximum_running
        self.beliefs["kv_capacity_tokens"] = self.kv_capacity
        self.beliefs["quality_prior"] = np.linspace(0.5, 0.9, self.experts)
        self.beliefs["engine"] = np.arange(self.experts)

    def send(self, arrival_at: float, prompt: float = 100, output: float = 50, expert: int = 0, **known: float) -> int:
        slot = open_entry(self.ledger, expert)
        entry = self.ledger.entry[slot]
        entry["arrival_at"] = arrival_at
        entry["progress_at"] = arrival_at
        entry["first_token_at"] = math.nan
        entry["expected_first_token_at"] = arrival_at + 0.05
        entry["tokens"] = 0
        entry["prompt_tokens"] = prompt
        entry["predicted_output_tokens"] = output
        entry["predicted_quality"] = 0.5
        entry["ntpot_objective_seconds"] = 0.03
        for name, value in known.items():
            entry[name] = value
        return slot

    def sample(
        self, sampled_at: float, running: float, waiting: float, kv_ratio: float = math.nan, expert: int = 0
    ) -> None:
        observe(self.ledger, self.loads, expert, sampled_at, running, waiting, kv_ratio)

    def state(self, now: float, running_slots: int = 10, waiting_slots: int = 10) -> RoutingState:
        state = empty_state(self.experts, running_slots, waiting_slots)
        reckon(self.ledger, self.beliefs, self.loads, np.arange(self.experts), now, state)
        return state


def iteration_seconds(batch: float, mean_context: float) -> float:
    return BASE + batch * (PER_SEQUENCE + PER_CONTEXT_TOKEN * mean_context)


def test_an_expert_never_heard_of_is_empty_and_its_age_infinite() -> None:
    row = Router().state(5.0).expert[0]
    assert row["telemetry_age_seconds"] == math.inf
    assert row["running_request_count"] == row["waiting_request_count"] == row["in_flight_count"] == 0
    assert math.isnan(row["kv_cache_utilization_ratio"])
    assert row["maximum_running_count"] == 8


def test_the_age_of_telemetry_counts_from_the_sample() -> None:
    router = Router()
    router.sample(2.0, 0, 0)
    assert router.state(5.5).expert[0]["telemetry_age_seconds"] == pytest.approx(3.5)


def test_beliefs_are_copied_for_the_selected_experts_in_their_order() -> None:
    router = Router(experts=3)
    router.send(0.0, expert=2)
    state = empty_state(2)
    reckon(router.ledger, router.beliefs, router.loads, np.array([2, 0]), 1.0, state)
    assert state.expert["quality_prior"].tolist() == pytest.approx([0.9, 0.5])
    assert state.expert["engine"].tolist() == [2, 0]
    assert state.expert["in_flight_count"].tolist() == [1, 0]
    assert state.expert["base_seconds"].tolist() == pytest.approx([BASE, BASE])


def test_a_running_request_is_moved_on_from_its_last_report() -> None:
    router = Router()
    router.send(0.0, prompt=100, output=200, first_token_at=0.5, progress_at=2.0, tokens=40)
    state = router.state(3.0)
    generated = 40 + 1.0 / iteration_seconds(1, 200)
    slot = state.running[0, 0]
    assert state.running_mask[0].tolist() == [True] + [False] * 9
    assert slot["generated_tokens"] == pytest.approx(generated, rel=1e-5)
    assert slot["age_seconds"] == pytest.approx(3.0)
    assert slot["decode_age_seconds"] == pytest.approx(2.5)
    assert slot["ntpot_seconds"] == pytest.approx(3.0 / generated, rel=1e-5)
    assert slot["predicted_output_tokens"] == 200
    assert state.expert[0]["running_context_tokens"] == pytest.approx(100 + generated, rel=1e-5)
    assert state.expert[0]["running_remaining_tokens"] == pytest.approx(200 - generated, rel=1e-5)


def test_without_any_report_the_expected_first_token_is_the_start() -> None:
    router = Router()
    router.send(0.0, output=200, expected_first_token_at=0.5)
    before, after = router.state(0.4).running[0, 0], router.state(1.5).running[0, 0]
    assert before["generated_tokens"] == before["ntpot_seconds"] == before["decode_age_seconds"] == 0
    assert after["generated_tokens"] == pytest.approx(1 + 1.0 / iteration_seconds(1, 200), rel=1e-5)
    assert after["decode_age_seconds"] == pytest.approx(1.0)


def test_a_request_beyond_its_predicted_length_is_expected_to_go_on() -> None:
    router = Router()
    router.send(0.0, output=40, first_token_at=0.1, progress_at=9.0, tokens=60)
    state = router.state(9.0)
    assert state.running[0, 0]["predicted_output_tokens"] == pytest.approx(70)
    assert state.expert[0]["running_remaining_tokens"] == pytest.approx(10)


def test_what_does_not_fit_in_the_batch_waits_in_order_of_arrival() -> None:
    router = Router(maximum_running=2)
    for k in range(5):
        router.send(0.1 * k, prompt=100 + k, output=50 + k)
    state = router.state(0.5)
    assert state.expert[0]["running_request_count"] == 2
    assert state.expert[0]["waiting_request_count"] == 3
    assert state.running["prompt_tokens"][state.running_mask].tolist() == [100, 101]
    assert state.waiting["prompt_tokens"][state.waiting_mask].tolist() == [102, 103, 104]
    assert state.expert[0]["waiting_prompt_tokens"] == 102 + 103 + 104
    assert state.expert[0]["waiting_output_tokens"] == 52 + 53 + 54
    assert (state.waiting["generated_tokens"][state.waiting_mask] == 0).all()


def test_a_request_known_to_run_is_running_although_an_earlier_one_waits() -> None:
    router = Router(maximum_running=1)
    router.send(0.0, prompt=100)
    router.send(0.1, prompt=101)
    router.send(0.2, prompt=102, first_token_at=0.3)
    state = router.state(0.5)
    assert state.running["prompt_tokens"][state.running_mask].tolist() == [100, 102]
    assert state.waiting["prompt_tokens"][state.waiting_mask].tolist() == [101]


def test_a_full_kv_cache_makes_requests_wait() -> None:
    router = Router(kv_capacity=1_000)
    for k in range(4):
        router.send(0.0, prompt=400, expected_first_token_at=9.0 + k)
    state = router.state(0.1)
    assert state.expert[0]["running_request_count"] == 2
    assert state.expert[0]["waiting_request_count"] == 2
    assert state.expert[0]["kv_cache_utilization_ratio"] == pytest.approx(0.8)
    assert state.running[0, 0]["kv_share"] == pytest.approx(0.4)


def test_requests_beyond_the_slots_are_in_the_sums() -> None:
    router = Router(maximum_running=20)
    for k in range(30):
        router.send(0.0, prompt=10, output=100, expected_first_token_at=9.0, tokens=k)
    full, short = router.state(0.5, 64, 64), router.state(0.5, 3, 2)
    assert short.running_mask.all()
    assert short.waiting_mask.all()
    for name in ("running_request_count", "waiting_request_count", "running_context_tokens", "waiting_prompt_tokens"):
        assert short.expert[0][name] == full.expert[0][name] > 0
    assert short.expert[0]["running_remaining_tokens"] == full.expert[0]["running_remaining_tokens"]
    assert short.running.tobytes() == full.running[:, :3].tobytes()
    assert short.waiting.tobytes() == full.waiting[:, :2].tobytes()


def test_a_state_can_be_written_again_and_again() -> None:
    router = Router(maximum_running=2)
    slots = [router.send(0.0) for _ in range(5)]
    state = router.state(0.5)
    for slot in slots[1:]:
        close_entry(router.ledger, 0, slot, 0.5)
    reckon(router.ledger, router.beliefs, router.loads, np.arange(1), 0.5, state)
    fresh = router.state(0.5)
    assert state.expert.tobytes() == fresh.expert.tobytes()
    assert state.running_mask.tolist() == fresh.running_mask.tolist()
    assert not state.waiting_mask.any()


def test_requests_of_other_routers_appear_beside_ones_own() -> None:
    router = Router()
    router.send(0.0, prompt=100, output=50)
    router.send(0.5, prompt=100, output=50)
    router.sample(1.0, running=5, waiting=0)
    row = router.state(1.1).expert[0]
    assert row["running_request_count"] == 5
    assert row["waiting_request_count"] == 0
    assert row["in_flight_count"] == 2
    own = router.state(1.1).running["generated_tokens"].sum() + 200
    assert row["running_context_tokens"] == pytest.approx(own + 3 * 125)


def test_waiting_requests_of_other_routers_are_told_from_running_ones() -> None:
    router = Router()
    router.sample(1.0, running=4, waiting=6)
    row = router.state(1.1).expert[0]
    assert row["running_request_count"] == 4
    assert row["waiting_request_count"] == 6
    assert row["waiting_prompt_tokens"] > 0
    assert row["waiting_output_tokens"] > 0


def test_requests_sent_after_the_sample_are_not_taken_for_others() -> None:
    router = Router()
    router.send(0.0)
    router.sample(1.0, running=1, waiting=0)
    router.send(1.5)
    router.send(1.6)
    row = router.state(2.0).expert[0]
    assert row["running_request_count"] == 3


def test_requests_that_ended_after_the_sample_are_not_taken_for_others() -> None:
    router = Router()
    slots = [router.send(0.0) for _ in range(3)]
    close_entry(router.ledger, 0, slots[0], 1.2)
    router.sample(1.0, running=3, waiting=0)
    row = router.state(1.5).expert[0]
    assert row["running_request_count"] == 2


def test_a_sample_that_counts_fewer_than_ones_own_does_not_go_below_them() -> None:
    router = Router()
    for _ in range(3):
        router.send(0.0)
    router.sample(1.0, running=1, waiting=0)
    assert router.state(1.1).expert[0]["running_request_count"] == 3


def test_a_sample_without_a_running_count_leaves_what_was_known_of_others() -> None:
    router = Router()
    router.sample(1.0, running=4, waiting=0, kv_ratio=0.3)
    router.sample(2.0, running=math.nan, waiting=math.nan, kv_ratio=math.nan)
    row = router.state(2.5).expert[0]
    assert row["running_request_count"] == 4
    assert math.isnan(row["kv_cache_utilization_ratio"])
    assert row["maximum_running_count"] == 8


def test_a_sample_without_a_waiting_count_tells_the_running_ones() -> None:
    router = Router()
    router.sample(1.0, running=4, waiting=math.nan)
    row = router.state(1.5).expert[0]
    assert row["running_request_count"] == 4
    assert row["waiting_request_count"] == 0
    assert row["maximum_running_count"] == 8


def test_kv_use_is_the_sampled_one_while_the_capacity_is_unknown() -> None:
    router = Router()
    router.send(0.0)
    router.sample(1.0, 1, 0, kv_ratio=0.42)
    assert router.state(2.0).expert[0]["kv_cache_utilization_ratio"] == pytest.approx(0.42)


def test_a_queue_that_does_not_move_tells_the_size_of_the_batch() -> None:
    router = Router(maximum_running=8)
    for k in range(10):
        router.send(0.1 * k)
    router.sample(5.0, running=4, waiting=6)
    row = router.state(5.1).expert[0]
    assert row["maximum_running_count"] == 4
    assert row["running_request_count"] == 4
    assert row["waiting_request_count"] == 6


def test_requests_that_have_just_come_do_not_make_the_batch_look_full() -> None:
    router = Router(maximum_running=8)
    router.send(0.0)
    router.send(4.9)
    router.send(4.99)
    router.sample(5.0, running=1, waiting=2)
    assert router.state(5.1).expert[0]["maximum_running_count"] == 8


def test_the_size_of_the_batch_is_forgotten_once_nothing_waits() -> None:
    router = Router(maximum_running=8)
    for _ in range(10):
        router.send(0.0)
    router.sample(5.0, running=4, waiting=6)
    router.sample(6.0, running=5, waiting=0)
    assert router.state(6.1).expert[0]["maximum_running_count"] == 8


def test_the_rate_of_prompt_tokens_is_a_decaying_mean() -> None:
    router = Router()
    for k in range(2_000):
        note_prefill(router.loads, 0, 0.1 * k, 30.0)
    assert router.state(199.95).expert[0]["prefill_tokens_per_second"] == pytest.approx(300, rel=0.02)
    later = router.state(199.9 + PREFILL_WINDOW_SECONDS).expert[0]["prefill_tokens_per_second"]
    assert later == pytest.approx(300 * math.exp(-1), rel=0.02)


def load_after(rng: np.random.Generator, rate: float, seconds: float) -> npt.NDArray[np.float64]:
    """Return the load estimates of a Poisson stream of like requests on two unlike experts."""
    router = Router(experts=2, maximum_running=8)
    router.beliefs["base_seconds"] = (0.01, 0.02)
    state = router.state(0.0)
    state.allowed[:] = True
    state.request["prompt_tokens"] = 200
    state.candidate["predicted_output_tokens"] = (100, 50)
    arrivals = new_arrivals()
    now, loads = 0.0, []
    while now < seconds:
        count_arrival(arrivals, now, state)
        loads.append(float(state.request[0]["load_ratio"]))
        now += float(rng.exponential(1 / rate))
    assert state.request[0]["sequence"] == len(loads) - 1
    return np.array(loads)


@pytest.mark.parametrize("true_load", [0.3, 0.9, 1.5])
def test_the_load_ratio_finds_the_true_load_of_a_poisson_stream(true_load: float) -> None:
    def rate_of(base: float, output: float) -> float:
        share = PER_SEQUENCE + PER_CONTEXT_TOKEN * (200 + output / 2) + PER_PREFILL_TOKEN * 200 / output
        return 8 / (output * (base + 8 * share))

    capacity = rate_of(0.01, 100) + rate_of(0.02, 50)
    loads = load_after(np.random.default_rng(1), true_load * capacity, 40 * LOAD_WINDOW_SECONDS)
    settled = loads[len(loads) // 10 :]
    assert settled.mean() == pytest.approx(true_load, rel=0.03)
    assert settled.std() < 0.25 * true_load
    early = loads[: len(loads) // 40]  # within one window
    assert early[len(early) // 2 :].mean() == pytest.approx(true_load, rel=0.25)


def test_only_allowed_experts_carry_load() -> None:
    def first_work(allowed: tuple[bool, bool]) -> float:
        state = Router(experts=2).state(0.0)
        state.allowed[:] = allowed
        state.request["prompt_tokens"] = 200
        state.candidate["predicted_output_tokens"] = 100
        arrivals = new_arrivals()
        count_arrival(arrivals, 0.0, state)
        return float(arrivals[0]["load_ratio"])

    assert first_work((True, False)) == pytest.approx(2 * first_work((True, True)))
    assert first_work((False, False)) == 0.0


def _record_and_take_turns(
    state: RoutingState, parameters: npt.NDArray[np.float64], uniform: float, scores: npt.NDArray[np.float64]
) -> int:
    """Write the counts and the context of every expert behind what was written before; parameters[0] is the end."""
    end = int(parameters[0])
    for e in range(scores.shape[0]):
        row = state.expert[e]
        parameters[end] = row.running_request_count + row.waiting_request_count
        parameters[end + 1] = row.running_context_tokens + row.waiting_prompt_tokens
        end += 2
    parameters[0] = end
    turn: int = int(state.request[0].sequence) % scores.shape[0]
    return turn


RECORDER = Picker("Recorder", _record_and_take_turns, "takes turns and writes down what it sees")


def recorded(fleet: Fleet, requests: Requests, visibility: Visibility) -> tuple[Run, npt.NDArray[np.float64]]:
    """Return a run, and the (requests, tokens held) that were believed of each expert at each arrival, [n, E, 2]."""
    n, experts = requests.output_tokens.shape
    log = np.zeros(1 + n * experts * 2)
    log[0] = 1
    picker = Picker(RECORDER.name, RECORDER.kernel, RECORDER.summary, parameters=cast("Any", log))
    run = simulate(fleet, requests, picker, np.random.default_rng(0), visibility)
    return run, log[1:].reshape(n, experts, 2)


def truth(requests: Requests, run: Run, expert: int, now: float) -> tuple[int, float]:
    there = (run.expert == expert) & (requests.arrival_at < now) & (run.finished_at > now)
    output = requests.output_tokens[there, expert]
    first, end = run.first_token_at[there], run.finished_at[there]
    share = np.clip((now - first) / np.maximum(end - first, 1e-9), 0, 1)
    generated = np.where(first < now, 1 + share * (output - 1), 0)
    return int(there.sum()), float((requests.prompt_tokens[there] + generated).sum())


@pytest.mark.parametrize(
    "visibility", [Visibility(0, 0, 0, 0), Visibility(), Visibility(5.0, 2.0, 0.2, 1.0), Visibility(1e9, 0, 0.1, 1e9)]
)
def test_reckoning_follows_the_experts_with_stale_telemetry(visibility: Visibility) -> None:
    rng = np.random.default_rng(5)
    n = 600
    coefficients = np.array([[0.01, 1e-4, 1e-6, 4e-5], [0.02, 2e-4, 1e-6, 8e-5]])
    fleet = Fleet(coefficients, coefficients, np.array([0.0, 20_000.0]), np.array([32, 16]), np.array([0.5, 0.5]))
    output = rng.integers(20, 300, (n, 2))
    requests = Requests(
        arrival_at=np.cumsum(rng.exponential(1 / 6, n)),
        prompt_tokens=rng.integers(50, 1_000, n),
        output_tokens=output,
        predicted_quality=np.full((n, 2), 0.5, np.float32),
        predicted_output_tokens=output.astype(np.float32),
        objectives=np.zeros((n, 3)),
        priority=np.zeros(n, np.int64),
        quality_floor=0.0,
    )
    run, believed = recorded(fleet, requests, visibility)
    true = np.array([[truth(requests, run, x, float(now)) for x in range(2)] for now in requests.arrival_at])
    busy = true[:, :, 0] > 0
    assert true[:, :, 0].mean() > 5
    # Ends are known late by the outcome delay; nothing else is wrong with the counts.
    assert (believed[:, :, 0] >= true[:, :, 0]).all()
    assert (believed - true)[:, :, 0].mean() <= 3 * visibility.outcome_delay + 0.01
    error = np.abs(believed - true)[:, :, 1][busy].sum() / true[:, :, 1][busy].sum()
    assert error < 0.06
