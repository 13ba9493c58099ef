import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from pointsman_policy.errors import PickError
from pointsman_policy.latency.impact import added_delay, newly_late
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.simulator.changes import Change
from pointsman_policy.simulator.simulation import UNFORCED, Fleet, Requests, Run, Visibility, record, simulate
from pointsman_policy.simulator.situation import Situation, qos, run_situation
from pointsman_policy.simulator.stepping import Simulation, SimulationBatch
from pointsman_policy.state import DROP, RoutingState

COEFFICIENTS = np.array([[0.007, 1e-5, 1e-7, 2e-5], [0.02, 3e-5, 2e-7, 6e-5], [0.025, 5e-5, 5e-7, 7e-5]])
LOSS_AND_SLOWNESS = (Change(2.0, 0, "pace", 2.0), Change(3.0, 1, "lost"), Change(6.0, 1, "added"))


def situation_of(
    count: int = 200, experts: int = 3, rate: float = 40.0, seed: int = 0, changes: tuple[Change, ...] = ()
) -> Situation:
    rng = np.random.default_rng(seed)
    output = rng.integers(1, 150, (count, experts))
    quality = rng.random((count, experts))
    return Situation(
        name="test",
        fleet=Fleet(
            coefficients=COEFFICIENTS[:experts],
            believed_coefficients=COEFFICIENTS[:experts] * 0.9,
            kv_capacity=np.full(experts, 8_000.0),
            maximum_running=np.full(experts, 16, np.int64),
            quality_prior=np.full(experts, 0.5),
        ),
        requests=Requests(
            arrival_at=np.cumsum(rng.exponential(1 / rate, count)),
            prompt_tokens=rng.integers(20, 800, count),
            output_tokens=output,
            predicted_quality=quality.astype(np.float32),
            predicted_output_tokens=output.astype(np.float32),
            objectives=np.tile([1.5, 0.05, 0.03], (count, 1)),
            priority=np.zeros(count, np.int64),
            quality_floor=0.0,
        ),
        quality=quality,
        visibility=Visibility(0.5, 0.1, 0.1, 0.5, 0.2),
        admission="ShedHopeless",
        changes=changes,
    )


def play(simulation: Simulation, picker: Picker, seed: int) -> tuple[list[float], list[int]]:
    """Let a picker choose until the end; return the QoS of each step, and the requests in the order of their ends."""
    uniforms = np.random.default_rng(seed).random(len(simulation.run().expert))
    earned: list[float] = []
    ended: list[int] = []
    while not simulation.over:
        request = int(simulation.last_step[0]["request"])
        simulation.step(picker.pick(simulation.state, float(uniforms[request])).expert)
        earned.append(float(simulation.last_step[0]["qos"]))
        ended += simulation.ended.tolist()
        assert simulation.ended_qos.sum() == pytest.approx(earned[-1])
    return earned, ended


def assert_same(first: Run, second: Run) -> None:
    assert first.expert.tolist() == second.expert.tolist()
    assert first.first_token_at.tobytes() == second.first_token_at.tobytes()
    assert first.finished_at.tobytes() == second.finished_at.tobytes()
    assert first.busy_seconds.tobytes() == second.busy_seconds.tobytes()
    assert first.preemption_count == second.preemption_count


@pytest.mark.parametrize("name", ["ImpactGreedy", "SloFilteredQuality", "Random"])
@pytest.mark.parametrize("changes", [(), LOSS_AND_SLOWNESS], ids=["steady", "changing"])
def test_a_pickers_own_choices_step_by_step_give_its_run(name: str, changes: tuple[Change, ...]) -> None:
    situation = situation_of(rate=60, changes=changes)
    simulation = Simulation(situation)
    earned, ended = play(simulation, PICKERS[name], seed=5)
    run = run_situation(situation, PICKERS[name], np.random.default_rng(5))
    assert_same(simulation.run(), run)
    assert sorted(ended) == np.flatnonzero(run.expert != DROP).tolist()
    assert sum(earned) == pytest.approx(qos(situation, run).sum(), rel=1e-12)
    assert sum(earned) > 0


def test_while_nobody_is_there_no_decision_is_due() -> None:
    situation = situation_of(experts=1, changes=(Change(0.0, 0, "lost"), Change(2.0, 0, "added")))
    simulation = Simulation(situation)
    first = int(np.argmax(situation.requests.arrival_at >= 0.2))
    seen = []
    while not simulation.over:
        seen.append(int(simulation.last_step[0]["request"]))
        simulation.step(0)
    arrival_at = situation.requests.arrival_at
    assert seen == np.flatnonzero((arrival_at < 0.2) | (arrival_at >= 2.2)).tolist()
    assert np.isnan(simulation.run().finished_at[:first]).all()


def test_actions_that_are_not_allowed_are_refused_and_change_nothing() -> None:
    situation = dataclasses.replace(situation_of(20), admission="Never", changes=(Change(0.0, 1, "added"),))
    simulation = Simulation(situation)
    for action, problem in ((DROP, "must be served"), (1, "pick expert 1"), (3, "pick expert 3"), (-2, "expert -2")):
        with pytest.raises(PickError, match=problem):
            simulation.step(action)
    assert simulation.last_step[0]["request"] == 0
    while not simulation.over:
        simulation.step(0)
    with pytest.raises(PickError, match="is over"):
        simulation.step(0)
    assert not simulation.allows(0)


def expected_lateness(state: RoutingState, x: int) -> tuple[int, float, int, float]:
    late, late_quality, newly, newly_quality = 0, 0.0, 0, 0.0
    expert, request = state.expert[x], state.request[0]
    for slot in state.running[x][state.running_mask[x]]:
        total = max(float(slot["predicted_output_tokens"]), float(slot["generated_tokens"]) + 1)
        delay = added_delay(
            request["prompt_tokens"],
            state.candidate[x]["predicted_output_tokens"],
            total - slot["generated_tokens"],
            expert["per_sequence_seconds"],
            expert["per_context_token_seconds"],
            expert["per_prefill_token_seconds"],
        )
        per_token, limit = slot["ntpot_seconds"], slot["ntpot_objective_seconds"]
        if per_token + delay / total > limit:
            late += 1
            late_quality += slot["predicted_quality"]
        if newly_late(per_token, delay, total, limit):
            newly += 1
            newly_quality += slot["predicted_quality"]
    return late, late_quality, newly, newly_quality


def test_lateness_counts_those_already_late_anew_and_those_newly_late_once() -> None:
    simulation = Simulation(situation_of(rate=100))
    rng = np.random.default_rng(2)
    late, newly = 0.0, 0.0
    while not simulation.over:
        action = int(rng.integers(3))
        expected = expected_lateness(simulation.state, action)
        simulation.step(action)
        step = simulation.last_step[0]
        got = [step[name] for name in ("late_count", "late_quality", "newly_late_count", "newly_late_quality")]
        assert got == pytest.approx(expected, rel=1e-4)
        late, newly = late + step["late_count"], newly + step["newly_late_count"]
    assert late > 5 * newly > 0


def test_a_dropped_request_makes_nobody_late() -> None:
    simulation = Simulation(situation_of(50, rate=200))
    for _ in range(20):
        simulation.step(0)
    simulation.step(DROP)
    step = simulation.last_step[0]
    assert step["late_count"] == step["newly_late_quality"] == 0


def test_a_batch_is_its_simulations_side_by_side() -> None:
    situations = [situation_of(60, experts, seed=experts) for experts in (1, 3, 2)]
    alone = [Simulation(situation) for situation in situations]
    batch = SimulationBatch(situations, 4)
    assert batch.present.tolist() == [[e < experts for e in range(4)] for experts in (1, 3, 2)]
    rng = np.random.default_rng(0)
    for _ in range(60):
        actions = np.array([rng.integers(experts) for experts in (1, 3, 2)])
        for row, simulation in enumerate(alone):
            experts = len(simulation.state.allowed)
            for stacked, one in zip(batch.states, simulation.state, strict=True):
                if len(one) == experts:
                    assert stacked[row, :experts].tobytes() == one.tobytes()
                    assert not stacked[row, experts:].tobytes().strip(b"\0")
            assert batch.states.request[row].tobytes() == simulation.state.request.tobytes()
            simulation.step(int(actions[row]))
        batch.step(actions)
        assert batch.steps["qos"].tolist() == [simulation.last_step[0]["qos"] for simulation in alone]
    assert batch.steps["over"].all()
    batch.step(np.zeros(3, np.int64))
    for first, second in zip(batch.simulations, alone, strict=True):
        assert_same(first.run(), second.run())


def test_one_of_a_batch_can_begin_anew_with_another_fleet() -> None:
    batch = SimulationBatch([situation_of(5, 3), situation_of(30, 2)], 3)
    for _ in range(5):
        batch.step(np.array([2, 1]))
    assert batch.steps["over"].tolist() == [True, False]
    batch.reset(0, situation_of(30, 1, seed=9))
    assert batch.steps["over"].tolist() == [False, False]
    assert batch.present.tolist() == [[True, False, False], [True, True, False]]
    fresh = Simulation(situation_of(30, 1, seed=9))
    assert batch.states.expert[0, :1].tobytes() == fresh.state.expert.tobytes()
    assert not batch.states.allowed[0, 1:].any()
    with pytest.raises(PickError, match="simulation 0: action 1"):
        batch.step(np.array([1, 1]))
    assert batch.steps["request"].tolist() == [0, 5]


def test_a_fleet_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="3 experts; there is room for 2"):
        SimulationBatch([situation_of(5, 3)], 2)


def recorded(
    situation: Situation, picker: Picker, sampled: npt.NDArray[np.bool_], forced: npt.NDArray[np.int64]
) -> tuple[RoutingState, Run]:
    recording = record(
        situation.fleet, situation.requests, picker, np.random.default_rng(5), situation.visibility,
        situation.admission, situation.changes, sampled, forced,
    )  # fmt: skip
    assert recording.rows.tolist() == np.flatnonzero(sampled).tolist()
    return recording.states, recording.run


@pytest.mark.parametrize("name", ["ImpactGreedy", "ShortestQueue"])
def test_recording_changes_nothing_and_keeps_what_was_seen(name: str) -> None:
    situation = situation_of(changes=LOSS_AND_SLOWNESS)
    sampled = np.random.default_rng(1).random(200) < 0.3
    states, run = recorded(situation, PICKERS[name], sampled, np.full(200, UNFORCED))
    assert_same(run, run_situation(situation, PICKERS[name], np.random.default_rng(5)))
    simulation, row = Simulation(situation), 0
    for i in range(200):
        if sampled[i]:
            for kept, seen in zip(states, simulation.state, strict=True):
                assert kept[row].tobytes() == seen.tobytes()
            row += 1
        simulation.step(int(run.expert[i]))


def test_forced_choices_are_made_where_they_are_allowed() -> None:
    situation = situation_of(changes=(Change(2.0, 1, "lost"),))
    forced = np.random.default_rng(1).integers(-2, 4, 200)
    never = dataclasses.replace(situation, admission="Never")
    _, run = recorded(situation, PICKERS["RoundRobin"], np.zeros(200, np.bool_), forced)
    _, served = recorded(never, PICKERS["RoundRobin"], np.zeros(200, np.bool_), forced)
    allowed = (forced >= 0) & (forced < 3) & ~((forced == 1) & (situation.requests.arrival_at >= 2.2))
    assert 50 < allowed.sum() < 140
    assert (run.expert[allowed] == forced[allowed]).all()
    assert ((run.expert == DROP) == (forced == DROP)).all()
    assert (served.expert[allowed] == forced[allowed]).all()
    assert (served.expert != DROP).all()


def test_a_recording_needs_a_value_for_every_request() -> None:
    situation = situation_of(5)
    with pytest.raises(ValueError, match="there are 5 requests, but 4 values of sampled and 5 of forced"):
        recorded(situation, PICKERS["RoundRobin"], np.zeros(4, np.bool_), np.full(5, UNFORCED))
    plain = simulate(situation.fleet, situation.requests, PICKERS["RoundRobin"], np.random.default_rng(5))
    assert np.isfinite(plain.finished_at).all()
