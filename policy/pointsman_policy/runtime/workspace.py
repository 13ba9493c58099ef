"""The workspace of a network's kernel: one vector, and where in it things lie."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.compiled import compiled
from pointsman_policy.runtime.features import Features
from pointsman_policy.runtime.packing import Places, Vector


class Work(NamedTuple):
    """Where things lie in the workspace, for n experts."""

    arrived: int
    """[C]: the request's embedding; its features come right behind, as the networks take them."""
    request: int
    """[FR]."""
    features: int
    """[n, FE]."""
    embedding: int
    """[n, C]."""
    own: int
    """[C]: the request, projected."""
    expert: int
    """[n, C]: experts, projected."""
    heard: int
    """[1 + 2n, C]: what all experts hear of the request, then each of those running and of those waiting."""
    free: int
    """For what is done with at once."""
    end: int


@compiled
def find_work(places: Places, count: int, slots: int) -> Work:
    """Return where things lie for a network, a number of experts and the most slots that one has."""
    channels, heads, hidden = places.channels, places.heads, places.hidden
    request = channels
    features = request + places.request
    embedding = features + count * places.expert
    own = embedding + count * channels
    expert = own + channels
    heard = expert + count * channels
    free = heard + (1 + 2 * count) * channels
    end = free + max(
        slots * places.slot + (2 * slots + places.slot) * heads,
        (2 * count + channels + places.expert) * heads,
        (1 + 2 * count) * channels,
        2 * (1 + count) * hidden + count * places.outputs,
    )
    return Work(0, request, features, embedding, own, expert, heard, free, end)


@compiled
def load(features: Features, index: npt.NDArray[np.int64], data: Vector, work: Work) -> None:
    """Copy the features of the request and of the experts of an index into the workspace."""
    for k in range(features.request.shape[0]):
        data[work.request + k] = features.request[k]
    width = features.expert.shape[1]
    for n in range(index.shape[0]):
        for f in range(width):
            data[work.features + n * width + f] = features.expert[index[n], f]


@compiled
def load_slots(slots: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], e: int, data: Vector, at: int) -> int:
    """Copy the slots in use of an expert into the workspace; returns how many there are."""
    used = 0
    while used < mask.shape[1] and mask[e, used]:
        for f in range(slots.shape[2]):
            data[at + used * slots.shape[2] + f] = slots[e, used, f]
        used += 1
    return used


@compiled
def clear(data: Vector, at: int, count: int) -> None:
    """Set numbers to 0."""
    for k in range(at, at + count):
        data[k] = 0.0


@compiled
def clear_unused(
    mask: npt.NDArray[np.bool_], index: npt.NDArray[np.int64], data: Vector, at: int, channels: int
) -> None:
    """Clear the rows of experts without requests."""
    for n in range(index.shape[0]):
        if mask.shape[1] == 0 or not mask[index[n], 0]:
            clear(data, at + n * channels, channels)
