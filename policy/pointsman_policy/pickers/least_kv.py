"""LeastKv: the expert with the smallest share of its KV cache in use.

Where the share is unknown for an expert it is ranked behind every expert that reports one; among unknown ones the
fewest requests decide.
"""

import numpy as np
import numpy.typing as npt

from pointsman_policy.pickers.picker import Picker, best, load_score
from pointsman_policy.state import RoutingState

_UNKNOWN = -2.0
_NEAR_TIE = 0.002


def _kernel(
    state: RoutingState, parameters: npt.NDArray[np.float64], uniform: float, scores: npt.NDArray[np.float64]
) -> int:
    for e in range(scores.shape[0]):
        used = state.expert[e].kv_cache_utilization_ratio
        if np.isnan(used):
            scores[e] = _UNKNOWN + load_score(state, e)
        else:
            scores[e] = -used
    return best(state, scores, _NEAR_TIE, uniform)


PICKER = Picker("LeastKv", _kernel, "the smallest share of the KV cache in use")
