from collections.abc import Callable

from pointsman_policy.pickers.picker import Picker
from pointsman_policy.pickers.quality_first import PICKER
from pointsman_policy.state import RoutingState

MakeState = Callable[..., RoutingState]


def test_the_best_predicted_quality_wins_whatever_the_load(make_state: MakeState) -> None:
    state = make_state(
        expert={"running_request_count": (0, 8, 0), "waiting_request_count": (0, 99, 0)},
        candidate={"predicted_quality": (0.5, 0.9, 0.7)},
    )
    assert PICKER.pick(state, 0.5).expert == 1


def test_the_best_allowed_one_is_taken(make_state: MakeState) -> None:
    state = make_state(candidate={"predicted_quality": (0.5, 0.9, 0.7)}, allowed=[True, False, True])
    assert PICKER.pick(state, 0.5).expert == 2


def test_hardly_different_qualities_are_a_tie(
    make_state: MakeState, choices: Callable[[Picker, RoutingState], list[int]]
) -> None:
    state = make_state(candidate={"predicted_quality": (0.7005, 0.7, 0.69)})
    assert set(choices(PICKER, state)) == {0, 1}
