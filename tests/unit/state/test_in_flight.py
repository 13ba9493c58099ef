import math
from pathlib import Path

import numpy as np
import pytest
from tests.unit.routing import UNIX_OFFSET, endpoint

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.state.in_flight import InFlight
from pointsman_operator.telemetry.sample import LoadSample
from pointsman_policy.errors import DocumentError
from pointsman_policy.experts import IterationTime
from pointsman_policy.latency.estimator import ESTIMATE
from pointsman_policy.state import Record, empty_state

A, B = endpoint("a"), endpoint("b")
NOW = 1_000.0


@pytest.fixture
def in_flight() -> InFlight:
    known = InFlight()
    known.set_experts([A, B], None)
    return known


def observe(
    in_flight: InFlight, running: float | None, waiting: float | None = 0.0, *, now: float = NOW, age: float = 0.0
) -> list[int]:
    sample = LoadSample(A.address, now + UNIX_OFFSET - age, running, waiting, None)
    return in_flight.observe(sample, now, now + UNIX_OFFSET)


def opened(in_flight: InFlight, row: int, now: float, prompt_tokens: int) -> int:
    state = empty_state(1)
    state.request["prompt_tokens"] = prompt_tokens
    return in_flight.open(row, 0, now, state, np.zeros(1, ESTIMATE))


def believed(in_flight: InFlight, now: float = NOW) -> Record:
    """What is written into a state for expert A."""
    state = empty_state(1)
    in_flight.reckon(np.array([in_flight.row(A)]), now, state)
    return state.expert[0].copy()


def test_slots_are_used_again_and_never_shared(in_flight: InFlight) -> None:
    rows = in_flight.row(A), in_flight.row(B)
    slots = [opened(in_flight, rows[index % 2], NOW, 10) for index in range(3_000)]
    assert len(set(slots)) == 3_000
    assert [in_flight.open_count(row) for row in rows] == [1_500, 1_500]
    for index, slot in enumerate(slots):
        assert in_flight.entry(slot)["prompt_tokens"] == 10
        in_flight.close(rows[index % 2], slot, NOW)
    assert [in_flight.open_count(row) for row in rows] == [0, 0]
    again = [opened(in_flight, rows[0], NOW, 10) for _ in range(3_000)]
    assert set(again) == set(slots)


def test_a_request_that_moves_keeps_what_is_known_of_it(in_flight: InFlight) -> None:
    slot = opened(in_flight, in_flight.row(A), NOW, 77)
    in_flight.entry(slot)["tokens"] = 5
    moved = in_flight.move(in_flight.row(A), slot, in_flight.row(B))
    assert (in_flight.entry(moved)["prompt_tokens"], in_flight.entry(moved)["tokens"]) == (77, 5)
    assert in_flight.entry(moved)["arrival_at"] == NOW
    assert (in_flight.open_count(in_flight.row(A)), in_flight.open_count(in_flight.row(B))) == (0, 1)


def test_a_changed_description_changes_beliefs_at_once(in_flight: InFlight) -> None:
    opened(in_flight, in_flight.row(A), NOW, 10)
    assert believed(in_flight)["base_seconds"] == pytest.approx(0.010)
    in_flight.set_experts([endpoint("a", maximum_running=7, quality_prior_percent=90, engine="sglang")], None)
    now = believed(in_flight)
    assert (now["maximum_running_count"], now["engine"], now["in_flight_count"]) == (7, 1, 1)
    assert now["quality_prior"] == pytest.approx(0.9)


def test_profiles_are_looked_up_for_experts_without_coefficients(in_flight: InFlight, tmp_path: Path) -> None:
    path = tmp_path / "fits.csv"
    header = "gpu,model,kv_capacity_tokens,L4_c0_ms,L4_c_seq_ms,L4_c_ctx_ms,L4_c_prefill_ms\n"
    path.write_text(header + "L4,model-a,12345,20,1,0.001,0.1\n")
    in_flight.set_experts([endpoint("a", gpu="L4", iteration_time=None)], path)
    assert believed(in_flight)["base_seconds"] == pytest.approx(0.020)
    assert believed(in_flight)["kv_capacity_tokens"] == 12_345
    with pytest.raises(DocumentError, match=r"gone\.csv"):
        in_flight.set_experts([B], tmp_path / "gone.csv")
    assert in_flight.row_of(A.address) is not None


def test_an_expert_that_leaves_takes_its_load_with_it(in_flight: InFlight) -> None:
    observe(in_flight, running=9)
    assert believed(in_flight)["running_request_count"] == 9
    in_flight.set_experts([B], None)
    assert in_flight.row_of(A.address) is None
    in_flight.set_experts([A, B], None)
    assert believed(in_flight)["running_request_count"] == 0
    assert believed(in_flight)["telemetry_age_seconds"] == math.inf


def test_a_samples_age_is_that_of_its_own_clock_and_never_negative(in_flight: InFlight) -> None:
    observe(in_flight, running=1, age=3.0)
    assert believed(in_flight)["telemetry_age_seconds"] == pytest.approx(3.0, abs=1e-3)
    observe(in_flight, running=1, age=-0.5)
    assert believed(in_flight)["telemetry_age_seconds"] == pytest.approx(0.0, abs=1e-3)


def test_requests_that_ended_since_a_sample_are_not_taken_for_those_of_others(in_flight: InFlight) -> None:
    row = in_flight.row(A)
    slot = opened(in_flight, row, NOW, 10)
    in_flight.close(row, slot, NOW + 2)
    observe(in_flight, running=1, now=NOW + 3, age=2)
    assert believed(in_flight, NOW + 3)["running_request_count"] == 0


def test_lost_requests_are_the_oldest_silent_ones(in_flight: InFlight) -> None:
    row = in_flight.row(A)
    slots = [opened(in_flight, row, NOW - 10 + index, 10) for index in range(4)]
    assert observe(in_flight, running=1, waiting=1) == []
    in_flight.entry(slots[0])["progress_at"] = NOW + 0.9
    assert observe(in_flight, running=1, waiting=1, now=NOW + 0.9) == []
    assert observe(in_flight, running=1, waiting=1, now=NOW + 1) == [slots[1], slots[2]]
    assert observe(in_flight, running=4, waiting=0, now=NOW + 2) == []


@pytest.mark.parametrize("counts", [(None, 0.0), (0.0, None), (None, None)])
def test_half_a_sample_makes_nothing_lost(in_flight: InFlight, counts: tuple[float | None, float | None]) -> None:
    opened(in_flight, in_flight.row(A), NOW - 10, 10)
    assert [observe(in_flight, *counts, now=NOW + late) for late in range(4)] == [[]] * 4


def seen_through(in_flight: InFlight, lens: str, now: float = NOW) -> Record:
    state = empty_state(1)
    in_flight.reckon(np.array([in_flight.row(A)]), now, state, lens)
    return state.expert[0].copy()


def twice_as_slow() -> Endpoint:
    speed = IterationTime(
        base_milliseconds=20,
        per_sequence_milliseconds=0.2,
        per_context_token_milliseconds=0.0002,
        per_prefill_token_milliseconds=0.02,
    )
    return endpoint("a", iteration_time=speed)


def answer(in_flight: InFlight, seconds_per_token: float) -> None:
    """One long answer of expert A, reported each second."""
    row = in_flight.row(A)
    slot = opened(in_flight, row, NOW, 10)
    for second in range(1, 300):
        in_flight.note_progress(row, slot, NOW + second, 1 + (second - 1) / seconds_per_token, NOW + 1)
    in_flight.close(row, slot, NOW + 300)


def test_each_lens_has_a_pace_of_its_own(in_flight: InFlight) -> None:
    in_flight.set_lens("new", [twice_as_slow()])
    answer(in_flight, 0.020)
    declared, new = believed(in_flight), seen_through(in_flight, "new")
    assert declared["pace_ratio"] == pytest.approx(2.0, rel=0.1)
    assert new["pace_ratio"] == pytest.approx(1.0, rel=0.1)
    assert new["base_seconds"] == pytest.approx(declared["base_seconds"], rel=0.1)


def test_lenses_show_the_same_load(in_flight: InFlight) -> None:
    in_flight.set_lens("new", [twice_as_slow()])
    observe(in_flight, 5.0, 2.0)
    opened(in_flight, in_flight.row(A), NOW, 10)
    for name in ("running_request_count", "waiting_request_count", "in_flight_count", "telemetry_age_seconds"):
        assert seen_through(in_flight, "new")[name] == believed(in_flight)[name]
    assert seen_through(in_flight, "new")["in_flight_count"] == 1


def test_beliefs_that_stay_keep_their_pace_and_new_ones_start_without(in_flight: InFlight) -> None:
    in_flight.set_lens("new", [twice_as_slow()])
    answer(in_flight, 0.060)
    slow = seen_through(in_flight, "new")["pace_ratio"]
    assert slow == pytest.approx(3.0, rel=0.1)
    in_flight.set_lens("new", [twice_as_slow()])
    assert seen_through(in_flight, "new")["pace_ratio"] == slow
    in_flight.set_lens("new", [A])
    assert seen_through(in_flight, "new")["pace_ratio"] == 1.0


def test_lenses_grow_with_the_list_and_go_when_told(in_flight: InFlight) -> None:
    in_flight.set_lens("new", [twice_as_slow()])
    many = [endpoint("a"), *(endpoint(f"b{i}", endpoint=f"10.0.1.{i}:8000") for i in range(40))]
    in_flight.set_experts(many, None)
    in_flight.set_lens("new", [twice_as_slow(), *many[1:]])
    state = empty_state(len(many))
    in_flight.reckon(np.array([in_flight.row(one) for one in many]), NOW, state, "new")
    assert state.expert["base_seconds"] == pytest.approx([0.02, *[0.01] * 40])
    in_flight.keep_lenses([])
    with pytest.raises(KeyError):
        seen_through(in_flight, "new")
