from collections import Counter
from collections.abc import Callable

import numpy as np

from pointsman_policy.pickers.power_of_two import PICKER
from pointsman_policy.state import RoutingState

MakeState = Callable[..., RoutingState]


def compared(state: RoutingState, uniform: float) -> tuple[int, ...]:
    return tuple(np.flatnonzero(np.isfinite(PICKER.pick(state, uniform).scores)).tolist())


def test_every_pair_of_allowed_experts_is_compared_equally_often(make_state: MakeState) -> None:
    state = make_state(6, allowed=[True, False, True, True, False, True])
    pairs = Counter(compared(state, uniform) for uniform in (np.arange(1200) + 0.5) / 1200)
    assert pairs == {(0, 2): 200, (0, 3): 200, (0, 5): 200, (2, 3): 200, (2, 5): 200, (3, 5): 200}


def test_the_less_loaded_of_the_two_is_taken(make_state: MakeState) -> None:
    state = make_state(4, expert={"running_request_count": (3, 1, 2, 0), "waiting_request_count": (0, 4, 0, 0)})
    load = (3, 5, 2, 0)
    for uniform in (np.arange(200) + 0.5) / 200:
        pick = PICKER.pick(state, uniform)
        assert load[pick.expert] == min(load[e] for e in compared(state, uniform))


def test_the_ends_of_the_random_range_are_safe(make_state: MakeState) -> None:
    for experts in range(1, 9):
        state = make_state(experts)
        for uniform in (0.0, float(np.nextafter(1.0, 0.0))):
            assert len(compared(state, uniform)) == min(experts, 2)
