"""The paper's ablation as a rule: a perceptron over the features of N experts, one after the other, without a graph.

It is no registered picker: its weights fix the number of experts, so it is of use in benchmarks only. Parameters are N,
the width of the hidden layers, then weights and biases of three layers, a row for each output. The outputs are the
experts' scores and that of dropping the request.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pointsman_policy.compiled import allocating
from pointsman_policy.pickers.picker import Picker, best
from pointsman_policy.runtime.features import FEATURES, features_of
from pointsman_policy.state import DROP, RoutingState

FLAT_EXPERT = ("kv_used", "running_requests", "waiting_requests", "quality", "output_tokens")
"""What the paper's observation without a graph says of each expert, and of the request on it."""
FLAT_REQUEST = ("prompt_tokens", "may_drop")
FLAT_EXPERT_COLUMNS = tuple(FEATURES["expert"].index(name) for name in FLAT_EXPERT)
FLAT_REQUEST_COLUMNS = tuple(FEATURES["request"].index(name) for name in FLAT_REQUEST)


def flat_actor(name: str, experts: int, layers: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> Picker:
    """Return the rule.

    Args:
        name: To be shown.
        experts: N; it fails on any other number.
        layers: Weights [outputs, inputs] and biases [outputs] of the three layers.
    """
    parts = [np.array([experts, len(layers[0][1])], np.float64)]
    parts += [np.ravel(part).astype(np.float64) for layer in layers for part in layer]
    return Picker(
        name,
        _kernel,
        "The paper's agent without its graph network.",
        parameters=tuple(np.concatenate(parts).tolist()),
    )


def _kernel(
    state: RoutingState, parameters: npt.NDArray[np.float64], uniform: float, scores: npt.NDArray[np.float64]
) -> int:
    experts, hidden = int(parameters[0]), int(parameters[1])
    if experts != state.expert.shape[0]:
        raise ValueError("this network was made for another number of experts")
    features = features_of(state)
    width = len(FLAT_EXPERT_COLUMNS)
    x = np.zeros(experts * width + len(FLAT_REQUEST_COLUMNS))
    for e in range(experts):
        for k in range(width):
            x[e * width + k] = features.expert[e, FLAT_EXPERT_COLUMNS[k]]
    for k in range(len(FLAT_REQUEST_COLUMNS)):
        x[experts * width + k] = features.request[FLAT_REQUEST_COLUMNS[k]]
    one = _layer(parameters, 2, x, hidden, True)
    at = 2 + (x.shape[0] + 1) * hidden
    two = _layer(parameters, at, one, hidden, True)
    outputs = _layer(parameters, at + (hidden + 1) * hidden, two, experts + 1, False)
    scores[:] = outputs[:experts]
    chosen = best(state, scores, 0.0, uniform)
    if state.request[0].may_drop > 0.0 and (chosen == DROP or outputs[experts] > scores[chosen]):
        return DROP
    return chosen


@allocating
def _layer(
    parameters: npt.NDArray[np.float64], at: int, x: npt.NDArray[np.float64], outputs: int, rectified: bool
) -> npt.NDArray[np.float64]:
    inputs = x.shape[0]
    out = parameters[at + outputs * inputs : at + outputs * (inputs + 1)].copy()
    for k in range(outputs):
        for i in range(inputs):
            out[k] += parameters[at + k * inputs + i] * x[i]
        if rectified:
            out[k] = max(out[k], 0.0)
    return out
