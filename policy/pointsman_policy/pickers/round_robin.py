"""RoundRobin: each allowed expert in turn."""

import numpy as np
import numpy.typing as npt

from pointsman_policy.pickers.picker import Picker, allowed_count, nth_allowed
from pointsman_policy.state import RoutingState


def _kernel(
    state: RoutingState, parameters: npt.NDArray[np.float64], uniform: float, scores: npt.NDArray[np.float64]
) -> int:
    turn = nth_allowed(state, int(state.request[0].sequence) % allowed_count(state))
    for e in range(scores.shape[0]):
        scores[e] = 0.0
    scores[turn] = 1.0
    return turn


PICKER = Picker("RoundRobin", _kernel, "each expert in turn", needs_slots=False)
