"""SloFilteredQuality: the best predicted quality among the experts that are predicted to meet every objective.

If none is, the request is shed where admission allows it, else it goes where it will be least late. Parameter: the
share of each objective that a prediction may use up.
"""

import numpy as np
import numpy.typing as npt

from pointsman_policy.latency.estimator import (
    DEFAULT_LENGTH_SPREAD,
    DEFAULT_PESSIMISM,
    DEFAULT_SPREAD,
    ESTIMATE,
    estimate,
)
from pointsman_policy.pickers.picker import Picker, best
from pointsman_policy.state import DROP, RoutingState

_NEAR_TIE = 0.001
_MISS = -1.0e3


def _kernel(
    state: RoutingState, parameters: npt.NDArray[np.float64], uniform: float, scores: npt.NDArray[np.float64]
) -> int:
    experts = scores.shape[0]
    rows = np.zeros(experts, ESTIMATE)
    request = state.request[0]
    meets_any = False
    for e in range(experts):
        estimate(state, e, DEFAULT_PESSIMISM, DEFAULT_SPREAD, DEFAULT_LENGTH_SPREAD, rows)
        row = rows[e]
        used = 0.0
        if request.ttft_objective_seconds > 0.0:
            used = max(used, row.ttft_seconds / request.ttft_objective_seconds)
        if request.tpot_objective_seconds > 0.0:
            used = max(used, row.tpot_seconds / request.tpot_objective_seconds)
        if request.ntpot_objective_seconds > 0.0:
            used = max(used, row.ntpot_seconds / request.ntpot_objective_seconds)
        if used <= parameters[0]:
            scores[e] = state.candidate[e].predicted_quality
            meets_any = meets_any or state.allowed[e]
        else:
            scores[e] = _MISS - used
    if not meets_any and request.may_drop > 0.0:
        return DROP
    return best(state, scores, _NEAR_TIE, uniform)


PICKER = Picker(
    "SloFilteredQuality", _kernel, "the best quality among those predicted to meet the objectives", parameters=(1.0,)
)
