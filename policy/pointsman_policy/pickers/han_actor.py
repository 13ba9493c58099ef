"""HanActor: the learned policy, a graph attention network with a scorer that all experts share.

Trained on outcomes it is ImpactGreedy with a chance that is learned: the network corrects the logit of the analytic
P(meets its objectives), and a share `trust` of the correction goes into P_e::

    logit P_e = (1 - trust) * logit P_e(parameters) + trust * (logit P_e(default) + slo_logit_e)

With a trust of 0 it is ImpactGreedy. Trained by reinforcement it goes by the network's scores alone: the best expert,
or dropping where that is allowed and scores higher.

The parameters are: 1 for the network's scores alone, the length of the tables, ImpactGreedy's tables with the trust as
one more column, and the network's weights.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pointsman_policy.compiled import compiled
from pointsman_policy.latency.estimator import ESTIMATE, estimate
from pointsman_policy.pickers import impact_greedy
from pointsman_policy.pickers.impact_greedy import interpolate, score_experts, take_best
from pointsman_policy.pickers.picker import Picker, best
from pointsman_policy.runtime.features import FEATURES, LOGIT_SCALE, features_of
from pointsman_policy.runtime.han import forward
from pointsman_policy.runtime.packing import pack_network
from pointsman_policy.runtime.size import NetworkSize, weight_shapes
from pointsman_policy.state import DROP, RoutingState

COLUMNS = (*impact_greedy.COLUMNS, "trust")
_WIDTH = len(COLUMNS)
_SLO_LOGIT = FEATURES["expert"].index("slo_logit")
_LEAST_CHANCE = 1e-4


@compiled
def _logit(chance: float) -> float:
    inside = min(max(chance, _LEAST_CHANCE), 1.0 - _LEAST_CHANCE)
    return math.log(inside / (1.0 - inside))


def _kernel(
    state: RoutingState, parameters: npt.NDArray[np.float64], uniform: float, scores: npt.NDArray[np.float64]
) -> int:
    request = state.request[0]
    experts = scores.shape[0]
    end = 2 + int(parameters[1])
    features = features_of(state)
    slo_logits = np.zeros(experts)
    drop = forward(features, parameters[end:], scores, slo_logits)
    if parameters[0] > 0.0:
        choice = best(state, scores, 0.0, uniform)
        if request.may_drop > 0.0 and drop > scores[choice]:
            return DROP
        return choice
    row = interpolate(parameters[2:end], _WIDTH, request.load_ratio, request.may_drop > 0.0)
    trust = row[_WIDTH - 1]
    estimates = np.zeros(experts, ESTIMATE)
    for e in range(experts):
        estimate(state, e, row[5], row[6], row[7], estimates)
        if state.allowed[e] and trust > 0.0:
            learned = LOGIT_SCALE * features.expert[e, _SLO_LOGIT] + slo_logits[e]
            logit = (1.0 - trust) * _logit(estimates[e].slo_probability) + trust * learned
            estimates[e].slo_probability = 1.0 / (1.0 + math.exp(-logit))
    mean_quality = score_experts(state, row, estimates, scores)
    return take_best(state, scores, row[4] * mean_quality, uniform)


def han_actor(
    network: npt.NDArray[np.float64], tables: Sequence[float] | None = None, trust: float = 0.0, version: str = ""
) -> Picker:
    """Return a HanActor.

    Args:
        network: From `pointsman_policy.runtime.packing.pack_network`.
        tables: ImpactGreedy's parameters; None = go by the network's scores alone.
        trust: In the learned chance, everywhere in the tables.
        version: Of the whole.
    """
    rows: list[float] = []
    if tables is not None:
        columns = len(impact_greedy.COLUMNS)
        for start in range(0, len(tables), columns):
            rows += [*tables[start : start + columns], trust]
    return Picker(
        "HanActor",
        _kernel,
        "the best own expected QoS, its chance learned, less the harm to others and the price of capacity",
        parameters=(1.0 if tables is None else 0.0, float(len(rows)), *rows, *map(float, network)),
        version=version,
    )


def _untrained() -> Picker:
    """Return a HanActor whose network says nothing, which is ImpactGreedy."""
    size = NetworkSize()
    zeros = {name: np.zeros(shape, np.float32) for name, shape in weight_shapes(size).items()}
    return han_actor(pack_network(zeros, size), impact_greedy.PICKER.parameters)


PICKER = _untrained()
