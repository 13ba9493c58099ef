"""The replay buffer: returns over n steps, episodes that end, old steps that go."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from pointsman_policy.learning.replay import ReplayBuffer, ReplaySettings


class Position(NamedTuple):
    """Says which step of which episode was observed."""

    step: npt.NDArray[np.float32]
    episode: npt.NDArray[np.float32]


def observed(steps: int, episode: int = 0) -> Position:
    return Position(np.arange(steps, dtype=np.float32), np.full(steps, episode, np.float32))


def filled(settings: ReplaySettings, *episodes: int) -> ReplayBuffer[Position]:
    """A buffer of episodes of these lengths, whose reward at step t is t."""
    replay = ReplayBuffer(observed(1), settings)
    for number, steps in enumerate(episodes):
        replay.extend(observed(steps, number), np.arange(steps) % 3, np.arange(steps, dtype=np.float32))
    return replay


def test_a_batch_holds_what_was_stored() -> None:
    batch = filled(ReplaySettings(steps=50, discount=0.5), 30).sample(np.random.default_rng(1), 64)
    assert batch is not None
    assert np.array_equal(batch.reward, batch.observation.step)
    assert np.array_equal(batch.next_observation.step, batch.observation.step + 1)
    assert np.array_equal(batch.action, batch.observation.step % 3)
    assert batch.observation.step.max() == 28


def test_rewards_are_discounted_over_the_steps_of_a_return() -> None:
    settings = ReplaySettings(steps=50, return_steps=3, discount=0.5)
    batch = filled(settings, 30).sample(np.random.default_rng(1), 64)
    assert batch is not None
    step = batch.observation.step
    assert batch.reward == pytest.approx(step + 0.5 * (step + 1) + 0.25 * (step + 2))
    assert np.array_equal(batch.next_observation.step, step + 3)


def test_no_return_reaches_into_another_episode() -> None:
    settings = ReplaySettings(steps=50, return_steps=2)
    batch = filled(settings, 10, 10, 10).sample(np.random.default_rng(1), 400)
    assert batch is not None
    assert set(batch.observation.step) == set(range(8))
    assert np.array_equal(batch.next_observation.episode, batch.observation.episode)


def test_old_steps_are_overwritten() -> None:
    replay = filled(ReplaySettings(steps=25), 10, 10, 10, 10)
    batch = replay.sample(np.random.default_rng(1), 400)
    assert batch is not None
    assert len(replay) == 25
    seen = {(int(episode), int(step)) for step, episode in zip(*batch.observation, strict=True)}
    assert seen == {(1, k) for k in range(5, 9)} | {(e, k) for e in (2, 3) for k in range(9)}


def test_of_an_episode_that_does_not_fit_the_end_is_kept() -> None:
    batch = filled(ReplaySettings(steps=20), 95).sample(np.random.default_rng(1), 200)
    assert batch is not None
    assert set(batch.observation.step) == set(range(75, 94))


def test_an_empty_buffer_has_no_batch() -> None:
    assert filled(ReplaySettings(steps=20)).sample(np.random.default_rng(1), 4) is None
    assert filled(ReplaySettings(steps=20), 1).sample(np.random.default_rng(1), 4) is None


def test_the_same_seed_draws_the_same_batch() -> None:
    replay = filled(ReplaySettings(steps=50), 30)
    one, other = (replay.sample(np.random.default_rng(3), 16) for _ in range(2))
    assert one is not None
    assert other is not None
    assert np.array_equal(one.observation.step, other.observation.step)


def test_returns_must_fit_into_the_buffer() -> None:
    with pytest.raises(ValueError, match="more steps"):
        ReplayBuffer(observed(1), ReplaySettings(steps=3, return_steps=3))
