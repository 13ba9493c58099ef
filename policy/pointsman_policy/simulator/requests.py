"""What a simulation is asked to route."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Requests(NamedTuple):
    """n requests in order of arrival, and what each would do on each of E experts."""

    arrival_at: npt.NDArray[np.float64]
    """Seconds, non-decreasing, [n]."""
    prompt_tokens: npt.NDArray[np.int64]
    """[n]."""
    output_tokens: npt.NDArray[np.int64]
    """True lengths, at least 1, [n, E]."""
    predicted_quality: npt.NDArray[np.float32]
    """[n, E]."""
    predicted_output_tokens: npt.NDArray[np.float32]
    """[n, E]."""
    objectives: npt.NDArray[np.float64]
    """(TTFT, TPOT, NTPOT) seconds, 0 = none, [n, 3]."""
    priority: npt.NDArray[np.int64]
    """[n]."""
    quality_floor: float
    """Experts predicted below are not allowed, where any is above."""
