import dataclasses
from collections.abc import Callable

import pytest

from pointsman_policy.pickers.weighted_score import PICKER
from pointsman_policy.state import RoutingState

MakeState = Callable[..., RoutingState]
EXPERT = {"waiting_request_count": (0, 4, 8), "kv_cache_utilization_ratio": (0.9, 0.5, 0.1)}


@pytest.mark.parametrize(("weights", "expected"), [((1.0, 0.0), 0), ((0.0, 1.0), 2), ((1.0, 2.0), 2), ((2.0, 1.0), 0)])
def test_the_weights_decide_between_queue_and_cache(
    weights: tuple[float, float], expected: int, make_state: MakeState
) -> None:
    picker = dataclasses.replace(PICKER, parameters=weights)
    assert picker.pick(make_state(expert=EXPERT), 0.5).expert == expected


def test_the_queue_score_runs_from_the_longest_to_the_shortest_allowed(make_state: MakeState) -> None:
    picker = dataclasses.replace(PICKER, parameters=(1.0, 0.0))
    state = make_state(4, expert={"waiting_request_count": (2, 3, 6, 90)}, allowed=[True, True, True, False])
    assert picker.pick(state, 0.5).scores[:3].tolist() == pytest.approx([1.0, 0.75, 0.0])


def test_an_unknown_cache_counts_half(make_state: MakeState) -> None:
    picker = dataclasses.replace(PICKER, parameters=(0.0, 1.0))
    state = make_state(expert={"kv_cache_utilization_ratio": (0.6, float("nan"), 0.4)})
    assert picker.pick(state, 0.5).scores.tolist() == pytest.approx([0.4, 0.5, 0.6])


def test_equal_queues_all_score_full(make_state: MakeState) -> None:
    picker = dataclasses.replace(PICKER, parameters=(1.0, 0.0))
    state = make_state(expert={"waiting_request_count": 7})
    assert picker.pick(state, 0.5).scores.tolist() == [1.0, 1.0, 1.0]
