"""What happens to a fleet during a run: experts that slow down or speed up unannounced, get lost, or are added."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

PACE, LOST, ADDED, UNUSABLE, USABLE = range(5)
"""Kinds of events; the last two are the router's learning of the two before."""

EVENT = np.dtype(
    [
        ("at", np.float64),
        ("kind", np.int64),
        ("expert", np.int64),
        ("factor", np.float64),  # of iteration times, for PACE
    ]
)


@dataclass(frozen=True)
class Change:
    """One change of one expert."""

    at_seconds: float
    """On the clock of the arrivals, at least 0."""
    expert: int
    """Its index."""
    kind: Literal["pace", "lost", "added"]
    """pace: its iterations take `value` times their original time from now on, and nobody is told; lost: it and the
    requests on it are gone; added: it was not there before."""
    value: float = 1.0
    """For pace, above 0; 1 = as at the start."""


def first_there(changes: Sequence[Change], experts: int) -> npt.NDArray[np.bool_]:
    """Tell which experts are there from the start, [E]: all but those whose first coming or going is "added"."""
    there = np.ones(experts, np.bool_)
    for change in reversed(sorted(changes, key=lambda one: one.at_seconds)):  # noqa: C413
        if change.kind != "pace":
            there[change.expert] = change.kind == "lost"
    return there


def schedule(changes: Sequence[Change], experts: int, discovery_delay: float) -> npt.NDArray[np.void]:
    """Return all events of a run in their order, EVENT rows.

    Args:
        changes: In any order; those of one moment happen in the order given.
        experts: How many there are.
        discovery_delay: From an expert's loss or addition to the router's knowing, seconds.

    Raises:
        ValueError: If a change is impossible: its time, expert or value, losing what is not there or adding what is.
    """
    for change in changes:
        _check(change, experts)
    there = first_there(changes, experts)
    pace = np.ones(experts)
    events: list[tuple[float, int, int, float]] = []
    for change in sorted(changes, key=lambda one: one.at_seconds):
        at, x = change.at_seconds, change.expert
        if change.kind == "pace":
            events.append((at, PACE, x, change.value / pace[x]))
            pace[x] = change.value
            continue
        added = change.kind == "added"
        if there[x] == added:
            raise ValueError(f"expert {x} is {change.kind} at {at:g} s, but it is {'' if added else 'not '}there then")
        there[x] = added
        events.append((at, ADDED if added else LOST, x, 1.0))
        events.append((at + discovery_delay, USABLE if added else UNUSABLE, x, 1.0))
    return np.array(sorted(events, key=lambda event: event[0]), EVENT)


def _check(change: Change, experts: int) -> None:
    if not 0 <= change.expert < experts:
        raise ValueError(f"a change is for expert {change.expert}; experts are 0 to {experts - 1}")
    if not (math.isfinite(change.at_seconds) and change.at_seconds >= 0.0):
        raise ValueError(f"a change is at {change.at_seconds} s; it must be at 0 s or later")
    if change.kind not in ("pace", "lost", "added"):
        raise ValueError(f"a change is of kind {change.kind!r}; kinds are pace, lost and added")
    if not (math.isfinite(change.value) and change.value > 0.0):
        raise ValueError(f"a change of pace is to {change.value} times the original time; it must be above 0")
