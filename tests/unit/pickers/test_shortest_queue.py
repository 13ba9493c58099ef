from collections.abc import Callable

from pointsman_policy.pickers.picker import Picker
from pointsman_policy.pickers.shortest_queue import PICKER
from pointsman_policy.state import RoutingState

MakeState = Callable[..., RoutingState]


def test_running_and_waiting_requests_count_alike(make_state: MakeState) -> None:
    state = make_state(expert={"running_request_count": (3, 1, 4), "waiting_request_count": (1, 4, 1)})
    assert PICKER.pick(state, 0.5).expert == 0


def test_the_next_shortest_is_taken_if_the_shortest_is_not_allowed(make_state: MakeState) -> None:
    state = make_state(expert={"running_request_count": (0, 2, 1)}, allowed=[False, True, True])
    assert PICKER.pick(state, 0.5).expert == 2


def test_experts_of_equal_load_share_and_others_get_nothing(
    make_state: MakeState, choices: Callable[[Picker, RoutingState], list[int]]
) -> None:
    chosen = choices(PICKER, make_state(expert={"running_request_count": (2, 3, 2)}))
    assert [chosen.count(e) for e in range(3)] == [30, 0, 30]
