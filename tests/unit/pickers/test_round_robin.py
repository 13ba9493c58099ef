from collections.abc import Callable

from pointsman_policy.pickers.round_robin import PICKER
from pointsman_policy.state import RoutingState


def test_allowed_experts_take_turns_whatever_their_load(make_state: Callable[..., RoutingState]) -> None:
    state = make_state(4, expert={"running_request_count": (9, 0, 5, 0)}, allowed=[True, True, False, True])
    turns = []
    for sequence in range(6):
        state.request["sequence"] = sequence
        turns.append(PICKER.pick(state, 0.9).expert)
    assert turns == [0, 1, 3, 0, 1, 3]


def test_late_decisions_have_a_turn_too(make_state: Callable[..., RoutingState]) -> None:
    state = make_state(3, request={"sequence": 2**20 - 1})
    assert PICKER.pick(state, 0.0).expert == (2**20 - 1) % 3
