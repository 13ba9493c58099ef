"""Exploration: now and then another expert than the best one, where that costs next to nothing.

A policy that always does what it believes best never learns of the experts that it avoids. Where exploration is on, a
small share of decisions is drawn evenly from the experts nearly as good as the pick that are expected to keep the
objectives. The chance of what was done is logged with it, so that outcomes tell without bias what another policy would
have earned (inverse propensity scores: Horvitz and Thompson 1952; doubly robust: Dudik, Langford and Li, ICML 2011).
"""

from typing import NamedTuple

import numpy as np

from pointsman_policy.latency.estimator import estimates
from pointsman_policy.state import DROP, RoutingState

_NEARLY = 0.95
"""Least expected QoS of an expert that may be tried, over that of the pick."""
_SURE = 0.9
"""Least chance of meeting the objectives of an expert that may be tried."""


class Explored(NamedTuple):
    """A choice after exploration."""

    expert: int
    """Its index, or DROP."""
    propensity: float
    """Chance with which it was chosen, given the picker's choice."""
    tried: bool
    """Whether it is another than the picker's choice."""


def explore(state: RoutingState, pick: int, percent: int, uniform: float) -> Explored:
    """Return the expert to choose.

    Args:
        state: Of the decision.
        pick: Index of the picker's choice, or DROP; a drop is never replaced.
        percent: Share of decisions that are drawn, 0 to 100.
        uniform: Draws, in [0, 1).
    """
    if percent <= 0 or pick == DROP:
        return Explored(pick, 1.0, False)
    chances = estimates(state)["slo_probability"]
    expected = state.candidate["predicted_quality"] * chances
    near = state.allowed & (chances >= _SURE) & (expected >= _NEARLY * expected[pick])
    near[pick] = True
    choices = np.flatnonzero(near)
    share = percent / 100
    even = share / len(choices)
    if uniform >= share:
        return Explored(pick, 1.0 - share + even, False)
    choice = int(choices[min(int(uniform / share * len(choices)), len(choices) - 1)])
    if choice == pick:
        return Explored(pick, 1.0 - share + even, False)
    return Explored(choice, even, True)
