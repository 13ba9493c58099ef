"""Discrete soft actor-critic for a changing number of actions.

SAC (Haarnoja et al., arXiv 1812.05905) with the discrete form of Christodoulou (arXiv 1910.07207): expectations over
actions are computed, not sampled. Two things differ because experts come and go and some are not allowed:

- masked actions have probability 0 in the actor, in the target's expectation and in the entropy, and sums run over the
  actions of each state (a mean would weaken the loss of states with many experts);
- the target entropy is a share of the entropy of choosing evenly among the actions valid in that state.

The encoder is shared: the critics' loss trains it, the actor reads its output and does not.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from pointsman_policy.learning.replay import Batch, ObservationT

_NEVER = -1e9
"""Logit of a masked action."""

EmbeddingT = TypeVar("EmbeddingT")
SeenT = TypeVar("SeenT", contravariant=True)


class ActorCritic(Protocol[SeenT, EmbeddingT]):
    """A network that serves as actor and as twin critics; it is also an `nn.Module`.

    B states, A actions; state i's invalid actions are False in `mask(observation)[i]`.
    """

    def mask(self, observation: SeenT) -> Tensor:
        """Return which actions are valid, bool [B, A]; at least one in each row."""
        ...

    def encode(self, observation: SeenT) -> EmbeddingT:
        """Return what actor and critics share."""
        ...

    def detach(self, embedding: EmbeddingT) -> EmbeddingT:
        """Return the same without its gradient."""
        ...

    def actor(self, embedding: EmbeddingT) -> Tensor:
        """Return logits, [B, A]."""
        ...

    def critics(self, embedding: EmbeddingT) -> Tensor:
        """Return the values of both critics, [2, B, A]."""
        ...


@dataclass(frozen=True)
class SacSettings:
    """The learner's numbers. The paper's are discount 0.99, learning rate 3e-5, polyak 0.995, batch 256."""

    discount: float = 0.9
    """gamma per decision."""
    return_steps: int = 1
    """Steps that the rewards of a batch are summed over."""
    learning_rate: float = 1e-3
    """Adam's, of all networks."""
    temperature_learning_rate: float = 1e-3
    """Adam's, of log alpha."""
    polyak: float = 0.99
    """Share of the target network that stays at each update."""
    initial_temperature: float = 0.02
    """alpha at the start, in units of the reward."""
    target_entropy_share: float = 0.1
    """Target entropy over that of choosing evenly among the valid actions: low, so that argmax acts like the policy
    that was trained."""
    gradient_norm: float = 5.0
    """Longer gradients are shortened to this."""


class Losses(NamedTuple):
    """Figures of one update."""

    critic: float
    """Sum of the two critics' mean losses."""
    actor: float
    """Mean over states of sum over actions."""
    temperature: float
    """alpha after the update."""
    entropy: float
    """Mean entropy of the policy, nats."""
    value: float
    """Mean of the chosen actions' values."""


def masked_log_policy(logits: Tensor, mask: Tensor) -> Tensor:
    """Return log probabilities of the valid actions, about -1e9 for the others, [B, A]."""
    return torch.log_softmax(logits.masked_fill(~mask, _NEVER), dim=-1)


def entropy(log_policy: Tensor) -> Tensor:
    """Return the entropy of each state's policy, nats, [B]; masked actions count 0."""
    return -(log_policy.exp() * log_policy).sum(-1)


def target_entropy(mask: Tensor, share: float) -> Tensor:
    """Return share * log(number of valid actions), [B]."""
    return share * mask.sum(-1).to(torch.float32).log()


class SoftActorCritic(Generic[ObservationT]):
    """Network, target network, temperature and their optimisers.

    Args:
        network: An `ActorCritic` that is a module; trained in place.
        settings: Numbers.
    """

    def __init__(self, network: Any, settings: SacSettings) -> None:
        self.network: Any = network
        self._target: Any = copy.deepcopy(network).requires_grad_(False)
        self._settings = settings
        self._log_temperature = torch.tensor([float(np.log(settings.initial_temperature))], requires_grad=True)
        self._optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=True)
        self._temperature_optimizer = torch.optim.Adam([self._log_temperature], lr=settings.temperature_learning_rate)

    @torch.no_grad()
    def act(self, observation: ObservationT, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Return actions drawn from the policy, [K]."""
        network = self.network
        log_policy = masked_log_policy(network.actor(network.encode(observation)), network.mask(observation))
        return draw_actions(log_policy.exp().numpy(), rng)

    @torch.no_grad()
    def best(self, observation: ObservationT) -> npt.NDArray[np.int64]:
        """Return the most probable actions, [K]."""
        network = self.network
        log_policy = masked_log_policy(network.actor(network.encode(observation)), network.mask(observation))
        actions: npt.NDArray[np.int64] = log_policy.argmax(-1).numpy()
        return actions

    def update(self, batch: Batch[ObservationT]) -> Losses:
        """Make one step of critics, actor and temperature, and move the target network."""
        network, settings = self.network, self._settings
        alpha = self._log_temperature.detach().exp()
        mask = network.mask(batch.observation)

        # Critics: Q(s, a) towards R + gamma^n * E_a'[min Q'(s', a') - alpha log pi'(a'|s')].
        target = self._bootstrap(batch, alpha)
        embedding = network.encode(batch.observation)
        values = network.critics(embedding)
        action = torch.from_numpy(batch.action)
        chosen = values.gather(-1, action.expand(2, -1).unsqueeze(-1)).squeeze(-1)
        critic_loss = 2.0 * huber_loss(chosen, target.expand(2, -1))

        # Actor: sum over actions of pi(a|s) * (alpha log pi(a|s) - min Q(s, a)); it does not move encoder or critics.
        log_policy = masked_log_policy(network.actor(network.detach(embedding)), mask)
        smallest = values.detach().min(0).values.masked_fill(~mask, 0.0)
        policy_entropy = entropy(log_policy)
        actor_loss = (-(log_policy.exp() * smallest).sum(-1) - alpha * policy_entropy).mean()

        self._optimizer.zero_grad(set_to_none=True)
        (critic_loss + actor_loss).backward()
        nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_norm)
        self._optimizer.step()

        # Temperature: up where the policy is more certain than the target entropy asks.
        excess = (policy_entropy - target_entropy(mask, settings.target_entropy_share)).detach().mean()
        self._temperature_optimizer.zero_grad(set_to_none=True)
        (self._log_temperature * excess).sum().backward()  # type: ignore[no-untyped-call]
        self._temperature_optimizer.step()

        self._move_target()
        return Losses(
            critic=critic_loss.item(),
            actor=actor_loss.item(),
            temperature=self._log_temperature.detach().exp().item(),
            entropy=policy_entropy.mean().item(),
            value=chosen.mean().item(),
        )

    @torch.no_grad()
    def _bootstrap(self, batch: Batch[ObservationT], alpha: Tensor) -> Tensor:
        """Return the critics' target, [B]; the target network's own actor stands for the policy of the next state."""
        settings, target = self._settings, self._target
        reward = torch.from_numpy(batch.reward)
        discount = settings.discount**settings.return_steps
        if discount == 0.0:
            return reward
        mask = target.mask(batch.next_observation)
        embedding = target.encode(batch.next_observation)
        log_policy = masked_log_policy(target.actor(embedding), mask)
        smallest = target.critics(embedding).min(0).values.masked_fill(~mask, 0.0)
        value = (log_policy.exp() * smallest).sum(-1) + alpha * entropy(log_policy)
        target_value: Tensor = reward + discount * value
        return target_value

    @torch.no_grad()
    def _move_target(self) -> None:
        for target, source in _pairs(self._target, self.network):
            target.lerp_(source, 1.0 - self._settings.polyak)

    def state(self) -> dict[str, Tensor]:
        """Return all that training needs to go on, for `restore`: tensors by name."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"target.{name}": tensor for name, tensor in self._target.state_dict().items()}
        tensors["log_temperature"] = self._log_temperature.detach()
        for kind, optimizer in self._optimizers():
            for parameter, moments in optimizer.state_dict()["state"].items():
                tensors |= {f"{kind}.{parameter}.{name}": moment for name, moment in moments.items()}
        return {name: tensor.clone() for name, tensor in tensors.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` returned; the network must be of the same kind and sizes."""
        self.network.load_state_dict(_part(state, "network"))
        self._target.load_state_dict(_part(state, "target"))
        with torch.no_grad():
            self._log_temperature.copy_(state["log_temperature"])
        for kind, optimizer in self._optimizers():
            document = optimizer.state_dict()
            document["state"] = {}
            for name, moment in _part(state, kind).items():
                parameter, _, key = name.partition(".")
                shaped = moment.reshape(()) if key == "step" else moment  # files know no numbers, only arrays
                document["state"].setdefault(int(parameter), {})[key] = shaped
            optimizer.load_state_dict(document)

    def _optimizers(self) -> tuple[tuple[str, torch.optim.Optimizer], ...]:
        return ("optimizer", self._optimizer), ("temperature_optimizer", self._temperature_optimizer)


def _part(state: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    start = f"{kind}."
    return {name.removeprefix(start): tensor.clone() for name, tensor in state.items() if name.startswith(start)}


def _pairs(target: nn.Module, source: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(target.parameters(), source.parameters(), strict=True)


def draw_actions(probability: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return an action for each row of probabilities, [K]; one of probability 0 is never drawn."""
    cumulative = probability.astype(np.float64).cumsum(-1)
    uniform = rng.random((len(probability), 1)) * cumulative[:, -1:]
    actions: npt.NDArray[np.int64] = (cumulative <= uniform).sum(-1).clip(max=probability.shape[1] - 1)
    return actions
