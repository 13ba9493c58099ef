"""Arrival processes: seconds at which requests come, at a mean rate in requests per second.

The third kind, replay, is `Trace.window(...).at_rate(...)`.
"""

import numpy as np
import numpy.typing as npt


def poisson(rng: np.random.Generator, rate: float, count: int) -> npt.NDArray[np.float64]:
    """Return `count` arrivals of a Poisson process, [count]."""
    return np.cumsum(rng.standard_exponential(count)) / rate


def bursty(
    rng: np.random.Generator, rate: float, count: int, coefficient_of_variation: float
) -> npt.NDArray[np.float64]:
    """Return `count` arrivals of a renewal process with gamma-distributed gaps, [count].

    Above 1, the gaps' coefficient of variation makes clumps of requests and long silences; 1 is Poisson, below 1 is
    more even than that. The mean over a run strays from `rate` by about the coefficient over the root of `count`.
    """
    shape = coefficient_of_variation**-2
    return np.cumsum(rng.standard_gamma(shape, count)) / (shape * rate)
