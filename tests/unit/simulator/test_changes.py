import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.simulator.changes import ADDED, LOST, PACE, UNUSABLE, USABLE, Change, first_there, schedule
from pointsman_policy.simulator.engine import advance, change_pace, enqueue, iteration_ends_at, new_engine
from pointsman_policy.simulator.simulation import UNFORCED, Fleet, Requests, Run, Visibility, record, simulate
from pointsman_policy.state import DROP

COEFFICIENTS = np.array([[0.01, 1e-4, 1e-6, 2e-5], [0.02, 2e-4, 2e-6, 4e-5], [0.03, 1e-4, 1e-6, 2e-5]])
DISCOVERY = 1.0
VISIBILITY = Visibility(1.0, 0.0, 0.1, 1.0, DISCOVERY)


def fleet_of(experts: int = 3, scale: float = 1.0) -> Fleet:
    return Fleet(
        coefficients=COEFFICIENTS[:experts] * scale,
        believed_coefficients=COEFFICIENTS[:experts],
        kv_capacity=np.zeros(experts),
        maximum_running=np.full(experts, 16, np.int64),
        quality_prior=np.full(experts, 0.5),
    )


def requests_of(count: int = 300, rate: float = 10, experts: int = 3) -> Requests:
    rng = np.random.default_rng(3)
    output = np.repeat(rng.integers(1, 200, (count, 1)), experts, axis=1)
    return Requests(
        arrival_at=np.cumsum(rng.exponential(1 / rate, count)),
        prompt_tokens=rng.integers(10, 500, count),
        output_tokens=output,
        predicted_quality=np.full((count, experts), 0.5, np.float32),
        predicted_output_tokens=output.astype(np.float32),
        objectives=np.tile([0.0, 0.0, 0.1], (count, 1)),
        priority=np.zeros(count, np.int64),
        quality_floor=0.0,
    )


def run_of(requests: Requests, *changes: Change, picker: str = "RoundRobin", fleet: Fleet | None = None) -> Run:
    return simulate(
        fleet or fleet_of(requests.output_tokens.shape[1]),
        requests,
        PICKERS[picker],
        np.random.default_rng(0),
        VISIBILITY,
        "Never",
        changes,
    )


def same(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> bool:
    return bool(np.allclose(first, second, rtol=1e-9, equal_nan=True))


def test_without_effect_changes_change_nothing() -> None:
    requests = requests_of()
    plain = run_of(requests)
    changed = run_of(requests, Change(3.0, 0, "pace", 2.0), Change(3.0, 0, "pace", 1.0), Change(1e6, 1, "lost"))
    assert plain.expert.tolist() == changed.expert.tolist()
    assert same(plain.finished_at, changed.finished_at)


def test_an_expert_that_is_slow_from_the_start_takes_as_long_as_one_made_slow() -> None:
    requests = requests_of(experts=1)
    slow = run_of(requests, fleet=fleet_of(1, 2.5))
    slowed = run_of(requests, Change(0.0, 0, "pace", 2.5))
    assert same(slow.finished_at, slowed.finished_at)


def test_the_rest_of_an_iteration_under_way_and_all_later_ones_change_their_pace() -> None:
    engine = new_engine(COEFFICIENTS[:1], np.zeros(1), np.array([4]), 2)
    enqueue(engine, 0, 0, 1_000, 50, 0.0)
    ends_at = iteration_ends_at(engine, 0)
    halfway = 0.5 * ends_at
    advance(engine, 0, halfway)
    change_pace(engine, 0, 3.0, halfway)
    assert iteration_ends_at(engine, 0) == pytest.approx(halfway + 3.0 * (ends_at - halfway))
    change_pace(engine, 0, 1 / 3.0, halfway)
    assert iteration_ends_at(engine, 0) == pytest.approx(ends_at)
    change_pace(engine, 0, 3.0, halfway)
    advance(engine, 0, np.inf)
    alone = new_engine(COEFFICIENTS[:1], np.zeros(1), np.array([4]), 2)
    enqueue(alone, 0, 0, 1_000, 50, 0.0)
    advance(alone, 0, np.inf)
    assert engine.request[0]["finished_at"] == pytest.approx(3.0 * alone.request[0]["finished_at"] - 2.0 * halfway)
    assert engine.expert[0]["busy_seconds"] == pytest.approx(engine.request[0]["finished_at"])


def test_a_change_of_pace_stretches_only_what_comes_after_it() -> None:
    requests = requests_of(experts=1)
    plain, slowed = run_of(requests), run_of(requests, Change(10.0, 0, "pace", 4.0))
    before = plain.finished_at < 10.0
    assert 50 < before.sum() < 250
    assert same(plain.finished_at[before], slowed.finished_at[before])
    assert (slowed.finished_at[~before] > plain.finished_at[~before]).all()


def test_changes_after_the_last_arrival_still_happen() -> None:
    requests = requests_of(20, rate=1_000)
    end = float(requests.arrival_at[-1])
    run = run_of(requests, Change(end + 0.1, 1, "lost"))
    assert np.isnan(run.finished_at[run.expert == 1]).any()
    assert np.isfinite(run.finished_at[run.expert != 1]).all()


def test_all_that_a_lost_expert_has_fails_and_nothing_goes_there_once_that_is_known() -> None:
    requests = requests_of()
    run = run_of(requests, Change(10.0, 1, "lost"))
    there, now = run.expert == 1, requests.arrival_at
    failed = np.isnan(run.finished_at)
    plain = run_of(requests)
    assert (failed == there & ~(plain.finished_at <= 10.0))[now < 10.0].all()
    assert failed[there & (now >= 10.0)].all()
    assert (there & (now > 10.0) & (now < 10.0 + DISCOVERY)).any()
    assert not (there & (now > 10.0 + DISCOVERY)).any()
    assert not failed[~there].any()
    assert run.busy_seconds[1] <= 10.0


def test_failures_leave_the_routers_books_after_the_delay_of_outcomes() -> None:
    requests = requests_of()
    changes = [Change(10.0, 1, "lost")]
    n = len(requests.arrival_at)
    recording = record(
        fleet_of(), requests, PICKERS["RoundRobin"], np.random.default_rng(0), VISIBILITY, "Never", changes,
        np.ones(n, np.bool_), np.full(n, UNFORCED),
    )  # fmt: skip
    open_there = recording.states.expert["in_flight_count"][:, 1]
    now = requests.arrival_at
    assert open_there[(now > 9.0) & (now < 10.0)].min() > 0
    sent = (recording.run.expert == 1) & (now > 10.0)
    for i in np.flatnonzero(now > 10.1):
        assert open_there[i] == (sent & (now < now[i]) & (now > now[i] - 0.1)).sum()
    assert recording.states.expert["telemetry_age_seconds"][-1, 1] > 10.0
    assert (~recording.states.allowed[now > 10.0 + DISCOVERY, 1]).all()


def test_an_added_expert_is_used_once_it_is_known_and_a_lost_one_may_come_back() -> None:
    requests = requests_of()
    now = requests.arrival_at
    run = run_of(requests, Change(10.0, 2, "added"), Change(5.0, 0, "lost"), Change(15.0, 0, "added"))
    assert now[run.expert == 2].min() > 10.0 + DISCOVERY
    assert not ((run.expert == 0) & (now > 6.0) & (now < 16.0)).any()
    assert ((run.expert == 0) & (now > 16.0)).any()
    assert np.isfinite(run.finished_at[now > 16.0]).all()


def test_requests_are_shed_while_nobody_is_there() -> None:
    requests = requests_of(experts=1)
    now = requests.arrival_at
    run = run_of(requests, Change(5.0, 0, "lost"), Change(10.0, 0, "added"), picker="ImpactGreedy")
    assert ((run.expert == DROP) == ((now >= 6.0) & (now < 11.0))).all()
    assert np.isfinite(run.finished_at[now > 11.0]).all()


def test_the_schedule_lists_events_in_order_with_relative_factors() -> None:
    changes = [
        Change(9.0, 0, "pace", 3.0),
        Change(2.0, 0, "pace", 1.5),
        Change(8.5, 1, "lost"),
        Change(1.0, 2, "added"),
    ]
    events = schedule(changes, 3, 1.0)
    assert events["at"].tolist() == [1.0, 2.0, 2.0, 8.5, 9.0, 9.5]
    assert events["kind"].tolist() == [ADDED, USABLE, PACE, LOST, PACE, UNUSABLE]
    assert events["factor"][events["kind"] == PACE].tolist() == [1.5, 2.0]
    assert first_there(changes, 3).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ([Change(1.0, 3, "lost")], "experts are 0 to 2"),
        ([Change(-1.0, 0, "lost")], "0 s or later"),
        ([Change(np.nan, 0, "lost")], "0 s or later"),
        ([Change(1.0, 0, "pace", 0.0)], "above 0"),
        ([Change(1.0, 0, "lost"), Change(2.0, 0, "lost")], "is lost at 2 s, but it is not there then"),
        ([Change(1.0, 0, "added"), Change(2.0, 0, "added")], "is added at 2 s, but it is there then"),
    ],
)
def test_impossible_changes_are_refused(changes: list[Change], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        run_of(requests_of(5), *changes)


def test_an_unknown_kind_is_refused() -> None:
    change = dataclasses.replace(Change(1.0, 0, "lost"), kind="gone")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="kinds are pace, lost and added"):
        run_of(requests_of(5), change)
