"""Which outcomes a candidate is made from, and which it is judged on: the older ones and the newest ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pointsman_policy.experience.dataset import Experience
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.twin.calibration import calibrate
from pointsman_policy.twin.last_change import last_change
from pointsman_policy.twin.twin import Twin, make_twin

LEAST_OUTCOMES = 200
_LEAST_SINCE_CHANGE = 400
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


def split_point(experience: Experience) -> int:
    """Return how many of the outcomes to learn from; the others, the newest quarter, are to judge by.

    Where experts or models have changed, it is a quarter of what came since, if that is enough: learning needs to have
    seen the change, and judging needs to be about how things are now.

    Args:
        experience: Outcomes, oldest first.

    Raises:
        ValueError: If there are too few, or no fleet is known.
    """
    count = len(experience)
    if count < LEAST_OUTCOMES:
        raise ValueError(f"there are {count} outcomes of {experience.policy}, a training needs {LEAST_OUTCOMES}")
    changed_at = last_change(experience)
    since = count if changed_at is None else int((experience["decided_at"] >= changed_at).sum())
    return count - int(_HELD_OUT_SHARE * (since if since >= _LEAST_SINCE_CHANGE else count))


def split(experience: Experience, point: int) -> tuple[Experience, Experience]:
    """Return the outcomes to learn from, and those to judge by.

    Args:
        experience: All outcomes.
        point: From `split_point`.
    """
    return experience.rows(np.arange(point)), experience.rows(np.arange(point, len(experience)))


def gather(experience: Experience, point: int, seed: int) -> Evidence:
    """Return what candidates that were made from the older outcomes are judged on.

    Experts that served too little of late are taken for what all outcomes say of them.

    Args:
        experience: All outcomes.
        point: From `split_point`.
        seed: Of the situations.

    Raises:
        ValueError: If no fleet is known.
    """
    _, held_out = split(experience, point)
    newest, everything = calibrate(held_out), calibrate(experience)
    truth = Calibration(
        experts={**everything.experts, **newest.experts},
        kinds={**everything.kinds, **newest.kinds},
        models=newest.models,
    )
    return Evidence(held_out, make_twin(held_out, truth, Calibration(), seed, everything=experience))
