"""Experience for off-policy learning: whole episodes, one after the other, until the oldest are overwritten.

What a routing decision was worth is known when the request has been answered, dozens of decisions later. Episodes are
therefore stored when they are over: every step has its complete reward. Rewards are summed over n steps::

    R = r_t + gamma r_{t+1} + ... + gamma^(n-1) r_{t+n-1},    bootstrapped with gamma^n V(s_{t+n})
"""

from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

ObservationT = TypeVar("ObservationT", bound=tuple[npt.NDArray[Any], ...])
"""A NamedTuple of arrays whose first axis is the step (or, in a batch, the sample)."""


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

    steps: int = 20_000
    """Kept."""
    return_steps: int = 1
    """n, at least 1."""
    discount: float = 0.9
    """gamma per decision, 0 to 1."""


class ReplayBuffer(Generic[ObservationT]):
    """The latest steps.

    Args:
        example: Any observation of at least one step; gives shapes and types.
        settings: Sizes.
    """

    def __init__(self, example: ObservationT, settings: ReplaySettings) -> None:
        if settings.return_steps < 1 or settings.steps <= settings.return_steps:
            raise ValueError("a replay buffer needs at least one step a return, and more steps than one return has")
        self._settings = settings
        self._type = type(example)
        self._fields = [np.zeros((settings.steps, *field.shape[1:]), field.dtype) for field in example]
        self._action = np.zeros(settings.steps, np.int64)
        self._reward = np.zeros(settings.steps, np.float32)
        self._last = np.ones(settings.steps, np.bool_)
        self._count = 0

    def __len__(self) -> int:
        """Return how many steps are kept."""
        return min(self._count, self._settings.steps)

    def extend(self, observation: ObservationT, action: Integers, reward: Floats) -> None:
        """Store an episode of m steps; of a longer one than fits, the last.

        Args:
            observation: Before the actions, [m, ...].
            action: [m].
            reward: [m].
        """
        kept = slice(max(len(action) - self._settings.steps, 0), None)
        rows = (self._count + np.arange(len(action[kept]))) % self._settings.steps
        for store, field in zip(self._fields, observation, strict=True):
            store[rows] = field[kept]
        self._action[rows] = action[kept]
        self._reward[rows] = reward[kept]
        self._last[rows] = False
        self._last[rows[-1:]] = True
        self._count += len(rows)

    def sample(self, rng: np.random.Generator, size: int) -> Batch[ObservationT] | None:
        """Draw transitions, with repetition; None if there is not one yet. No return reaches across episodes.

        Args:
            rng: The choice.
            size: B.
        """
        rows = np.flatnonzero(self._usable())
        if not len(rows):
            return None
        return self._batch(rows[rng.integers(0, len(rows), size)])

    def _usable(self) -> npt.NDArray[np.bool_]:
        """Return from which steps on there are n rewards of one episode and an observation after them, [steps]."""
        n, steps = self._settings.return_steps, self._settings.steps
        age = (self._count - 1 - np.arange(steps)) % steps
        usable = (age >= n) & (age < len(self))
        for k in range(n):
            usable &= ~np.roll(self._last, -k)
        return usable

    def _batch(self, rows: npt.NDArray[np.intp]) -> Batch[ObservationT]:
        n, steps = self._settings.return_steps, self._settings.steps
        reward = np.zeros(len(rows), np.float32)
        for k in range(n):
            reward += np.float32(self._settings.discount**k) * self._reward[(rows + k) % steps]
        return Batch(self._take(rows), self._action[rows], reward, self._take((rows + n) % steps))

    def _take(self, rows: npt.NDArray[np.intp]) -> ObservationT:
        taken: ObservationT = self._type(*(field[rows] for field in self._fields))
        return taken
