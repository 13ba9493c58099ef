"""WeightedScore: a weighted sum of queue and KV-cache scores, as llm-d's default scorers do.

Queue score: 1 for the shortest queue of waiting requests among the candidates, 0 for the longest. KV score: the free
share of the cache; half where unknown. Parameters: the weights of the two.
"""

import numpy as np
import numpy.typing as npt

from pointsman_policy.pickers.picker import Picker, best
from pointsman_policy.state import RoutingState

_NEAR_TIE = 0.01


def _kernel(
    state: RoutingState, parameters: npt.NDArray[np.float64], uniform: float, scores: npt.NDArray[np.float64]
) -> int:
    shortest = np.inf
    longest = -np.inf
    for e in range(scores.shape[0]):
        if state.allowed[e]:
            shortest = min(shortest, state.expert[e].waiting_request_count)
            longest = max(longest, state.expert[e].waiting_request_count)
    for e in range(scores.shape[0]):
        expert = state.expert[e]
        queue = 1.0
        if longest > shortest:
            queue = (longest - expert.waiting_request_count) / (longest - shortest)
        free = 0.5
        if not np.isnan(expert.kv_cache_utilization_ratio):
            free = 1.0 - expert.kv_cache_utilization_ratio
        scores[e] = parameters[0] * queue + parameters[1] * free
    return best(state, scores, _NEAR_TIE, uniform)


PICKER = Picker("WeightedScore", _kernel, "queue length and free KV cache, weighted", parameters=(1.0, 1.0))
