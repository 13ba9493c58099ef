"""Experience for tests: made-up fleets that are not what they are declared to be."""

from dataclasses import replace

import numpy as np
from tests.unit.twin.runs import TRUE, make_requests

from pointsman_policy.evaluation.simulated_experience import fleet_of, simulated_experience
from pointsman_policy.experience.dataset import Experience
from pointsman_policy.pickers.trained import load_picker
from pointsman_policy.runtime.exported import ARTEFACTS
from pointsman_policy.simulator.simulation import Change, Fleet, Visibility
from pointsman_policy.simulator.situation import Situation

MODELS = ("small-2b", "small-2b", "large-9b")
COEFFICIENTS = np.array([TRUE[0], TRUE[0], TRUE[1] * 1.5])


def make_situation(
    seed: int = 0,
    count: int = 1_500,
    rate: float = 12.0,
    pace: tuple[float, float, float] = (1.0, 1.0, 1.0),
    quality: tuple[float, float, float] = (0.45, 0.45, 0.65),
    changes: tuple[Change, ...] = (),
) -> Situation:
    """Return three experts of two models.

    Args:
        seed: Of the requests.
        count: Of them.
        rate: Per second.
        pace: How much slower each expert is than declared.
        quality: What answers are really worth; declared are 0.45 and 0.65.
        changes: Of the experts' pace on the way.
    """
    rng = np.random.default_rng(seed)
    requests = make_requests(rng, count, rate, (0.45, 0.45, 0.65))
    mean = np.array(quality)
    return Situation(
        name="made up",
        fleet=Fleet(
            COEFFICIENTS * np.array(pace)[:, None],
            COEFFICIENTS,
            np.zeros(3),
            np.full(3, 256),
            np.array([0.45, 0.45, 0.65]),
        ),
        requests=requests,
        quality=rng.beta(8.0 * mean, 8.0 * (1.0 - mean), (count, 3)),
        visibility=Visibility(),
        admission="Never",
        changes=changes,
    )


def make_experience(situation: Situation, seed: int = 0, **shares: float) -> Experience:
    """Return what the packaged ImpactGreedy did there, as routers would have recorded it."""
    picker = replace(load_picker(ARTEFACTS / "impact-greedy"), version="")
    return simulated_experience(situation, fleet_of(situation, MODELS), picker, seed, **shares)
