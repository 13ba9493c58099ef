import dataclasses
import math
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from pointsman_policy.pickers.picker import Picker
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.simulator.engine import advance, enqueue, new_engine
from pointsman_policy.simulator.simulation import Fleet, Requests, Run, Visibility, simulate
from pointsman_policy.state import DEFAULT_SLOTS, DROP, RoutingState

EXACT = Visibility(0.0, 0.0, 0.0, 0.0)
COEFFICIENTS = np.array([[0.007, 1e-5, 1e-7, 2e-5], [0.02, 3e-5, 2e-7, 6e-5], [0.025, 5e-5, 5e-7, 7e-5]])


def fleet_of(experts: int = 3, kv_capacity: float = 0, maximum_running: int = 32, belief: float = 1.0) -> Fleet:
    return Fleet(
        coefficients=COEFFICIENTS[:experts],
        believed_coefficients=COEFFICIENTS[:experts] * belief,
        kv_capacity=np.full(experts, kv_capacity, np.float64),
        maximum_running=np.full(experts, maximum_running, np.int64),
        quality_prior=np.linspace(0.4, 0.6, experts),
    )


def requests_of(rate: float = 20, count: int = 400, experts: int = 3, seed: int = 0, floor: float = 0.0) -> Requests:
    rng = np.random.default_rng(seed)
    output = rng.integers(1, 300, (count, experts))
    return Requests(
        arrival_at=np.cumsum(rng.exponential(1 / rate, count)),
        prompt_tokens=rng.integers(20, 1_000, count),
        output_tokens=output,
        predicted_quality=rng.random((count, experts)).astype(np.float32),
        predicted_output_tokens=output.astype(np.float32),
        objectives=np.tile([2.0, 0.0, 0.03], (count, 1)),
        priority=-rng.integers(0, 2, count),
        quality_floor=floor,
    )


def run_of(
    picker: Picker,
    requests: Requests,
    fleet: Fleet | None = None,
    visibility: Visibility = EXACT,
    admission: str = "Never",
    seed: int = 7,
) -> Run:
    return simulate(fleet or fleet_of(), requests, picker, np.random.default_rng(seed), visibility, admission)


def _record_and_take_turns(
    state: RoutingState, parameters: npt.NDArray[np.float64], uniform: float, scores: npt.NDArray[np.float64]
) -> int:
    """Write one row of what is seen of expert 0 behind what was written before; parameters[0] is the end."""
    end = int(parameters[0])
    parameters[end] = state.expert[0].telemetry_age_seconds
    parameters[end + 1] = state.expert[0].in_flight_count
    parameters[end + 2] = state.running[0, 0].generated_tokens * state.running_mask[0, 0]
    parameters[end + 3] = scores.shape[0] * 10_000 + state.running.shape[1] * 100 + state.waiting.shape[1]
    parameters[end + 4] = state.request[0].sequence
    parameters[0] = end + 5
    turn: int = int(state.request[0].sequence) % scores.shape[0]
    return turn


RECORDER = Picker("Recorder", _record_and_take_turns, "takes turns and writes down what it sees")


def recorded(requests: Requests, fleet: Fleet, visibility: Visibility) -> tuple[Run, npt.NDArray[np.float64]]:
    """Return a run, and (age, in flight, tokens of the oldest, shape, sequence) at each arrival, [n, 5]."""
    log = np.ones(1 + 5 * len(requests.arrival_at))
    picker = Picker(RECORDER.name, RECORDER.kernel, RECORDER.summary, parameters=cast("Any", log))
    run = simulate(fleet, requests, picker, np.random.default_rng(0), visibility)
    return run, log[1:].reshape(-1, 5)


@pytest.fixture(params=sorted(PICKERS))
def picker(request: pytest.FixtureRequest) -> Picker:
    return PICKERS[request.param]


def test_the_same_seed_gives_the_same_run(picker: Picker) -> None:
    requests = requests_of()
    first, second = (run_of(picker, requests, visibility=Visibility()) for _ in range(2))
    assert first.expert.tobytes() == second.expert.tobytes()
    assert first.finished_at.tobytes() == second.finished_at.tobytes()
    assert first.busy_seconds.tobytes() == second.busy_seconds.tobytes()


def test_another_seed_breaks_ties_otherwise() -> None:
    requests = requests_of()
    runs = [run_of(PICKERS["Random"], requests, seed=seed).expert for seed in (1, 2)]
    assert (runs[0] != runs[1]).any()


@pytest.mark.parametrize("visibility", [EXACT, Visibility(), Visibility(5.0, 3.0, 1.0, 2.0)], ids=str)
def test_every_request_is_served_to_its_end_unless_it_may_be_dropped(picker: Picker, visibility: Visibility) -> None:
    requests = requests_of(rate=200)
    fleet = fleet_of(kv_capacity=5_000)
    run = run_of(picker, requests, fleet, visibility, "Never")
    assert ((run.expert >= 0) & (run.expert < 3)).all()
    assert (run.first_token_at > requests.arrival_at).all()
    assert (run.finished_at >= run.first_token_at).all()
    assert (run.busy_seconds <= run.finished_at.max()).all()
    assert run.preemption_count > 0


@pytest.mark.parametrize("name", ["ImpactGreedy", "SloFilteredQuality"])
def test_dropped_requests_are_never_started_and_all_others_end(name: str) -> None:
    requests = requests_of(rate=400)
    run = run_of(PICKERS[name], requests, admission="ShedHopeless")
    dropped = run.expert == DROP
    assert 0 < dropped.sum() < 400
    assert np.isnan(run.finished_at[dropped]).all()
    assert np.isfinite(run.finished_at[~dropped]).all()


def test_only_sheddable_requests_are_dropped_if_only_those_may_be() -> None:
    requests = requests_of(rate=400)
    run = run_of(PICKERS["SloFilteredQuality"], requests, admission="ShedSheddable")
    dropped = run.expert == DROP
    assert dropped.any()
    assert (requests.priority[dropped] < 0).all()


def test_one_expert_alone_serves_as_the_engine_does() -> None:
    requests = requests_of(experts=1)
    run = run_of(PICKERS["RoundRobin"], requests, fleet_of(1, kv_capacity=4_000))
    engine = new_engine(COEFFICIENTS[:1], np.array([4_000.0]), np.array([32]), 400)
    for i, now in enumerate(requests.arrival_at.tolist()):
        advance(engine, 0, now)
        enqueue(engine, 0, i, int(requests.prompt_tokens[i]), int(requests.output_tokens[i, 0]), now)
    advance(engine, 0, math.inf)
    np.testing.assert_allclose(run.finished_at, engine.request["finished_at"], rtol=1e-12)
    np.testing.assert_allclose(run.busy_seconds, engine.expert["busy_seconds"], rtol=1e-12)
    assert run.preemption_count == engine.expert["preemption_count"].sum() > 0


@pytest.mark.parametrize("name", ["ShortestQueue", "PowerOfTwo", "RoundRobin", "QualityFirst", "Random"])
def test_a_rule_that_only_counts_picks_the_same_from_counts_and_from_the_whole_state(name: str) -> None:
    requests = requests_of(rate=60)
    fleet = fleet_of(maximum_running=8)
    counting = PICKERS[name]
    assert not counting.needs_slots
    looking = dataclasses.replace(counting, needs_slots=True)
    cheap, whole = run_of(counting, requests, fleet), run_of(looking, requests, fleet)
    assert cheap.expert.tolist() == whole.expert.tolist()


def test_the_seen_state_has_the_shape_of_serving() -> None:
    _, seen = recorded(requests_of(), fleet_of(), Visibility())
    assert set(seen[:, 3]) == {3 * 10_000 + DEFAULT_SLOTS * 100 + DEFAULT_SLOTS}
    assert seen[:, 4].tolist() == list(range(400))


def test_telemetry_at_every_decision_is_never_old() -> None:
    assert set(recorded(requests_of(), fleet_of(), EXACT)[1][:, 0]) == {0.0}


@pytest.mark.parametrize(("interval", "delay"), [(1.0, 0.0), (0.5, 0.3), (1.0, 4.0), (0.05, 8.0), (100.0, 0.0)])
def test_the_age_of_telemetry_lies_between_its_delay_and_one_interval_more(interval: float, delay: float) -> None:
    requests = requests_of()
    _, seen = recorded(requests, fleet_of(), Visibility(interval, delay, 0.1, 1.0))
    now, age = requests.arrival_at, seen[:, 0]
    reached = now >= delay
    assert np.isposinf(age[~reached]).all()
    expected = now[reached] - np.floor((now[reached] - delay) / interval) * interval
    np.testing.assert_allclose(age[reached], expected, atol=1e-4)


def test_samples_are_found_again_after_a_long_silence() -> None:
    requests = requests_of()
    requests.arrival_at[200:] += 10_000.0
    _, seen = recorded(requests, fleet_of(), Visibility(0.05, 2.0, 0.1, 1.0))
    assert seen[200:, 0].max() < 2.06


def test_decisions_with_exact_but_late_telemetry_see_the_past() -> None:
    _, seen = recorded(requests_of(), fleet_of(), Visibility(0.0, 2.0, 0.1, 1.0))
    late = seen[requests_of().arrival_at > 2.5, 0]
    assert late.min() >= 2.0
    assert late.max() < 2.6


@pytest.mark.parametrize("delay", [0.0, 0.4, 3.0])
def test_an_end_is_known_after_the_delay_of_outcomes(delay: float) -> None:
    requests = requests_of()
    run, seen = recorded(requests, fleet_of(), Visibility(1.0, 0.0, delay, 1.0))
    for i, now in enumerate(requests.arrival_at):
        there = (run.expert[:i] == 0) & (run.finished_at[:i] > now - delay)
        assert seen[i, 1] == there.sum()


def test_progress_reports_correct_a_wrong_latency_model() -> None:
    requests = requests_of(rate=3, count=300, experts=1)
    fleet = fleet_of(1, belief=3.0)  # believed three times as slow as it is

    def mean_error(progress_interval: float) -> float:
        run, seen = recorded(requests, fleet, Visibility(1.0, 0.0, 0.0, progress_interval))
        errors = []
        for i, now in enumerate(requests.arrival_at):
            open_ones = np.flatnonzero((run.finished_at[:i] > now) & (run.first_token_at[:i] < now))
            if open_ones.size:
                oldest = open_ones[0]
                span = run.finished_at[oldest] - run.first_token_at[oldest]
                share = (now - run.first_token_at[oldest]) / max(span, 1e-9)
                errors.append(abs(seen[i, 2] - share * requests.output_tokens[oldest, 0]))
        return float(np.mean(errors))

    assert mean_error(0.0) < 2
    assert mean_error(0.0) < mean_error(0.3) < mean_error(1e9)


def test_a_quality_floor_keeps_requests_from_experts_below_it_where_any_is_above() -> None:
    requests = requests_of(floor=0.6)
    run = run_of(PICKERS["Random"], requests)
    got = requests.predicted_quality[np.arange(400), run.expert]
    some_above = requests.predicted_quality.max(axis=1) >= 0.6
    assert (got[some_above] >= 0.6).all()
    assert (~some_above).any()


def test_nothing_to_route_is_no_error() -> None:
    run = run_of(PICKERS["ImpactGreedy"], requests_of(count=0))
    assert run.expert.shape == (0,)
    assert run.busy_seconds.tolist() == [0.0, 0.0, 0.0]


def test_without_dead_reckoning_the_picture_changes_only_when_a_sample_comes() -> None:
    requests = requests_of(count=200)
    _, moved = recorded(requests, fleet_of(), Visibility(1.0, 0.5, 0.1, 1.0))
    _, still = recorded(requests, fleet_of(), Visibility(1.0, 0.5, 0.1, 1.0, dead_reckoning=False))
    samples = np.floor(requests.arrival_at - 0.5)
    for number in np.unique(samples[samples >= 0]):
        seen = still[samples == number]
        assert (seen[:, :3] == seen[0, :3]).all()
    assert len(np.unique(still[:, 1])) > 3
    assert len(np.unique(moved[:, 0])) > 2 * len(np.unique(still[:, 0]))
    assert still[:, 4].tolist() == list(range(200))
