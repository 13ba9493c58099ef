"""What outcomes tell of choices that another version made: the doubly robust estimate.

With m(x, a) the QoS expected of expert a, p the chance with which the expert a that served was chosen, q the QoS that
came of it and pi the candidate's chance of choosing a, the candidate's value is estimated by (Dudik, Langford and Li,
"Doubly robust policy evaluation and learning", ICML 2011)::

    mean over outcomes of  sum_a pi(a|x) m(x, a)  +  pi(a|x) / p * (q - m(x, a))

It is right on average if either m or p is. Only outcomes count that might have gone to another expert, p < 1.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.experience.dataset import Experience
from pointsman_policy.experience.qos import met, qos, yardsticks
from pointsman_policy.retraining.replay import Answer
from pointsman_policy.twin.calibration import declared_experts

Floats = npt.NDArray[np.float64]

_LARGEST_WEIGHT = 20.0
_LEAST_OUTCOMES = 50
_CONFIDENCE = 1.96


class Gain(NamedTuple):
    """Estimated QoS of a candidate's choices over those that were made."""

    outcomes: int
    """That it rests on."""
    mean: float
    """NaN = too little was explored to tell, like the others."""
    low: float
    """95 % interval."""
    high: float


def estimated_gain(experience: Experience, answers: Sequence[Answer]) -> Gain:
    """Estimate what a candidate's choices would have earned more than those that were made.

    Args:
        experience: With the outcomes that the answers are about.
        answers: Of a candidate.
    """
    worth = _worth(experience)
    propensity = experience["propensity"].astype(np.float64)
    served = experience.text("expert")
    gains = [
        _gain(answer, str(served[answer.row]), propensity[answer.row], worth[answer.row])
        for answer in answers
        if 0.0 < propensity[answer.row] < 1.0 and not math.isnan(worth[answer.row])
    ]
    if len(gains) < _LEAST_OUTCOMES:
        return Gain(len(gains), math.nan, math.nan, math.nan)
    mean, reach = float(np.mean(gains)), _CONFIDENCE * float(np.std(gains, ddof=1)) / math.sqrt(len(gains))
    return Gain(len(gains), mean, mean - reach, mean + reach)


def _gain(answer: Answer, served: str, propensity: float, worth: float) -> float:
    value = float(answer.chance @ answer.expected)
    if served in answer.names:
        e = answer.names.index(served)
        weight = min(answer.chance[e] / propensity, _LARGEST_WEIGHT)
        value += weight * (worth - answer.expected[e])
    return value - worth


def _worth(experience: Experience) -> Floats:
    """Return the QoS of each outcome, NaN where it is not known, [rows]."""
    experts = declared_experts(experience)
    models, quality = experience.text("model"), experience["quality"].astype(np.float64)
    labels: dict[str, tuple[int, float]] = {}
    for model in experience.names["model"]:
        own = quality[(models == model) & np.isfinite(quality)]
        if len(own):
            labels[model] = (len(own), float(own.mean()))
    worth_of = yardsticks({expert.model: expert.quality_prior for expert in experts}, labels)
    yardstick = np.array([worth_of.get(str(model), 0.0) for model in models])
    was_met = met(
        experience.text("status").astype(np.str_),
        experience["output_tokens"],
        experience["ttft_seconds"],
        experience["duration_seconds"],
        experience["ttft_objective_seconds"],
        experience["tpot_objective_seconds"],
        experience["ntpot_objective_seconds"],
    )
    return qos(was_met, quality, yardstick)
