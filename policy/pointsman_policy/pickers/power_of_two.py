"""PowerOfTwo: two experts by chance, the one with fewer requests (Mitzenmacher, 2001)."""

import numpy as np
import numpy.typing as npt

from pointsman_policy.pickers.picker import Picker, allowed_count, load_score, nth_allowed
from pointsman_policy.state import RoutingState


def _kernel(
    state: RoutingState, parameters: npt.NDArray[np.float64], uniform: float, scores: npt.NDArray[np.float64]
) -> int:
    n = allowed_count(state)
    first = min(int(uniform * n), n - 1)
    second = first
    if n > 1:  # what the first choice left of the random number chooses among the others
        rest = uniform * n - first
        second = (first + 1 + min(int(rest * (n - 1)), n - 2)) % n
    one = nth_allowed(state, first)
    two = nth_allowed(state, second)
    scores[one] = load_score(state, one)
    scores[two] = load_score(state, two)
    if scores[two] > scores[one]:
        return two
    return one


PICKER = Picker("PowerOfTwo", _kernel, "the less loaded of two by chance", needs_slots=False)
