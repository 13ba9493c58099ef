"""Discrete SAC on tiny tasks whose best actions are known."""

import functools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from pointsman_policy.learning.replay import Batch, ReplayBuffer, ReplaySettings
from pointsman_policy.learning.sac import (
    SacSettings,
    SoftActorCritic,
    draw_actions,
    entropy,
    masked_log_policy,
    target_entropy,
)


class Offer(NamedTuple):
    """Each action's worth, and which are allowed."""

    worth: npt.NDArray[np.float32]
    allowed: npt.NDArray[np.bool_]


class Scorer(nn.Module):
    """Scores actions one by one with shared weights, as experts are."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = nn.Sequential(nn.Linear(1, 16), nn.Tanh())
        self.heads = nn.Linear(16, 3)

    def mask(self, observation: Offer) -> Tensor:
        return torch.from_numpy(observation.allowed)

    def encode(self, observation: Offer) -> Tensor:
        encoded: Tensor = self.encoder(torch.from_numpy(observation.worth).unsqueeze(-1))
        return encoded

    def detach(self, embedding: Tensor) -> Tensor:
        return embedding.detach()

    def actor(self, embedding: Tensor) -> Tensor:
        logits: Tensor = self.heads(embedding)[..., 0]
        return logits

    def critics(self, embedding: Tensor) -> Tensor:
        values: Tensor = self.heads(embedding)[..., 1:]
        return values.movedim(-1, 0)


def draw_offers(rng: np.random.Generator, count: int, actions: int = 4) -> Offer:
    allowed = rng.random((count, actions)) < 0.7
    allowed[np.arange(count), rng.integers(0, actions, count)] = True
    return Offer(rng.random((count, actions)).astype(np.float32), allowed)


@functools.cache
def learn_bandit(seed: int, updates: int = 250) -> SoftActorCritic[Offer]:
    """The reward of an action is its worth."""
    rng = np.random.default_rng(seed)
    settings = SacSettings(discount=0.0, learning_rate=1e-2, temperature_learning_rate=1e-2)
    learner: SoftActorCritic[Offer] = SoftActorCritic(Scorer(seed), settings)
    for _ in range(updates):
        offers = draw_offers(rng, 64)
        action = learner.act(offers, rng)
        learner.update(Batch(offers, action, offers.worth[np.arange(64), action], offers))
    return learner


def test_it_learns_to_take_the_best_of_the_allowed_actions() -> None:
    learner = learn_bandit(seed=1)
    offers = draw_offers(np.random.default_rng(2), 500)
    best = np.where(offers.allowed, offers.worth, -1.0)
    chosen = learner.best(offers)
    regret = best.max(-1) - best[np.arange(500), chosen]
    assert regret.mean() < 0.01


def test_it_works_for_more_actions_than_it_was_trained_on() -> None:
    learner = learn_bandit(seed=1)
    offers = draw_offers(np.random.default_rng(2), 200, actions=9)
    best = np.where(offers.allowed, offers.worth, -1.0)
    chosen = learner.best(offers)
    assert (best.max(-1) - best[np.arange(200), chosen]).mean() < 0.01


def test_masked_actions_are_never_taken() -> None:
    learner = learn_bandit(seed=1, updates=20)
    rng = np.random.default_rng(2)
    offers = draw_offers(rng, 2_000)
    rows = np.arange(2_000)
    assert offers.allowed[rows, learner.act(offers, rng)].all()
    assert offers.allowed[rows, learner.best(offers)].all()


def test_the_same_seed_gives_the_same_weights() -> None:
    learn = learn_bandit.__wrapped__
    one, other, third = (learn(seed, updates=30).network.state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(not torch.equal(one[name], third[name]) for name in one)


def test_training_goes_on_from_a_saved_state_as_if_it_had_not_stopped() -> None:
    offers = draw_offers(np.random.default_rng(2), 64)
    batch = Batch(offers, np.argmax(offers.allowed, -1), offers.worth[:, 0], offers)
    first = learn_bandit.__wrapped__(seed=5, updates=10)
    second: SoftActorCritic[Offer] = SoftActorCritic(
        Scorer(99), SacSettings(discount=0.0, learning_rate=1e-2, temperature_learning_rate=1e-2)
    )
    second.restore(first.state())
    assert second.update(batch) == first.update(batch)
    assert all(map(torch.equal, first.network.parameters(), second.network.parameters()))


class Room(NamedTuple):
    """0: the good room; 1: the bad one, without reward and without a way out."""

    room: npt.NDArray[np.int64]


class Table(nn.Module):
    """A value for each room and action."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(3, 2, 2))

    def mask(self, observation: Room) -> Tensor:
        return torch.ones(len(observation.room), 2, dtype=torch.bool)

    def encode(self, observation: Room) -> Tensor:
        return self.values[:, torch.from_numpy(observation.room)]

    def detach(self, embedding: Tensor) -> Tensor:
        return embedding

    def actor(self, embedding: Tensor) -> Tensor:
        return embedding[0]

    def critics(self, embedding: Tensor) -> Tensor:
        return embedding[1:]


@pytest.mark.parametrize(("discount", "best"), [(0.9, 1), (0.1, 0)])
@pytest.mark.parametrize("return_steps", [1, 3])
def test_it_weighs_what_comes_later(discount: float, best: int, return_steps: int) -> None:
    """Action 0 brings 0.6 once and leads to the bad room, action 1 brings 0.5 and stays."""
    rng = np.random.default_rng(1)
    settings = SacSettings(
        discount=discount,
        return_steps=return_steps,
        learning_rate=2e-2,
        polyak=0.9,
        target_entropy_share=0.5,
        initial_temperature=0.05,
    )
    learner: SoftActorCritic[Room] = SoftActorCritic(Table(), settings)
    rooms = Room(np.zeros(1, np.int64))
    replay = ReplayBuffer(rooms, ReplaySettings(steps=4_000, return_steps=return_steps, discount=discount))
    for _ in range(100):
        seen, actions = [], []
        for _ in range(12):
            seen.append(int(rooms.room[0]))
            actions.append(int(learner.act(rooms, rng)[0]))
            rooms = Room(np.array([1 if seen[-1] == 1 or actions[-1] == 0 else 0]))
        rooms = Room(np.zeros(1, np.int64))
        reward = np.where(np.array(seen) == 1, 0.0, np.where(np.array(actions) == 0, 0.6, 0.5)).astype(np.float32)
        replay.extend(Room(np.array(seen)), np.array(actions), reward)
        for _ in range(3):
            batch = replay.sample(rng, 32)
            assert batch is not None
            learner.update(batch)
    assert learner.best(Room(np.zeros(1, np.int64)))[0] == best


def test_masked_actions_count_nothing_in_policy_and_entropy() -> None:
    mask = torch.tensor([[True, True, False, False], [False, True, False, False], [True] * 4])
    log_policy = masked_log_policy(torch.zeros(3, 4), mask)
    assert torch.allclose(log_policy.exp().sum(-1), torch.ones(3))
    assert log_policy.exp()[0].tolist() == [0.5, 0.5, 0.0, 0.0]
    assert entropy(log_policy).tolist() == pytest.approx([math.log(2), 0.0, math.log(4)])


def test_the_target_entropy_depends_on_how_many_actions_are_valid() -> None:
    mask = torch.tensor([[True, True, False], [True, False, False], [True] * 3])
    assert target_entropy(mask, 0.5).tolist() == pytest.approx([0.5 * math.log(2), 0.0, 0.5 * math.log(3)])


def test_actions_are_drawn_as_probable_as_they_are() -> None:
    probability = np.tile(np.array([0.0, 0.25, 0.75, 0.0], np.float32), (20_000, 1))
    counts = np.bincount(draw_actions(probability, np.random.default_rng(1)), minlength=4) / 20_000
    assert counts == pytest.approx([0, 0.25, 0.75, 0], abs=0.01)
    assert counts[0] == counts[3] == 0
