"""Arrival processes: seconds at which requests come, at a mean rate in requests per second.

Replay, the kind that is not here, is `Trace.window(...).at_rate(...)`.
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


def varying(
    rng: np.random.Generator,
    rate: float,
    count: int,
    coefficient_of_variation: float,
    shape: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Return `count` arrivals whose rate follows a shape, [count]: a renewal process on a clock that runs unevenly.

    Args:
        rng: Draws the gaps.
        rate: Mean over the shape.
        count: Arrivals; on average as many as the shape is long, so that the run covers it once.
        coefficient_of_variation: Of the gaps, as in `bursty`, measured against the rate of the moment.
        shape: Relative rates in equal parts of the run, at least 0 and not all 0, [K]; repeated past its end.
    """
    even = bursty(rng, 1.0, count, coefficient_of_variation) / count
    expected = np.concatenate(([0.0], np.cumsum(shape) / shape.sum()))
    rounds = np.floor(even)
    within = np.interp(even - rounds, expected, np.linspace(0.0, 1.0, len(expected)))
    return (rounds + within) * count / rate


def daily_shape(parts: int = 144) -> npt.NDArray[np.float64]:
    """Return made-up relative rates over a day, from midnight on, [parts]: little at night, peaks at 10:00 and 21:00.

    ``1 + 0.25 cos(2 pi (h - 17.6) / 24) + 0.23 cos(4 pi (h - 9.7) / 24)`` at hour h: the first two harmonics of a
    public model's rates in ServeGen's measurements.
    """
    hours = (np.arange(parts) + 0.5) * 24 / parts
    day = 0.25 * np.cos(2 * np.pi * (hours - 17.6) / 24)
    shape: npt.NDArray[np.float64] = 1.0 + day + 0.23 * np.cos(4 * np.pi * (hours - 9.7) / 24)
    return shape
