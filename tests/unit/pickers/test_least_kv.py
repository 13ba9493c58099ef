from collections.abc import Callable

from pointsman_policy.pickers.least_kv import PICKER
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.state import RoutingState

MakeState = Callable[..., RoutingState]
UNKNOWN = float("nan")


def test_the_smallest_share_wins_whatever_the_counts(make_state: MakeState) -> None:
    state = make_state(
        expert={"kv_cache_utilization_ratio": (0.5, 0.2, 0.9), "running_request_count": (0, 30, 0)},
    )
    assert PICKER.pick(state, 0.5).expert == 1


def test_a_full_cache_that_is_known_is_better_than_an_unknown_one(make_state: MakeState) -> None:
    state = make_state(expert={"kv_cache_utilization_ratio": (UNKNOWN, 1.0, UNKNOWN)})
    assert PICKER.pick(state, 0.5).expert == 1


def test_among_unknown_ones_the_fewest_requests_decide(make_state: MakeState) -> None:
    state = make_state(
        expert={"kv_cache_utilization_ratio": UNKNOWN, "running_request_count": (2, 1, 0), "waiting_request_count": 1},
        allowed=[True, True, False],
    )
    assert PICKER.pick(state, 0.5).expert == 1


def test_hardly_different_shares_are_a_tie(
    make_state: MakeState, choices: Callable[[Picker, RoutingState], list[int]]
) -> None:
    state = make_state(expert={"kv_cache_utilization_ratio": (0.501, 0.5, 0.51)})
    assert set(choices(PICKER, state)) == {0, 1}
