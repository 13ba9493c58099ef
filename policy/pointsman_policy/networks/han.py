"""The paper's heterogeneous graph attention network over one request, the experts and what they hold.

Nodes are the request that arrived, the experts, and the requests running and waiting on each; edges join the request
and every expert, and every expert and its requests, both ways. Each of the two layers is the heterogeneous graph
attention operator (Wang et al., 2019) as torch-geometric's ``HANConv`` computes it: a projection per type of node, for
each type of edge attention among a node's neighbours, a ReLU, and across types of edge a semantic attention, its scores
being means over the nodes of that graph.

Graphs come as masked dense tensors, and every attention is confined to its graph: a batch gives exactly what its graphs
give one by one. Three identities of these graphs save most of the work without changing a result:

- A node with one neighbour attends to it with weight 1. So all requests on an expert leave the first layer with the
  same embedding, the expert's; in the second layer those of an expert are one node, and edge types whose targets have
  one neighbour need no attention weights.
- A type of node with one incoming type of edge has semantic attention 1. Only experts have several.
- Projections are linear, so attention may sum up features first and project the sum.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pointsman_policy.runtime.features import FEATURES, Features

_NEGATIVE_SLOPE = 0.2
_MASKED = 1e30


class FeatureTensors(NamedTuple):
    """`Features` of B requests as tensors."""

    expert: Tensor
    """[B, E, FE]."""
    running: Tensor
    """[B, E, R, FS]."""
    running_mask: Tensor
    """[B, E, R], boolean."""
    waiting: Tensor
    """[B, E, W, FS]."""
    waiting_mask: Tensor
    """[B, E, W], boolean."""
    request: Tensor
    """[B, FR]."""
    allowed: Tensor
    """[B, E], boolean; False for padding."""


def to_tensors(features: Features) -> FeatureTensors:
    """Return a batch of features as tensors that share its memory; a single request becomes a batch of one."""
    single = features.request.ndim == 1
    return FeatureTensors(*(torch.from_numpy(array[None] if single else array) for array in features))


class Embeddings(NamedTuple):
    """What the graph network says of B graphs."""

    expert: Tensor
    """[B, E, C]; meaningless where not allowed."""
    arrived: Tensor
    """[B, C]."""


def glorot(generator: torch.Generator, inputs: int, outputs: int, *shape: int) -> Tensor:
    """Return weights drawn evenly from +-sqrt(6 / (inputs + outputs)) (Glorot and Bengio, 2010)."""
    bound = math.sqrt(6 / (inputs + outputs))
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


def linear(generator: torch.Generator, inputs: int, outputs: int) -> nn.Linear:
    """Return a layer whose weights and biases are drawn evenly from +-1 / sqrt(inputs), as torch does."""
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        for parameter in (layer.weight, layer.bias):
            parameter.uniform_(-1 / math.sqrt(inputs), 1 / math.sqrt(inputs), generator=generator)
    return layer


def _masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Return a softmax over the last axis among what the mask holds; zeros where it holds nothing.

    Torch's own takes several times as long over rows as short as these.
    """
    kept = mask.to(scores.dtype)
    top = (scores.detach() + (kept - 1.0) * _MASKED).amax(-1, keepdim=True)
    weights = torch.exp((scores - top).clamp(max=0.0)) * kept
    return weights / weights.sum(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)


class _Layer(nn.Module):
    """Weights of one layer and its two kinds of attention."""

    def __init__(
        self, inputs: dict[str, int], edges: tuple[str, ...], channels: int, heads: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self._heads = heads
        for node, width in inputs.items():
            self.add_module(node, linear(generator, width, channels))
        for edge in edges:
            for end in ("source", "target"):
                vector = glorot(generator, heads, channels // heads, channels)
                self.register_parameter(f"{edge}_{end}", nn.Parameter(vector))
        self.key = linear(generator, channels, channels)
        self.query = nn.Parameter(glorot(generator, 1, channels, channels))

    def project(self, node: str, x: Tensor) -> Tensor:
        """Return nodes of a type in this layer's channels, [..., C]."""
        projected: Tensor = self.get_submodule(node)(x)
        return projected

    def attend(self, edge: str, node: str, sources: Tensor, mask: Tensor, target: Tensor) -> Tensor:
        """Return what each target hears of its neighbours, [..., C]; zeros where it has none.

        Args:
            edge: Whose attention vectors count.
            node: Type of the neighbours.
            sources: Their features before the projection, [..., N, F].
            mask: Which of them there are, [..., N].
            target: The targets, projected, [..., C].
        """
        heads = self._heads
        weight = self.get_parameter(f"{node}.weight").view(heads, -1, sources.shape[-1])  # [H, D, F]
        bias = self.get_parameter(f"{node}.bias").view(heads, -1)  # [H, D]
        source_vector = self.get_parameter(f"{edge}_source").view(heads, -1)
        target_vector = self.get_parameter(f"{edge}_target")
        scores = (sources @ (weight * source_vector[..., None]).sum(1).T).transpose(-1, -2).contiguous()  # [..., H, N]
        own = (target * target_vector).view(*target.shape[:-1], heads, -1).sum(-1) + (bias * source_vector).sum(1)
        scores = functional.leaky_relu(scores + own[..., None], _NEGATIVE_SLOPE)
        attention = _masked_softmax(scores, mask[..., None, :])
        heard = (attention @ sources).view(-1, heads, sources.shape[-1])  # [targets, H, F]
        projected = torch.baddbmm(bias[:, None], heard.transpose(0, 1), weight.transpose(1, 2))  # [H, targets, D]
        return functional.relu(projected.transpose(0, 1).reshape(target.shape) * mask.any(-1)[..., None])

    def combine(self, arrived: Tensor, running: Tensor, waiting: Tensor, allowed: Tensor) -> Tensor:
        """Return the experts' embeddings from what they hear over each type of edge, by semantic attention.

        Args:
            arrived: The same for all experts of a graph, [B, C].
            running: [B, E, C].
            waiting: [B, E, C].
            allowed: Experts that are part of the graph, [B, E].
        """
        share = allowed / allowed.sum(1, keepdim=True).clamp(min=1)  # a mean over the graph's experts
        means = [torch.tanh(self.key(arrived))]
        means += [(share[:, None, :] @ torch.tanh(self.key(heard)))[:, 0] for heard in (running, waiting)]
        attention = functional.softmax(torch.stack([mean @ self.query for mean in means], dim=-1), dim=-1)  # [B, 3]
        one, two, three = (attention[:, k, None] for k in range(3))
        return (one * arrived)[:, None] + two[..., None] * running + three[..., None] * waiting


class Han(nn.Module):
    """Two layers of heterogeneous graph attention.

    Args:
        channels: C, a multiple of `heads`.
        heads: Attention heads; the paper has 64 channels and 8 heads.
        generator: Draws the first weights.

    Raises:
        ValueError: If the channels cannot be split among the heads.
    """

    def __init__(self, channels: int, heads: int, generator: torch.Generator) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be split among {heads} heads; give a multiple")
        slot = len(FEATURES["slot"])
        inputs = {"arrived": len(FEATURES["request"]), "expert": len(FEATURES["expert"])}
        inputs |= {"running": slot, "waiting": slot}
        self.first = _Layer(inputs, ("running", "waiting", "arrived"), channels, heads, generator)
        self.second = _Layer(dict.fromkeys(inputs, channels), ("arrived",), channels, heads, generator)

    def forward(self, features: FeatureTensors) -> Embeddings:
        """Return the embeddings of the request and of the experts of every graph."""
        allowed = features.allowed
        layer = self.first
        arrived = layer.project("arrived", features.request)
        expert = layer.project("expert", features.expert)
        running = layer.attend("running", "running", features.running, features.running_mask, expert)
        waiting = layer.attend("waiting", "waiting", features.waiting, features.waiting_mask, expert)
        first_expert = layer.combine(functional.relu(arrived), running, waiting, allowed)
        first_arrived = layer.attend("arrived", "expert", features.expert, allowed, arrived)
        first_slot = functional.relu(expert)  # of every request on the expert

        layer = self.second
        arrived = layer.project("arrived", first_arrived)
        running = functional.relu(layer.project("running", first_slot)) * features.running_mask.any(-1)[..., None]
        waiting = functional.relu(layer.project("waiting", first_slot)) * features.waiting_mask.any(-1)[..., None]
        return Embeddings(
            layer.combine(functional.relu(arrived), running, waiting, allowed),
            layer.attend("arrived", "expert", first_expert, allowed, arrived),
        )
