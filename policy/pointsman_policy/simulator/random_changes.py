"""Made-up changes of a fleet during a run: experts that slow down unannounced, get lost, or are added."""

import numpy as np

from pointsman_policy.simulator.changes import Change

_KINDS = ("slower", "lost", "added")
_KIND_CHANCES = (0.5, 0.25, 0.25)
_RETURN_CHANCE = 0.5


def draw_changes(rng: np.random.Generator, experts: int, seconds: float) -> tuple[Change, ...]:
    """Return the changes of one expert: for the rest of a run, or until it is as before.

    Args:
        rng: Gives everything.
        experts: How many there are.
        seconds: How long the run is.
    """
    expert = int(rng.integers(experts))
    first, second = np.sort(rng.uniform(0.1, 0.9, 2)) * seconds
    back = rng.random() < _RETURN_CHANCE
    match rng.choice(_KINDS, p=_KIND_CHANCES):
        case "slower":
            changes = (
                Change(float(first), expert, "pace", float(np.exp(rng.uniform(np.log(1.3), np.log(3.0))))),
                Change(float(second), expert, "pace", 1.0),
            )
        case "lost":
            changes = (Change(float(first), expert, "lost"), Change(float(second), expert, "added"))
        case _:
            changes = (Change(float(first), expert, "added"), Change(float(second), expert, "lost"))
    return changes if back else changes[:1]
