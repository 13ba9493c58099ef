from collections.abc import Callable

from pointsman_policy.pickers.picker import Picker
from pointsman_policy.pickers.random import PICKER
from pointsman_policy.state import RoutingState


def test_every_allowed_expert_has_the_same_chance_whatever_its_load(
    make_state: Callable[..., RoutingState], choices: Callable[[Picker, RoutingState], list[int]]
) -> None:
    state = make_state(
        4,
        expert={"running_request_count": (9, 0, 5, 0)},
        candidate={"predicted_quality": (0.1, 0.9, 0.5, 0.5)},
        allowed=[True, True, True, False],
    )
    chosen = choices(PICKER, state)
    assert [chosen.count(e) for e in range(4)] == [20, 20, 20, 0]
