import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from pointsman_policy.errors import PickError
from pointsman_policy.pickers.picker import Picker, best, load_score
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.state import DROP, RoutingState

MakeState = Callable[..., RoutingState]
Choices = Callable[[Picker, RoutingState], list[int]]

UNIFORMS = (0.0, 0.2, 0.4, 0.6, 0.8, float(np.nextafter(1.0, 0.0)))
HOPELESS = {"ntpot_objective_seconds": 1e-4, "ttft_objective_seconds": 1e-4, "load_ratio": 3.0}


def _parameter(
    state: RoutingState, parameters: npt.NDArray[np.float64], uniform: float, scores: npt.NDArray[np.float64]
) -> int:
    return int(parameters[0])


def _tolerant(
    state: RoutingState, parameters: npt.NDArray[np.float64], uniform: float, scores: npt.NDArray[np.float64]
) -> int:
    scores[:] = parameters[1:]
    return best(state, scores, parameters[0], uniform)


OBEDIENT = Picker("Obedient", _parameter, "does what its parameter says")
TOLERANT = Picker("Tolerant", _tolerant, "takes its parameters for scores")


@pytest.fixture(params=sorted(PICKERS))
def picker(request: pytest.FixtureRequest) -> Picker:
    return PICKERS[request.param]


def test_only_allowed_experts_are_picked(picker: Picker, make_state: MakeState) -> None:
    rng = np.random.default_rng(0)
    for allowed in itertools.product([False, True], repeat=4):
        if not any(allowed):
            continue
        state = make_state(
            4,
            expert={
                "running_request_count": rng.integers(0, 9, 4),
                "waiting_request_count": rng.integers(0, 3, 4),
                "kv_cache_utilization_ratio": rng.random(4),
            },
            candidate={"predicted_quality": rng.random(4)},
            request={"ntpot_objective_seconds": 0.02, "sequence": rng.integers(100)},
            allowed=allowed,
        )
        for uniform in UNIFORMS:
            assert allowed[picker.pick(state, uniform).expert]


def test_nothing_allowed_is_an_error(picker: Picker, make_state: MakeState) -> None:
    with pytest.raises(PickError, match=f"{picker.name}: no expert is allowed"):
        picker.pick(make_state(allowed=[False] * 3), 0.5)


def test_the_only_expert_is_picked_even_if_it_is_hopeless(picker: Picker, make_state: MakeState) -> None:
    state = make_state(1, expert={"running_request_count": 8, "waiting_request_count": 50}, request=HOPELESS)
    assert {picker.pick(state, uniform).expert for uniform in UNIFORMS} == {0}


def test_a_request_that_must_be_served_is_never_dropped(picker: Picker, make_state: MakeState) -> None:
    state = make_state(expert={"waiting_request_count": 500}, candidate={"predicted_quality": 0}, request=HOPELESS)
    assert all(picker.pick(state, uniform).expert >= 0 for uniform in UNIFORMS)


def test_only_rules_that_know_the_objectives_drop_what_may_be_dropped(picker: Picker, make_state: MakeState) -> None:
    state = make_state(candidate={"predicted_quality": 0.5}, request={**HOPELESS, "may_drop": 1})
    dropped = picker.pick(state, 0.5).expert == DROP
    assert not dropped or picker.name in {"HanActor", "ImpactGreedy", "SloFilteredQuality"}


def test_equal_experts_are_all_chosen(picker: Picker, make_state: MakeState, choices: Choices) -> None:
    state = make_state(5, allowed=[True, False, True, True, False])
    if picker.name == "RoundRobin":
        chosen = []
        for sequence in range(60):
            state.request["sequence"] = sequence
            chosen.append(picker.pick(state, 0.5).expert)
    else:
        chosen = choices(picker, state)
    assert [chosen.count(e) for e in range(5)] == [20, 0, 20, 20, 0]


def test_the_same_state_and_random_number_give_the_same_pick(picker: Picker, make_state: MakeState) -> None:
    state = make_state(4, candidate={"predicted_quality": (0.2, 0.9, 0.4, 0.9)})
    before = [part.tobytes() for part in state]
    first, second = picker.pick(state, 0.3), picker.pick(state, 0.3)
    assert first.expert == second.expert
    np.testing.assert_array_equal(first.scores, second.scores)
    assert [part.tobytes() for part in state] == before


def test_experts_that_are_not_allowed_have_no_score(picker: Picker, make_state: MakeState) -> None:
    pick = picker.pick(make_state(allowed=[True, False, True]), 0.5)
    assert np.isneginf(pick.scores).tolist()[1]
    assert np.isfinite(pick.scores[pick.expert])


@pytest.mark.parametrize(("answer", "message"), [(1, "picked expert 1"), (7, "picked expert 7"), (-3, "expert -3")])
def test_an_answer_that_is_not_allowed_is_an_error(answer: int, message: str, make_state: MakeState) -> None:
    picker = dataclasses.replace(OBEDIENT, parameters=(float(answer),))
    with pytest.raises(PickError, match=message):
        picker.pick(make_state(allowed=[True, False, True]), 0.5)


def test_a_drop_needs_permission(make_state: MakeState) -> None:
    picker = dataclasses.replace(OBEDIENT, parameters=(float(DROP),))
    with pytest.raises(PickError, match="dropped a request that must be served"):
        picker.pick(make_state(), 0.5)
    assert picker.pick(make_state(request={"may_drop": 1}), 0.5).expert == DROP


def test_a_copy_with_other_parameters_uses_them_and_shares_the_kernel(make_state: MakeState) -> None:
    first = dataclasses.replace(OBEDIENT, parameters=(1.0,))
    second = dataclasses.replace(first, parameters=(2.0,), version="v2")
    assert [first.pick(make_state(), 0.5).expert, second.pick(make_state(), 0.5).expert] == [1, 2]
    assert second.pointer is OBEDIENT.pointer
    assert (second.name, second.version) == (OBEDIENT.name, "v2")


def test_near_ties_are_broken_by_the_random_number(make_state: MakeState, choices: Choices) -> None:
    def chosen(tolerance: float) -> set[int]:
        scores = (0.70, 0.80, 0.79, 0.99)
        picker = dataclasses.replace(TOLERANT, parameters=(tolerance, *scores))
        return set(choices(picker, make_state(4, allowed=[True, True, True, False])))

    assert chosen(0.0) == {1}
    assert chosen(0.02) == {1, 2}
    assert chosen(0.2) == {0, 1, 2}


def test_a_score_that_is_no_number_is_never_the_best(make_state: MakeState, choices: Choices) -> None:
    picker = dataclasses.replace(TOLERANT, parameters=(0.1, np.nan, -5.0, np.nan))
    assert set(choices(picker, make_state())) == {1}


def test_the_load_score_counts_running_and_waiting(make_state: MakeState) -> None:
    state = make_state(expert={"running_request_count": (1, 2, 0), "waiting_request_count": (0, 3, 0)})
    assert [load_score(state, e) for e in range(3)] == [-1, -5, 0]
