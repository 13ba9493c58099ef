"""Random: each allowed expert with the same chance."""

import numpy as np
import numpy.typing as npt

from pointsman_policy.pickers.picker import Picker, best
from pointsman_policy.state import RoutingState


def _kernel(
    state: RoutingState, parameters: npt.NDArray[np.float64], uniform: float, scores: npt.NDArray[np.float64]
) -> int:
    for e in range(scores.shape[0]):
        scores[e] = 0.0
    return best(state, scores, 0.0, uniform)


PICKER = Picker("Random", _kernel, "any expert, by chance", needs_slots=False)
