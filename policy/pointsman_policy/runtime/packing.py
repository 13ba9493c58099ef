"""A policy network's weights as one vector, which is all that a kernel is given of a network.

The vector holds the sizes, then the weights in the order of `Places`; matrices have a row per input, so that innermost
loops run over outputs.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.compiled import compiled
from pointsman_policy.runtime.features import FEATURES
from pointsman_policy.runtime.size import HEADS, NetworkSize

Vector = npt.NDArray[np.float64]
Weights = Mapping[str, npt.NDArray[np.float32]]

_SIZES = len(NetworkSize._fields) + 5


def pack_network(weights: Weights, size: NetworkSize) -> Vector:
    """Return a network's weights as the vector that `forward` takes.

    Args:
        weights: By name, with the shapes of `pointsman_policy.runtime.size.weight_shapes`.
        size: Of the network.
    """
    widths = [len(FEATURES[table]) for table in ("expert", "slot", "request")]
    parts: list[npt.NDArray[np.floating]] = [np.array([*size, *widths, len(HEADS), 1], np.float64)]
    if size.graph:
        for layer, slots in (("han.first", ("running", "waiting")), ("han.second", ())):
            for node in ("arrived", "expert", "running", "waiting", "key"):
                parts += _linear(weights, f"{layer}.{node}")
            parts.append(weights[f"{layer}.query"])
            for edge, node in (*((slot, slot) for slot in slots), ("arrived", "expert")):
                parts += _attention(weights, f"{layer}.{edge}", f"{layer}.{node}", size.heads)
    for name in ("scorer.first", "scorer.second", "scorer.last", "drop.first", "drop.last"):
        parts += _linear(weights, name)
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float64)


def _linear(weights: Weights, name: str) -> list[npt.NDArray[np.floating]]:
    return [weights[f"{name}.weight"].T, weights[f"{name}.bias"]]


def _attention(weights: Weights, edge: str, node: str, heads: int) -> list[npt.NDArray[np.floating]]:
    """Return a linear layer that scores a node straight from its features, and the vector that scores a target."""
    source = weights[f"{edge}_source"].astype(np.float64).reshape(heads, -1)
    weight = weights[f"{node}.weight"].astype(np.float64)
    weight = weight.reshape(heads, -1, weight.shape[1])
    bias = weights[f"{node}.bias"].astype(np.float64).reshape(heads, -1)
    return [np.einsum("hd,hdf->fh", source, weight), (source * bias).sum(1), weights[f"{edge}_target"]]


class LayerPlaces(NamedTuple):
    """Where a layer's weights begin in the vector."""

    arrived: int
    expert: int
    running: int
    waiting: int
    key: int
    query: int
    attend_running: int
    """Attention of the edges from running requests, then their targets' vector; so for the others."""
    attend_waiting: int
    attend_arrived: int


class Places(NamedTuple):
    """Sizes, and where weights begin in the vector.

    Kernels take every size from here: for a constant they would be compiled anew.
    """

    channels: int
    """0 without the graph network."""
    heads: int
    hidden: int
    expert: int
    """Features of an expert; so for the others."""
    slot: int
    request: int
    outputs: int
    """Heads of the scorer."""
    one: int
    """1: a single row."""
    first: LayerPlaces
    second: LayerPlaces
    scorer_first: int
    scorer_second: int
    scorer_last: int
    drop_first: int
    drop_last: int


@compiled
def _length(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


@compiled
def _layer_places(
    at: int, arrived: int, expert: int, slot: int, channels: int, heads: int, slot_heads: int
) -> tuple[LayerPlaces, int]:
    """Return where a layer's weights are, and where they end; `slot_heads` is 0 where slots need no attention."""
    expert_at = at + _length(arrived, channels)
    running = expert_at + _length(expert, channels)
    waiting = running + _length(slot, channels)
    key = waiting + _length(slot, channels)
    query = key + _length(channels, channels)
    attend_running = query + channels
    attend_waiting = attend_running
    attend_arrived = attend_running
    if slot_heads > 0:
        attend_waiting = attend_running + _length(slot, slot_heads) + channels
        attend_arrived = attend_waiting + _length(slot, slot_heads) + channels
    end = attend_arrived + _length(expert, heads) + channels
    places = LayerPlaces(at, expert_at, running, waiting, key, query, attend_running, attend_waiting, attend_arrived)
    return places, end


@compiled
def find_places(vector: Vector) -> Places:
    """Return the sizes and places of the network in a vector."""
    channels, heads, hidden = int(vector[0]), int(vector[1]), int(vector[2])
    expert, slot, request, outputs = int(vector[4]), int(vector[5]), int(vector[6]), int(vector[7])
    if vector[3] == 0.0:
        channels = 0
    first, end = _layer_places(_SIZES, request, expert, slot, channels, heads, heads)
    second, end = _layer_places(end, channels, channels, channels, channels, heads, 0)
    if channels == 0:
        end = _SIZES
    scorer_second = end + _length(2 * channels + expert + request, hidden)
    scorer_last = scorer_second + _length(hidden, hidden)
    drop_first = scorer_last + _length(hidden, outputs)
    drop_last = drop_first + _length(channels + request + hidden, hidden)
    return Places(
        channels, heads, hidden, expert, slot, request, outputs, int(vector[8]),
        first, second, end, scorer_second, scorer_last, drop_first, drop_last,
    )  # fmt: skip
