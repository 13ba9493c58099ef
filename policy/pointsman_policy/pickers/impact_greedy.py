"""ImpactGreedy: the request's own expected QoS, less the harm to others, less the price of the capacity it takes.

For each expert e::

    score_e = q_e * P_e  -  w * impact_e  -  V * health_e * (price_e * size  +  waste * (1 - P_e) * yield_e / Y)
    price_e = price * crowding_e ** sharpness

q_e is the predicted quality and Q its mean over the experts, V the mean of their quality priors (what capacity is worth
to other requests, however easy this one is), P_e the probability of meeting the objectives, impact_e
the expected QoS lost among the requests already there. size is the work of the request, the harmonic mean over the
experts of the expert-seconds work_e that it takes, over that of a mean request; crowding_e is the part of the slack of
its objectives that the load on e takes. So capacity has its price where it is short, and a request of mean size pays
the same on every expert that is as short of it: the shadow prices of the fluid optimum are much like that. yield_e =
q_e / work_e is what the expert earns per second, Y its mean over the experts: a request that will be late anyway should
waste an expert that earns little, or one whose own requests are late already (health_e, the mean chance of those there,
is then near 0). The best score is taken; one below the threshold, times Q, is shed where admission allows it.

Pessimism and spreads go to the latency estimates. All parameters are functions of the load: two tables, one for
requests that must be served and one for those that may be shed, interpolated linearly and constant beyond their ends.
The numbers come from a random search in the simulator over fleets, arrivals and loads.
"""

import numpy as np
import numpy.typing as npt

from pointsman_policy.compiled import allocating, compiled
from pointsman_policy.latency.estimator import ESTIMATE, estimate
from pointsman_policy.pickers.picker import Picker, allowed_count, best
from pointsman_policy.state import DROP, RoutingState

COLUMNS = ("load", "impact_weight", "price", "waste", "threshold", "pessimism", "spread", "length_spread", "sharpness")
_WIDTH = len(COLUMNS)
_NEAR_TIE = 0.002

MUST_SERVE = (
    (0.5, 1.1, 0.3, 0.5, 0.0, 0.95, 0.20, 0.80, 3.0),
    (0.9, 1.5, 0.5, 0.9, 0.0, 0.97, 0.25, 0.75, 3.0),
    (1.3, 1.6, 0.7, 1.8, 0.0, 1.00, 0.33, 0.80, 3.0),
)
MAY_DROP = (
    (0.5, 1.0, 0.3, 0.0, 0.0, 0.95, 0.15, 0.80, 3.0),
    (0.9, 1.5, 0.5, 0.0, 0.0, 0.96, 0.25, 0.75, 3.0),
    (1.3, 1.2, 0.7, 0.0, 0.0, 1.01, 0.30, 1.00, 3.0),
)
"""Where a search starts. What the router runs with is the exported policy that comes with the package."""


@allocating
def interpolate(tables: npt.NDArray[np.float64], width: int, load: float, may_drop: bool) -> npt.NDArray[np.float64]:
    """Return the row of parameters at a load, [width].

    Args:
        tables: Both tables flattened, must-serve first; as many rows in each.
        width: Columns; the first is the load, ascending.
        load: Of the request.
        may_drop: Which table.
    """
    half = tables.shape[0] // 2
    table = tables[:half].reshape(-1, width)
    if may_drop:
        table = tables[half:].reshape(-1, width)
    low = 0
    while low < table.shape[0] - 2 and load > table[low + 1, 0]:
        low += 1
    high = min(low + 1, table.shape[0] - 1)
    share = 0.0
    if table[high, 0] > table[low, 0]:
        share = min(max((load - table[low, 0]) / (table[high, 0] - table[low, 0]), 0.0), 1.0)
    row: npt.NDArray[np.float64] = table[low] * (1.0 - share) + table[high] * share
    return row


@compiled
def score_experts(
    state: RoutingState,
    row: npt.NDArray[np.float64],
    estimates: npt.NDArray[np.void],
    scores: npt.NDArray[np.float64],
) -> float:
    """Write the score of every expert and return the mean quality over the allowed ones.

    Args:
        state: The routing state.
        row: Parameters, as in COLUMNS; more columns are left alone.
        estimates: ESTIMATE rows, [E].
        scores: [E]; is written.
    """
    impact_weight, price, waste, sharpness = row[1], row[2], row[3], row[8]
    allowed = allowed_count(state)
    mean_yield = 0.0
    mean_quality = 0.0
    mean_prior = 0.0
    mean_rate = 0.0
    for e in range(scores.shape[0]):
        if state.allowed[e]:
            mean_prior += state.expert[e].quality_prior / allowed
            mean_quality += state.candidate[e].predicted_quality / allowed
            mean_yield += state.candidate[e].predicted_quality / estimates[e].work_seconds / allowed
            mean_rate += 1.0 / estimates[e].work_seconds / allowed
    value = mean_prior
    if mean_prior <= 0.0:
        value = mean_quality
    size = 1.0 / (mean_rate * max(state.request[0].mean_work_seconds, 1e-9))
    for e in range(scores.shape[0]):
        one = estimates[e]
        quality = state.candidate[e].predicted_quality
        taken = price * size * one.crowding_ratio**sharpness
        wasted = waste * (1.0 - one.slo_probability) * quality / one.work_seconds / max(mean_yield, 1e-9)
        cost = value * one.health * (taken + wasted)
        scores[e] = quality * one.slo_probability - impact_weight * one.impact - cost
    return mean_quality


@compiled
def take_best(state: RoutingState, scores: npt.NDArray[np.float64], least: float, uniform: float) -> int:
    """Return one of the best experts; DROP if it scores below `least` and the request may be shed."""
    choice = best(state, scores, _NEAR_TIE, uniform)
    if state.request[0].may_drop > 0.0 and scores[choice] < least:
        return DROP
    return choice


def _kernel(
    state: RoutingState, parameters: npt.NDArray[np.float64], uniform: float, scores: npt.NDArray[np.float64]
) -> int:
    request = state.request[0]
    row = interpolate(parameters, _WIDTH, request.load_ratio, request.may_drop > 0.0)
    estimates = np.zeros(scores.shape[0], ESTIMATE)
    for e in range(scores.shape[0]):
        estimate(state, e, row[5], row[6], row[7], estimates)
    mean_quality = score_experts(state, row, estimates, scores)
    return take_best(state, scores, row[4] * mean_quality, uniform)


PICKER = Picker(
    "ImpactGreedy",
    _kernel,
    "the best own expected QoS, less the harm to others and the price of capacity",
    parameters=tuple(value for row in MUST_SERVE + MAY_DROP for value in row),
)
