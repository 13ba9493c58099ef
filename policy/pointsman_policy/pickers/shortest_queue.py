"""ShortestQueue: the expert with the fewest requests, running and waiting."""

import numpy as np
import numpy.typing as npt

from pointsman_policy.pickers.picker import Picker, best, load_score
from pointsman_policy.state import RoutingState


def _kernel(
    state: RoutingState, parameters: npt.NDArray[np.float64], uniform: float, scores: npt.NDArray[np.float64]
) -> int:
    for e in range(scores.shape[0]):
        scores[e] = load_score(state, e)
    return best(state, scores, 0.0, uniform)


PICKER = Picker("ShortestQueue", _kernel, "the fewest requests running and waiting", needs_slots=False)
