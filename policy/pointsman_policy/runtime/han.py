"""The policy network as a compiled kernel: what `pointsman_policy.networks` trains, run without torch.

It computes what the torch network computes (see `pointsman_policy.networks.han` for the mathematics), for one request
and only for experts that are allowed and slots in use.
"""

import math

import numpy as np
import numpy.typing as npt

from pointsman_policy.compiled import allocating, compiled, subroutine
from pointsman_policy.runtime.features import Features
from pointsman_policy.runtime.linear import add_product, apply, fill, relu, softmax, tanh
from pointsman_policy.runtime.packing import Places, Vector, find_places
from pointsman_policy.runtime.workspace import Work, clear, clear_unused, find_work, load, load_slots

_NEGATIVE_SLOPE = 0.2


@compiled
def _weigh(
    vector: Vector, at: int, data: Vector, target: int, channels: int, heads: int, scores: int, count: int, out: int
) -> None:
    """Write attention's weights, [heads, count], from scores of neighbours, [count, heads], and the target's own."""
    width = channels // heads
    for h in range(heads):
        own = 0.0
        for c in range(h * width, (h + 1) * width):
            own += data[target + c] * vector[at + c]
        for n in range(count):
            score = data[scores + n * heads + h] + own
            data[out + h * count + n] = score if score > 0.0 else _NEGATIVE_SLOPE * score
        softmax(data, out + h * count, count)


@subroutine
def _attend(
    vector: Vector,
    projection: int,
    attention: int,
    data: Vector,
    x: int,
    inputs: int,
    count: int,
    target: int,
    out: int,
    channels: int,
    heads: int,
    free: int,
) -> None:
    """Write what a target hears of its neighbours; their features are summed up before they are projected.

    Args:
        vector: The weights.
        projection: Place of the neighbours' linear layer.
        attention: Place of what scores them, and of the target's attention vector behind it.
        data: The workspace.
        x: Place of the neighbours' features, [count, inputs].
        inputs: Features of a neighbour.
        count: Neighbours, at least 1.
        target: Place of the target, projected, [channels].
        out: Place of the result, [channels].
        channels: Of the layer.
        heads: Attention heads.
        free: Place of [2 * count + inputs, heads] numbers that may be overwritten.
    """
    weights = free + count * heads
    heard = weights + count * heads
    apply(vector, attention, data, x, inputs, free, heads, count)
    _weigh(vector, attention + (inputs + 1) * heads, data, target, channels, heads, free, count, weights)
    clear(data, heard, heads * inputs)
    add_product(data, x, data, weights, count, heard, inputs, heads)
    for c in range(channels):
        data[out + c] = vector[projection + inputs * channels + c]
    width = channels // heads
    for h in range(heads):
        for f in range(inputs):
            one = data[heard + h * inputs + f]
            for c in range(h * width, (h + 1) * width):
                data[out + c] += one * vector[projection + f * channels + c]
    relu(data, out, channels)


@subroutine
def _combine(
    vector: Vector, key: int, query: int, data: Vector, heard: int, count: int, out: int, channels: int, free: int
) -> None:
    """Write the experts' embeddings from what they hear over the three types of edge, by semantic attention.

    Args:
        vector: The weights.
        key: Place of the layer before tanh.
        query: Place of the vector after it.
        data: The workspace.
        heard: Place of what all of them hear of the request, [channels], and of what each hears of those running,
            [count, channels], and waiting, [count, channels].
        count: Experts.
        out: Place of the results, [count, channels].
        channels: Of the layer.
        free: Place of [1 + 2 * count, channels] numbers that may be overwritten.
    """
    rows = 1 + 2 * count
    apply(vector, key, data, heard, channels, free, channels, rows)
    tanh(data, free, rows * channels)
    at_request, at_running, at_waiting = 0.0, 0.0, 0.0
    for n in range(rows):
        total = 0.0
        for c in range(channels):
            total += data[free + n * channels + c] * vector[query + c]
        if n == 0:
            at_request = total
        elif n <= count:
            at_running += total / count
        else:
            at_waiting += total / count
    top = max(at_request, at_running, at_waiting)
    one, two, three = math.exp(at_request - top), math.exp(at_running - top), math.exp(at_waiting - top)
    total = one + two + three
    running = heard + channels
    waiting = running + count * channels
    for n in range(count):
        for c in range(channels):
            k = n * channels + c
            data[out + k] = (one * data[heard + c] + two * data[running + k] + three * data[waiting + k]) / total


@subroutine
def _hear_slots(
    slots: npt.NDArray[np.float32],
    mask: npt.NDArray[np.bool_],
    index: npt.NDArray[np.int64],
    vector: Vector,
    projection: int,
    attention: int,
    places: Places,
    data: Vector,
    work: Work,
    out: int,
) -> None:
    """Write what each expert hears of its requests that run, or that wait, in the first layer."""
    channels = places.channels
    for n in range(index.shape[0]):
        used = load_slots(slots, mask, index[n], data, work.free)
        place = out + n * channels
        if used == 0:
            clear(data, place, channels)
            continue
        target, rest = work.expert + n * channels, work.free + used * places.slot
        _attend(
            vector,
            projection,
            attention,
            data,
            work.free,
            places.slot,
            used,
            target,
            place,
            channels,
            places.heads,
            rest,
        )


@subroutine
def _embed(
    features: Features, index: npt.NDArray[np.int64], vector: Vector, places: Places, data: Vector, work: Work
) -> None:
    """Write the embeddings of the experts of an index, and of the request."""
    channels, heads, free = places.channels, places.heads, work.free
    own, heard = work.own, work.heard
    count = index.shape[0]
    running = heard + channels
    waiting = running + count * channels
    for second in range(2):
        layer = places.first
        experts, inputs = work.features, places.expert
        if second == 0:
            apply(vector, layer.arrived, data, work.request, places.request, own, channels, places.one)
            apply(vector, layer.expert, data, experts, inputs, work.expert, channels, count)
            _hear_slots(
                features.running, features.running_mask, index,
                vector, layer.running, layer.attend_running, places, data, work, running,
            )  # fmt: skip
            _hear_slots(
                features.waiting, features.waiting_mask, index,
                vector, layer.waiting, layer.attend_waiting, places, data, work, waiting,
            )  # fmt: skip
        else:
            layer = places.second
            experts, inputs = work.embedding, channels
            apply(vector, layer.arrived, data, work.arrived, channels, own, channels, places.one)
            relu(data, work.expert, count * channels)  # the first layer's embedding of every request on the expert
            apply(vector, layer.running, data, work.expert, channels, running, channels, count)
            apply(vector, layer.waiting, data, work.expert, channels, waiting, channels, count)
            relu(data, running, 2 * count * channels)
            clear_unused(features.running_mask, index, data, running, channels)
            clear_unused(features.waiting_mask, index, data, waiting, channels)
        _attend(
            vector, layer.expert, layer.attend_arrived,
            data, experts, inputs, count, own, work.arrived, channels, heads, free,
        )  # fmt: skip
        fill(data, heard, channels, places.one, data, own)
        relu(data, heard, channels)
        _combine(vector, layer.key, layer.query, data, heard, count, work.embedding, channels, free)


@allocating
def forward(features: Features, vector: Vector, scores: Vector, slo_logits: Vector) -> float:
    """Run the network on one request.

    Args:
        features: From `pointsman_policy.runtime.features.encode`; at least one expert allowed.
        vector: From `pack_network`.
        scores: [E]; written where allowed.
        slo_logits: [E]; written where allowed.

    Returns:
        The score of dropping.
    """
    places = find_places(vector)
    channels, hidden = places.channels, places.hidden
    index = np.flatnonzero(features.allowed)
    count = index.shape[0]
    work = find_work(places, count, max(features.running_mask.shape[1], features.waiting_mask.shape[1]))
    data = np.empty(work.end)
    load(features, index, data, work)
    if channels > 0:
        _embed(features, index, vector, places, data, work)

    graph, mean = work.free, work.free + hidden
    one = mean + hidden
    two = one + count * hidden
    heads = two + count * hidden
    shared = channels + places.request
    at = places.scorer_first
    at_shared = at + (channels + places.expert) * hidden
    apply(vector, at_shared, data, work.arrived, shared, graph, hidden, places.one)
    fill(data, one, hidden, count, data, graph)
    add_product(vector, at, data, work.embedding, channels, one, hidden, count)
    add_product(vector, at + channels * hidden, data, work.features, places.expert, one, hidden, count)
    relu(data, one, count * hidden)
    apply(vector, places.scorer_second, data, one, hidden, two, hidden, count)
    relu(data, two, count * hidden)
    apply(vector, places.scorer_last, data, two, hidden, heads, places.outputs, count)
    clear(data, mean, hidden)
    for n in range(count):
        scores[index[n]] = data[heads + n * places.outputs]
        slo_logits[index[n]] = data[heads + n * places.outputs + 1]
        for k in range(hidden):
            data[mean + k] += data[two + n * hidden + k] / count

    at = places.drop_first
    fill(data, one, hidden, places.one, vector, at + (shared + hidden) * hidden)
    add_product(vector, at, data, work.arrived, shared, one, hidden, places.one)
    add_product(vector, at + shared * hidden, data, mean, hidden, one, hidden, places.one)
    relu(data, one, hidden)
    apply(vector, places.drop_last, data, one, hidden, heads, places.one, places.one)
    return float(data[heads])
