"""The replay buffer: returns over n steps, rewards that arrive late, episodes that end."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from pointsman_policy.learning.replay import ReplayBuffer, ReplaySettings


class Position(NamedTuple):
    """Says which step of which environment was observed."""

    step: npt.NDArray[np.float32]
    environment: npt.NDArray[np.float32]


def observed(step: int, environments: int = 2) -> Position:
    return Position(np.full(environments, step, np.float32), np.arange(environments, dtype=np.float32))


def filled(settings: ReplaySettings, steps: int, settled: bool = True) -> ReplayBuffer[Position]:
    """A buffer whose reward at step t is t."""
    replay = ReplayBuffer(observed(0), settings)
    for step in range(steps):
        replay.add(
            observed(step),
            np.array([step % 3, 0]),
            np.full(2, step, np.float32),
            np.full(2, settled),
            np.zeros(2, np.bool_),
        )
    return replay


def test_a_batch_holds_what_was_stored() -> None:
    replay = filled(ReplaySettings(steps=50, discount=0.5), 30)
    batch = replay.sample(np.random.default_rng(1), 64)
    assert batch is not None
    assert np.array_equal(batch.reward, batch.observation.step)
    assert np.array_equal(batch.next_observation.step, batch.observation.step + 1)
    assert np.array_equal(batch.next_observation.environment, batch.observation.environment)
    first = batch.observation.environment == 0
    assert np.array_equal(batch.action[first], batch.observation.step[first] % 3)


def test_rewards_are_discounted_over_the_steps_of_a_return() -> None:
    replay = filled(ReplaySettings(steps=50, return_steps=3, discount=0.5), 30)
    batch = replay.sample(np.random.default_rng(1), 64)
    assert batch is not None
    step = batch.observation.step
    assert batch.reward == pytest.approx(step + 0.5 * (step + 1) + 0.25 * (step + 2))
    assert np.array_equal(batch.next_observation.step, step + 3)


def test_old_steps_are_overwritten() -> None:
    replay = filled(ReplaySettings(steps=10), 95)
    batch = replay.sample(np.random.default_rng(1), 200)
    assert batch is not None
    assert len(replay) == 20
    assert batch.observation.step.min() == 85
    assert batch.next_observation.step.max() == 94


def test_a_step_is_learned_from_once_its_reward_is_complete() -> None:
    replay = filled(ReplaySettings(steps=50), 30, settled=False)
    assert replay.sample(np.random.default_rng(1), 8) is None
    replay.credit(np.array([4, 7]), np.array([0, 1]), np.array([0.5, 0.25], np.float32))
    batch = replay.sample(np.random.default_rng(1), 2)
    assert batch is not None
    expected = {(4.0, 0.0): 4.5, (7.0, 1.0): 7.25}
    for step, environment, reward in zip(*batch.observation, batch.reward, strict=True):
        assert expected[float(step), float(environment)] == reward


def test_credit_that_comes_after_the_step_was_overwritten_is_passed_over() -> None:
    replay = filled(ReplaySettings(steps=10), 25)
    replay.credit(np.array([3]), np.array([0]), np.array([100.0], np.float32))
    batch = replay.sample(np.random.default_rng(1), 100)
    assert batch is not None
    assert batch.reward.max() < 100


def test_an_answer_that_never_ends_counts_nothing_after_a_while() -> None:
    replay = filled(ReplaySettings(steps=50, patience_steps=20), 30, settled=False)
    batch = replay.sample(np.random.default_rng(1), 64)
    assert batch is not None
    assert batch.observation.step.max() == 9


def test_no_return_reaches_into_another_episode() -> None:
    replay = ReplayBuffer(observed(0), ReplaySettings(steps=50, return_steps=2))
    for step in range(30):
        last = np.full(2, step % 10 == 9)
        replay.add(observed(step), np.zeros(2, np.int64), np.zeros(2, np.float32), np.ones(2, np.bool_), last)
    batch = replay.sample(np.random.default_rng(1), 400)
    assert batch is not None
    assert set(batch.observation.step % 10) == set(range(8))


def test_the_same_seed_draws_the_same_batch() -> None:
    replay = filled(ReplaySettings(steps=50), 30)
    one, other = (replay.sample(np.random.default_rng(3), 16) for _ in range(2))
    assert one is not None
    assert other is not None
    assert np.array_equal(one.observation.step, other.observation.step)


def test_returns_must_fit_into_the_buffer() -> None:
    with pytest.raises(ValueError, match="more steps"):
        ReplayBuffer(observed(0), ReplaySettings(steps=3, return_steps=3))
