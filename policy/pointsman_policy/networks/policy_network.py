"""The network of a learned policy: the graph network and a scorer that all experts share."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from pointsman_policy.networks.han import Embeddings, FeatureTensors, Han, linear
from pointsman_policy.runtime.features import FEATURES
from pointsman_policy.runtime.size import HEADS, NetworkSize


class Scores(NamedTuple):
    """What the network says of B requests."""

    score: Tensor
    """[B, E]; 0 where not allowed."""
    slo_logit: Tensor
    """[B, E], to be added to the logit of the analytic P(meets its objectives); 0 where not allowed."""
    drop: Tensor
    """[B]."""


class _Scorer(nn.Module):
    def __init__(self, inputs: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.first = linear(generator, inputs, hidden)
        self.second = linear(generator, hidden, hidden)
        self.last = _zeroed(hidden, len(HEADS))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the heads, [..., 2], and the last hidden layer, [..., hidden]."""
        hidden = functional.relu(self.second(functional.relu(self.first(x))))
        return self.last(hidden), hidden


class _Drop(nn.Module):
    def __init__(self, inputs: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.first = linear(generator, inputs, hidden)
        self.last = _zeroed(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        score: Tensor = self.last(functional.relu(self.first(x)))[..., 0]
        return score


def _zeroed(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _cut(layer: nn.Module, columns: Sequence[int]) -> None:
    """Set the weights of some inputs of a linear layer to 0, and keep training away from them."""
    weight = layer.get_parameter("weight")
    kept = torch.ones_like(weight)
    kept[:, list(columns)] = 0.0
    with torch.no_grad():
        weight.mul_(kept)
    weight.register_hook(lambda gradient: gradient * kept)  # type: ignore[no-untyped-call]


class PolicyNetwork(nn.Module):
    """Scores every expert from its embedding, the request's and both one's features, and dropping from their mean.

    It starts with all scores 0, so that a policy that adds them to a rule's starts as that rule.

    Args:
        size: Its sizes.
        generator: Draws the first weights.
    """

    def __init__(self, size: NetworkSize, generator: torch.Generator) -> None:
        super().__init__()
        self.size = size
        self.han = Han(size.channels, size.heads, generator) if size.graph else None
        expert, request = len(FEATURES["expert"]), len(FEATURES["request"])
        embedding = size.channels if size.graph else 0
        self.scorer = _Scorer(2 * embedding + expert + request, size.hidden, generator)
        self.drop = _Drop(embedding + request + size.hidden, size.hidden, generator)

    def forward(self, features: FeatureTensors) -> Scores:
        """Return the scores of every expert, and of dropping, for each request."""
        return self.score(features, None if self.han is None else self.han(features))

    def score(self, features: FeatureTensors, embeddings: Embeddings | None) -> Scores:
        """Return the scores that follow from embeddings made before; None if the network has no graph."""
        shared, own = [features.request], [features.expert]
        if embeddings is not None:
            shared.insert(0, embeddings.arrived)
            own.insert(0, embeddings.expert)
        allowed = features.allowed
        graph = torch.cat(shared, dim=-1)
        heads, hidden = self.scorer(torch.cat([*own, graph[:, None].expand(-1, allowed.shape[1], -1)], dim=-1))
        heads = heads * allowed[..., None]
        share = allowed / allowed.sum(1, keepdim=True).clamp(min=1)
        drop = self.drop(torch.cat([graph, (share[:, None, :] @ hidden)[:, 0]], dim=-1))
        return Scores(heads[..., 0], heads[..., 1], drop)

    def ignore(self, expert: Collection[str], request: Collection[str]) -> None:
        """Take no notice of some features, now and in training: their weights become 0 and stay 0.

        Args:
            expert: Names in FEATURES["expert"].
            request: Names in FEATURES["request"].

        Raises:
            ValueError: If there is no feature of a name.
        """
        own = [FEATURES["expert"].index(name) for name in expert]
        shared = [FEATURES["request"].index(name) for name in request]
        embedding = self.size.channels if self.size.graph else 0
        behind = 2 * embedding + len(FEATURES["expert"])
        _cut(self.scorer.first, [embedding + column for column in own] + [behind + column for column in shared])
        _cut(self.drop.first, [embedding + column for column in shared])
        if self.han is not None:
            _cut(self.han.first.get_submodule("expert"), own)
            _cut(self.han.first.get_submodule("arrived"), shared)

    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return a copy of the weights by name, as `pointsman_policy.runtime` takes them."""
        return {name: tensor.detach().numpy().copy() for name, tensor in self.state_dict().items()}
