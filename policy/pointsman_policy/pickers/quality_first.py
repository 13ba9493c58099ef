"""QualityFirst: the best predicted quality, whatever the load (the paper's BERT router)."""

import numpy as np
import numpy.typing as npt

from pointsman_policy.pickers.picker import Picker, best
from pointsman_policy.state import RoutingState

_NEAR_TIE = 0.001


def _kernel(
    state: RoutingState, parameters: npt.NDArray[np.float64], uniform: float, scores: npt.NDArray[np.float64]
) -> int:
    for e in range(scores.shape[0]):
        scores[e] = state.candidate[e].predicted_quality
    return best(state, scores, _NEAR_TIE, uniform)


PICKER = Picker("QualityFirst", _kernel, "the best predicted quality", needs_slots=False)
