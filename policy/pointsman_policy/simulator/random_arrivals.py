"""Made-up arrivals: Poisson or clumped, at a rate that stays, climbs, swings, jumps, or goes on and off."""

import numpy as np
import numpy.typing as npt

from pointsman_policy.simulator.arrivals import bursty, poisson

Floats = npt.NDArray[np.float64]

_STEPS = 1_024
_SHAPES = ("constant", "ramp", "diurnal", "jumps", "on-off")
_SHAPE_CHANCES = (0.45, 0.15, 0.15, 0.15, 0.1)
_POISSON_CHANCE = 0.5


def draw_arrivals(rng: np.random.Generator, count: int, rate: float) -> Floats:
    """Return `count` arrivals whose mean rate over the run is `rate` per second, [count].

    A process of rate 1, Poisson or with gamma-distributed gaps of a coefficient of variation of up to 10, is warped in
    time so that its rate follows a shape.
    """
    if rng.random() < _POISSON_CHANCE:
        moments = poisson(rng, 1.0, count)
    else:
        moments = bursty(rng, 1.0, count, float(np.exp(rng.uniform(0.0, np.log(10.0)))))
    moments = np.minimum(moments / moments[-1], 1.0)
    shape = rate_shape(rng, str(rng.choice(_SHAPES, p=_SHAPE_CHANCES)))
    passed = np.concatenate([[0.0], np.cumsum(shape)]) / shape.sum()
    seconds: Floats = np.interp(moments, passed, np.linspace(0.0, count / rate, _STEPS + 1))
    return seconds


def rate_shape(rng: np.random.Generator, kind: str) -> Floats:
    """Return the relative rate at even steps through a run, above 0, [steps].

    Args:
        rng: Gives its particulars.
        kind: constant; ramp: from one rate to another; diurnal: up to two waves; jumps: a few levels; on-off: many
            short bursts.
    """
    time = np.linspace(0.0, 1.0, _STEPS)
    match kind:
        case "ramp":
            first, last = rng.uniform(0.2, 1.8, 2)
            return np.asarray(first + (last - first) * time)
        case "diurnal":
            waves, phase = rng.uniform(0.5, 2.0), rng.uniform(0.0, 2 * np.pi)
            return np.asarray(1.0 + rng.uniform(0.2, 0.9) * np.sin(2 * np.pi * waves * time + phase))
        case "jumps":
            edges = np.sort(rng.uniform(0.0, 1.0, int(rng.integers(1, 5))))
            return rng.uniform(0.2, 2.0, len(edges) + 1)[np.searchsorted(edges, time)]
        case "on-off":
            switches = np.cumsum(rng.exponential(1.0 / rng.uniform(8.0, 40.0), _STEPS))
            on = np.searchsorted(switches, time) % 2 == 0
            return np.where(on, 1.0, rng.uniform(0.02, 0.5))
    return np.ones(_STEPS)
