"""Which outcomes a candidate is made from, and which it is judged on: the older three quarters and the newest one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pointsman_policy.experience.dataset import Experience
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.twin.calibration import calibrate
from pointsman_policy.twin.twin import Twin, make_twin

LEAST_OUTCOMES = 200
_HELD_OUT_SHARE = 0.25
_SEEDS = range(1_000, 1_006)
"""Situations that no candidate is made in."""


@dataclass(frozen=True)
class Evidence:
    """What candidates are judged on."""

    held_out: Experience
    """Outcomes that they were not made from, with their states."""
    twin: Twin
    """Of those."""
    seeds: Sequence[int] = _SEEDS


def split(experience: Experience) -> tuple[Experience, Experience]:
    """Return the older outcomes, to learn from, and the newest, to judge by.

    Raises:
        ValueError: If there are too few.
    """
    count = len(experience)
    if count < LEAST_OUTCOMES:
        raise ValueError(f"there are {count} outcomes of {experience.policy}, a training needs {LEAST_OUTCOMES}")
    cut = count - int(_HELD_OUT_SHARE * count)
    return experience.rows(np.arange(cut)), experience.rows(np.arange(cut, count))


def gather(experience: Experience, seed: int) -> Evidence:
    """Return what candidates that were made from the older outcomes are judged on.

    Experts that served too little of late are taken for what all outcomes say of them.

    Args:
        experience: All outcomes.
        seed: Of the situations.

    Raises:
        ValueError: If there are too few outcomes, or no fleet is known.
    """
    _, held_out = split(experience)
    newest, everything = calibrate(held_out), calibrate(experience)
    truth = Calibration(
        experts={**everything.experts, **newest.experts},
        kinds={**everything.kinds, **newest.kinds},
        models=newest.models,
    )
    return Evidence(held_out, make_twin(held_out, truth, Calibration(), seed, everything=experience))
