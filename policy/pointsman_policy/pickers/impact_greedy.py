"""ImpactGreedy: the request's own expected QoS, less the harm to others, less the price of the capacity it takes.

``score_e = quality_e * P(meets objectives) - w * impact_e - price * work_e / mean work``; the best expert is taken, and
a request whose best score is below the threshold is shed where admission allows it. All parameters are functions of the
load: rows of (load, w, price, threshold, pessimism, spread), interpolated linearly and constant beyond the ends.
Pessimism and spread go to the latency estimates, the price is in QoS per mean request's share of capacity.
"""

import numpy as np
import numpy.typing as npt

from pointsman_policy.latency.estimator import ESTIMATE, estimate
from pointsman_policy.pickers.picker import Picker, best
from pointsman_policy.state import DROP, RoutingState

COLUMNS = ("load", "impact_weight", "price", "threshold", "pessimism", "spread")
_WIDTH = len(COLUMNS)
_NEAR_TIE = 0.002

DEFAULT_PARAMETERS = (
    (0.5, 1.0, 0.02, 0.00, 1.05, 0.15),
    (0.9, 1.0, 0.10, 0.05, 1.05, 0.15),
    (1.3, 1.0, 0.20, 0.10, 1.05, 0.15),
)


def _kernel(
    state: RoutingState, parameters: npt.NDArray[np.float64], uniform: float, scores: npt.NDArray[np.float64]
) -> int:
    request = state.request[0]
    load = float(request.load_ratio)
    rows = parameters.shape[0] // _WIDTH
    low = 0
    while low < rows - 2 and load > parameters[(low + 1) * _WIDTH]:
        low += 1
    high = min(low + 1, rows - 1)
    span = parameters[high * _WIDTH] - parameters[low * _WIDTH]
    share = 0.0
    if span > 0.0:
        share = min(max((load - parameters[low * _WIDTH]) / span, 0.0), 1.0)
    at = parameters[low * _WIDTH : (low + 1) * _WIDTH] * (1.0 - share)
    at = at + parameters[high * _WIDTH : (high + 1) * _WIDTH] * share
    estimates = np.zeros(scores.shape[0], ESTIMATE)
    for e in range(scores.shape[0]):
        estimate(state, e, at[4], at[5], estimates)
        row = estimates[e]
        own = state.candidate[e].predicted_quality * row.slo_probability
        scores[e] = own - at[1] * row.impact - at[2] * row.work_seconds / max(request.mean_work_seconds, 1e-9)
    choice = best(state, scores, _NEAR_TIE, uniform)
    if request.may_drop > 0.0 and scores[choice] < at[3]:
        return DROP
    return choice


PICKER = Picker(
    "ImpactGreedy",
    _kernel,
    "the best own expected QoS, less the harm to others and the price of capacity",
    parameters=tuple(value for row in DEFAULT_PARAMETERS for value in row),
)
