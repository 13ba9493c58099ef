"""StaticPrior: quality against a static latency prior per model, as in RouteBalance's ablation.

The latency of an expert is its time per token when alone, times the tokens ahead: those that its open requests still
generate, shared by the batch, and the request's own. The score is ``w * quality - (1 - w) * latency / largest
latency``. Parameter: w, the weight of quality, 0 to 1.
"""

import numpy as np
import numpy.typing as npt

from pointsman_policy.pickers.picker import Picker, best
from pointsman_policy.state import RoutingState

_NEAR_TIE = 0.001


def _kernel(
    state: RoutingState, parameters: npt.NDArray[np.float64], uniform: float, scores: npt.NDArray[np.float64]
) -> int:
    largest = 0.0
    for e in range(scores.shape[0]):
        expert = state.expert[e]
        alone = expert.base_seconds + expert.per_sequence_seconds
        ahead = (expert.running_remaining_tokens + expert.waiting_output_tokens) / expert.maximum_running_count
        scores[e] = alone * (state.candidate[e].predicted_output_tokens + ahead)
        if state.allowed[e]:
            largest = max(largest, scores[e])
    for e in range(scores.shape[0]):
        latency = scores[e] / max(largest, 1e-9)
        scores[e] = parameters[0] * state.candidate[e].predicted_quality - (1.0 - parameters[0]) * latency
    return best(state, scores, _NEAR_TIE, uniform)


PICKER = Picker("StaticPrior", _kernel, "quality against a static latency prior per model", parameters=(0.5,))
