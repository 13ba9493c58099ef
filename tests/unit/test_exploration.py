import numpy as np
import pytest

from pointsman_operator.exploration import explore
from pointsman_policy.state import DROP, RoutingState, empty_state


def a_state() -> RoutingState:
    """Four idle experts without objectives: two nearly as good as the best, one much worse."""
    state = empty_state(4)
    state.allowed[:] = True
    state.expert["base_seconds"] = 0.005
    state.expert["pace_ratio"] = 1.0
    state.expert["maximum_running_count"] = 8
    state.request["prompt_tokens"] = 10
    state.candidate["predicted_output_tokens"] = 100
    state.candidate["predicted_quality"] = [0.80, 0.79, 0.77, 0.40]
    return state


def frequencies(state: RoutingState, percent: int, count: int = 20_000) -> tuple[list[float], list[float]]:
    """How often each expert is chosen, and the mean inverse of the logged chance, which must be the number of them."""
    chosen = np.zeros(4)
    weights = np.zeros(4)
    for uniform in np.random.default_rng(0).random(count):
        explored = explore(state, 0, percent, float(uniform))
        assert explored.tried == (explored.expert != 0)
        chosen[explored.expert] += 1
        weights[explored.expert] += 1 / explored.propensity
    return list(chosen / count), list(weights / count)


def test_it_is_off_by_default_and_never_touches_a_drop() -> None:
    assert explore(a_state(), 0, 0, 0.0) == (0, 1.0, False)
    assert explore(a_state(), DROP, 100, 0.0) == (DROP, 1.0, False)


@pytest.mark.parametrize("percent", [10, 50, 100])
def test_only_near_ties_are_tried_and_their_chances_are_logged(percent: int) -> None:
    chosen, weights = frequencies(a_state(), percent)
    share = percent / 100
    assert chosen == pytest.approx([1 - share + share / 3, share / 3, share / 3, 0.0], abs=0.015)
    assert weights == pytest.approx([1.0, 1.0, 1.0, 0.0], abs=0.06)


def test_an_expert_that_may_miss_the_objectives_is_not_tried() -> None:
    state = a_state()
    state.request["ntpot_objective_seconds"] = 0.02
    state.expert["base_seconds"] = [0.005, 0.05, 0.005, 0.005]
    chosen, _ = frequencies(state, 100)
    assert chosen == pytest.approx([0.5, 0.0, 0.5, 0.0], abs=0.015)


def test_an_expert_that_is_not_allowed_is_not_tried() -> None:
    state = a_state()
    state.allowed[1] = False
    chosen, _ = frequencies(state, 100)
    assert chosen[1] == 0.0
