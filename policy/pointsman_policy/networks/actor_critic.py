"""Actor and twin critics of the paper's agent, with the graph network and without it.

Actions are the E experts and, last, to drop the request where that is allowed. Values are split into what the state is
worth and what an action adds to that (Wang et al., "Dueling network architectures", arXiv 1511.06581): what the
requests to come will bring is common to all actions and much larger than the difference between two experts.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from pointsman_policy.networks.han import Embeddings, FeatureTensors, linear, to_tensors
from pointsman_policy.networks.policy_network import PolicyNetwork
from pointsman_policy.pickers.flat_actor import FLAT_EXPERT_COLUMNS, FLAT_REQUEST_COLUMNS
from pointsman_policy.runtime.features import FEATURES, Features
from pointsman_policy.runtime.size import NetworkSize

_MAY_DROP = FEATURES["request"].index("may_drop")
_EXPECTED = FEATURES["expert"].index("expected")
_MEAN_QUALITY = FEATURES["request"].index("mean_quality")


def action_mask(features: Features) -> Tensor:
    """Return which actions are valid: the allowed experts, and dropping where the request may be dropped, [B, E+1]."""
    may_drop = torch.from_numpy(features.request[:, _MAY_DROP] > 0)
    return torch.cat([torch.from_numpy(features.allowed), may_drop[:, None]], dim=1)


class GraphEmbedding(NamedTuple):
    """What actor and critics share."""

    features: FeatureTensors
    embeddings: Embeddings | None


class _Critic(nn.Module):
    """Scores experts one by one with shared weights, and dropping from their mean.

    It starts from what the latency model and the action impact estimator say an action brings at once, the request's
    expected QoS less the harm to others, and learns what that gets wrong and what comes later.
    """

    def __init__(self, size: NetworkSize, generator: torch.Generator) -> None:
        super().__init__()
        embedding = size.channels if size.graph else 0
        graph = embedding + len(FEATURES["request"])
        self.first = linear(generator, graph + embedding + len(FEATURES["expert"]), size.hidden)
        self.second = linear(generator, size.hidden, size.hidden)
        self.last = linear(generator, size.hidden, 1)
        self.state_first = linear(generator, graph + size.hidden, size.hidden)
        self.state_last = linear(generator, size.hidden, 2)
        self.estimate_weight = nn.Parameter(torch.ones(1))

    def forward(self, embedding: GraphEmbedding) -> Tensor:
        """Return the value of each action, [B, E + 1]."""
        features, embeddings = embedding
        shared, own = [features.request], [features.expert]
        if embeddings is not None:
            shared.append(embeddings.arrived)
            own.append(embeddings.expert)
        allowed = features.allowed
        graph = torch.cat(shared, dim=-1)
        expert = torch.cat([*own, graph[:, None].expand(-1, allowed.shape[1], -1)], dim=-1)
        hidden = functional.relu(self.second(functional.relu(self.first(expert))))
        share = allowed / allowed.sum(1, keepdim=True).clamp(min=1)
        mean = (share[:, None, :] @ hidden)[:, 0]
        state = self.state_last(functional.relu(self.state_first(torch.cat([graph, mean], dim=-1))))
        estimate = features.expert[..., _EXPECTED] * features.request[:, _MEAN_QUALITY, None]
        advantage = torch.cat([self.last(hidden)[..., 0] + self.estimate_weight * estimate, state[:, :1]], dim=1)
        values: Tensor = state[:, 1:] + advantage
        return values


class GraphActorCritic(nn.Module):
    """The paper's agent: one graph network for the actor and both critics; any number of experts.

    Args:
        size: Of the actor, which is what is exported; the critics' hidden layers are as wide.
        generator: Draws the first weights.
    """

    def __init__(self, size: NetworkSize, generator: torch.Generator) -> None:
        super().__init__()
        self.policy = PolicyNetwork(size, generator)
        self.twins = nn.ModuleList(_Critic(size, generator) for _ in range(2))

    def mask(self, observation: Features) -> Tensor:
        """Return which actions are valid, [B, E + 1]."""
        return action_mask(observation)

    def encode(self, observation: Features) -> GraphEmbedding:
        """Return the embeddings of the request and of the experts."""
        features = to_tensors(observation)
        return GraphEmbedding(features, None if self.policy.han is None else self.policy.han(features))

    def detach(self, embedding: GraphEmbedding) -> GraphEmbedding:
        """Return the same without its gradient."""
        if embedding.embeddings is None:
            return embedding
        return embedding._replace(embeddings=Embeddings(*(tensor.detach() for tensor in embedding.embeddings)))

    def actor(self, embedding: GraphEmbedding) -> Tensor:
        """Return the experts' scores and the drop score, [B, E + 1]."""
        scores = self.policy.score(*embedding)
        return torch.cat([scores.score, scores.drop[:, None]], dim=1)

    def critics(self, embedding: GraphEmbedding) -> Tensor:
        """Return the values of both critics, [2, B, E + 1]."""
        return torch.stack([critic(embedding) for critic in self.twins])


class FlatActorCritic(nn.Module):
    """The paper's ablation: SAC without the graph network, on the features of N experts one after the other.

    Each of actor and critics has two hidden layers of 64, as in the paper; their shape fixes the number of experts.

    Args:
        experts: N.
        hidden: Width of the hidden layers.
        generator: Draws the first weights.
    """

    def __init__(self, experts: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.experts = experts
        inputs = experts * len(FLAT_EXPERT_COLUMNS) + len(FLAT_REQUEST_COLUMNS)
        self.policy = _perceptron(inputs, hidden, experts + 1, generator)
        self.twins = nn.ModuleList(_perceptron(inputs, hidden, experts + 2, generator) for _ in range(2))

    def mask(self, observation: Features) -> Tensor:
        """Return which actions are valid, [B, N + 1]."""
        return action_mask(observation)

    def encode(self, observation: Features) -> Tensor:
        """Return the flat observation, [B, inputs].

        Raises:
            ValueError: If there are not N experts.
        """
        if observation.allowed.shape[1] != self.experts:
            raise ValueError(
                f"this network was made for {self.experts} experts, not {observation.allowed.shape[1]}; train another"
            )
        return torch.from_numpy(flat_observation(observation))

    def detach(self, embedding: Tensor) -> Tensor:
        """Return it as it is: nothing in it is learned."""
        return embedding

    def actor(self, embedding: Tensor) -> Tensor:
        """Return the experts' scores and the drop score, [B, N + 1]."""
        scores: Tensor = self.policy(embedding)
        return scores

    def layers(self) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        """Return a copy of the actor's weights and biases, layer by layer, as `flat_actor` takes them."""
        linears = [layer for layer in self.policy if isinstance(layer, nn.Linear)]
        return [(layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()) for layer in linears]

    def critics(self, embedding: Tensor) -> Tensor:
        """Return the values of both critics, [2, B, N + 1]."""
        outputs = torch.stack([critic(embedding) for critic in self.twins])
        return outputs[..., :-1] + outputs[..., -1:]


def flat_observation(features: Features) -> npt.NDArray[np.float32]:
    """Return the experts' columns one expert after the other, then the request's, [B, inputs]."""
    expert = features.expert[..., FLAT_EXPERT_COLUMNS]
    request = features.request[..., FLAT_REQUEST_COLUMNS]
    return np.concatenate([expert.reshape(len(expert), -1), request], axis=1)


def _perceptron(inputs: int, hidden: int, outputs: int, generator: torch.Generator) -> nn.Sequential:
    layers = [linear(generator, inputs, hidden), linear(generator, hidden, hidden), linear(generator, hidden, outputs)]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
