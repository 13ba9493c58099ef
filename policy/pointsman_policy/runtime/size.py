"""How large a policy network is, and which weights one of that size has."""

from typing import NamedTuple

from pointsman_policy.runtime.features import FEATURES

HEADS = ("score", "slo_logit")
"""What the scorer says of each expert."""


class NetworkSize(NamedTuple):
    """Sizes that shape the weights; the number of experts is never among them."""

    channels: int = 16
    """Of the embeddings, a multiple of the attention heads."""
    heads: int = 4
    """Attention heads."""
    hidden: int = 32
    """Width of the scorer's hidden layers."""
    graph: bool = True
    """False leaves the graph network out, so that the scorer sees an expert's and the request's own features alone."""


def weight_shapes(size: NetworkSize) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight by its name, as in a `PolicyNetwork`'s state dictionary."""
    expert, slot, request = (len(FEATURES[table]) for table in ("expert", "slot", "request"))
    embedding = size.channels if size.graph else 0
    shapes: dict[str, tuple[int, ...]] = {}
    if size.graph:
        first = {"arrived": request, "expert": expert, "running": slot, "waiting": slot}
        shapes |= _layer("han.first", first, ("running", "waiting", "arrived"), size.channels)
        shapes |= _layer("han.second", dict.fromkeys(first, size.channels), ("arrived",), size.channels)
    shapes |= _linear("scorer.first", 2 * embedding + expert + request, size.hidden)
    shapes |= _linear("scorer.second", size.hidden, size.hidden)
    shapes |= _linear("scorer.last", size.hidden, len(HEADS))
    shapes |= _linear("drop.first", embedding + request + size.hidden, size.hidden)
    shapes |= _linear("drop.last", size.hidden, 1)
    return shapes


def _layer(name: str, inputs: dict[str, int], edges: tuple[str, ...], channels: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for node, width in inputs.items():
        shapes |= _linear(f"{name}.{node}", width, channels)
    for edge in edges:
        shapes |= {f"{name}.{edge}_source": (channels,), f"{name}.{edge}_target": (channels,)}
    return shapes | _linear(f"{name}.key", channels, channels) | {f"{name}.query": (channels,)}


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
