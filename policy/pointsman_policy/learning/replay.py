"""Experience of several environments that run side by side, with rewards that arrive long after their actions.

What a routing decision was worth is known when the request has been answered, dozens of decisions later. So a step is
stored at once with the part of its reward that is known, the rest is credited to it when the answer ends, and only
steps whose reward is complete are learned from. Rewards are summed over n steps::

    R = r_t + gamma r_{t+1} + ... + gamma^(n-1) r_{t+n-1},    bootstrapped with gamma^n V(s_{t+n})
"""

from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

ObservationT = TypeVar("ObservationT", bound=tuple[npt.NDArray[Any], ...])
"""A NamedTuple of arrays whose first axis is the environment (or, in a batch, the sample)."""


class Batch(NamedTuple, Generic[ObservationT]):
    """B transitions over n steps."""

    observation: ObservationT
    action: Integers
    """[B]."""
    reward: Floats
    """Discounted sum over n steps, [B]."""
    next_observation: ObservationT
    """n steps later."""


@dataclass(frozen=True)
class ReplaySettings:
    """How much is kept and how rewards are summed."""

    steps: int = 2_000
    """Steps of every environment that are kept."""
    return_steps: int = 1
    """n, at least 1."""
    discount: float = 0.9
    """gamma per decision, 0 to 1."""
    patience_steps: int = 400
    """After so many steps a missing credit counts as 0: an answer that takes that long is late. Without it, what is
    learned from would be the requests that ended soon, the good ones."""


class ReplayBuffer(Generic[ObservationT]):
    """The latest steps of K environments.

    Args:
        example: One observation of the K environments; gives shapes and types.
        settings: Sizes.
    """

    def __init__(self, example: ObservationT, settings: ReplaySettings) -> None:
        if settings.return_steps < 1 or settings.steps <= settings.return_steps:
            raise ValueError("a replay buffer needs at least one step a return, and more steps than one return has")
        self._settings = settings
        self._type = type(example)
        environments = len(example[0])
        shape = (settings.steps, environments)
        self._fields = [np.zeros((settings.steps, *field.shape), field.dtype) for field in example]
        self._action = np.zeros(shape, np.int64)
        self._reward = np.zeros(shape, np.float32)
        self._settled = np.zeros(shape, np.bool_)
        self._last = np.zeros(shape, np.bool_)
        self._count = 0

    @property
    def steps(self) -> int:
        """Steps added so far, those since overwritten included."""
        return self._count

    def __len__(self) -> int:
        """Return how many transitions are kept, complete or not."""
        return min(self._count, self._settings.steps) * self._action.shape[1]

    def add(
        self,
        observation: ObservationT,
        action: Integers,
        reward: Floats,
        settled: npt.NDArray[np.bool_],
        last: npt.NDArray[np.bool_],
    ) -> int:
        """Store a step of all environments.

        Args:
            observation: Before the action.
            action: [K].
            reward: The part known now, [K].
            settled: Whether that is all of it, [K].
            last: Whether the next observation belongs to another episode, [K]; no return reaches across.

        Returns:
            The step's number, for `credit`.
        """
        row = self._count % self._settings.steps
        for store, field in zip(self._fields, observation, strict=True):
            store[row] = field
        self._action[row] = action
        self._reward[row] = reward
        self._settled[row] = settled
        self._last[row] = last
        self._count += 1
        return self._count - 1

    def credit(self, step: Integers, environment: Integers, reward: Floats) -> None:
        """Complete the rewards of m earlier steps; steps overwritten meanwhile are passed over.

        Args:
            step: From `add`, [m].
            environment: Index, [m].
            reward: The missing part, [m].
        """
        kept = step >= self._count - self._settings.steps
        row = step[kept] % self._settings.steps
        self._reward[row, environment[kept]] += reward[kept]
        self._settled[row, environment[kept]] = True

    def sample(self, rng: np.random.Generator, size: int) -> Batch[ObservationT] | None:
        """Draw transitions whose n rewards are complete, with repetition; None if there is not one yet.

        Args:
            rng: The choice.
            size: B.
        """
        row, environment = np.nonzero(self._usable())
        if not len(row):
            return None
        chosen = rng.integers(0, len(row), size)
        return self._batch(row[chosen], environment[chosen])

    def _usable(self) -> npt.NDArray[np.bool_]:
        """Return which steps have n complete rewards of one episode and an observation after them, [rows, K]."""
        n, rows = self._settings.return_steps, self._settings.steps
        newest = self._count - 1
        age = (newest - np.arange(rows)) % rows  # of each row's step, in steps
        complete = (self._settled | (age >= self._settings.patience_steps)[:, np.newaxis]) & ~self._last
        usable: npt.NDArray[np.bool_] = ((age >= n) & (age <= newest))[:, np.newaxis] & complete
        for k in range(1, n):
            usable = usable & np.roll(complete, -k, axis=0)
        return usable

    def _batch(self, row: Integers, environment: Integers) -> Batch[ObservationT]:
        n, rows = self._settings.return_steps, self._settings.steps
        reward = np.zeros(len(row), np.float32)
        for k in range(n):
            reward += np.float32(self._settings.discount**k) * self._reward[(row + k) % rows, environment]
        return Batch(
            self._take(row, environment),
            self._action[row, environment],
            reward,
            self._take((row + n) % rows, environment),
        )

    def _take(self, row: Integers, environment: Integers) -> ObservationT:
        taken: ObservationT = self._type(*(field[row, environment] for field in self._fields))
        return taken
