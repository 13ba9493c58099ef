"""Gymnasium environments on the simulator: a step is one routing decision, an episode one situation.

Observations are RoutingStates: every table as a dense float32 matrix whose columns are the fields of `state`, in their
order, and every mask as 0 or 1. Experts are padded to a common number; `present` tells which are real. The actions are
the experts' indices and, last, dropping the request. Which of them are allowed stands in ``info["action_mask"]``.

Times are simulated, so nothing waits. The same seed, situations and actions give the same episode.
"""

from collections.abc import Callable
from typing import Any, Literal, cast

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from pointsman_policy.simulator.situation import Situation
from pointsman_policy.simulator.stepping import SimulationBatch
from pointsman_policy.state import CANDIDATE, DEFAULT_SLOTS, DROP, EXPERT, REQUEST, SLOT

Observation = dict[str, npt.NDArray[Any]]
Source = Callable[[np.random.Generator], Situation]
"""Draws the situation of an episode, such as `draw_situation`."""

Reward = Literal["qos", "paper", "paper-uncorrected"]
"""qos: the QoS of the requests that ended since the decision before; paper: that less the predicted quality of the
requests that the action is expected to make late; paper-uncorrected: of all that are then expected to be late, those
that were late before too. The last is the paper's own; it charges for a late request again at every arrival, and
agents learn to drop everything."""

UNKNOWN = -1.0
"""In observations, what the state does not know: a KV cache's use, the age of a sample that never came."""

_TABLES: dict[str, tuple[np.dtype[np.void], tuple[int, ...]]] = {
    "expert": (EXPERT, ()),
    "running": (SLOT, (DEFAULT_SLOTS,)),
    "waiting": (SLOT, (DEFAULT_SLOTS,)),
    "candidate": (CANDIDATE, ()),
}


def observation_space(experts: int) -> spaces.Space[Observation]:
    """Return the space of observations of as many experts."""
    shapes = {name: (experts, *slots, len(dtype.names or ())) for name, (dtype, slots) in _TABLES.items()}
    shapes["request"] = (len(REQUEST.names or ()),)
    most = float(np.finfo(np.float32).max)
    members: dict[str, spaces.Space[Any]] = {
        name: spaces.Box(-most, most, shape, np.float32) for name, shape in shapes.items()
    }
    for name in ("running_mask", "waiting_mask"):
        members[name] = spaces.MultiBinary((experts, DEFAULT_SLOTS))
    for name in ("allowed", "present"):
        members[name] = spaces.MultiBinary((experts,))
    return cast("spaces.Space[Observation]", spaces.Dict(members))


class _Episodes:
    """A batch of simulations that are replaced one by one, and what environments say of them."""

    def __init__(self, source: Source, count: int, experts: int, reward: Reward) -> None:
        if reward not in ("qos", "paper", "paper-uncorrected"):
            raise ValueError(f"there is no reward {reward!r}; choose qos, paper or paper-uncorrected")
        self._source = source
        self._count = count
        self._experts = experts
        self._reward = reward
        self._batch: SimulationBatch | None = None

    @property
    def batch(self) -> SimulationBatch:
        if self._batch is None:
            raise ResetNeeded("reset the environment before its first step")
        return self._batch

    def begin_all(self, rngs: list[np.random.Generator]) -> None:
        self._batch = SimulationBatch([self._source(rng) for rng in rngs], self._experts)

    def begin(self, row: int, rng: np.random.Generator) -> None:
        self.batch.reset(row, self._source(rng))

    def step(self, actions: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Step every simulation that is not over and return the rewards of all, [B]."""
        due = ~self.batch.steps["over"]
        wrong = due & ~self.action_masks()[np.arange(self._count), np.clip(actions, 0, self._experts)].astype(np.bool_)
        wrong |= due & ((actions < 0) | (actions > self._experts))
        if wrong.any():
            row = int(np.argmax(wrong))
            allowed = np.flatnonzero(self.action_masks()[row]).tolist()
            raise InvalidAction(f"action {actions[row]} is not allowed now; {allowed} are (see info['action_mask'])")
        self.batch.step(np.where(actions == self._experts, DROP, actions))
        return np.where(due, self._rewards(), 0.0)

    def _rewards(self) -> npt.NDArray[np.float64]:
        steps = self.batch.steps
        rewards = np.array(steps["qos"], np.float64)
        if self._reward == "paper":
            rewards -= steps["newly_late_quality"]
        elif self._reward == "paper-uncorrected":
            rewards -= steps["late_quality"]
        return rewards

    def observations(self) -> Observation:
        states = self.batch.states
        tables = {name: getattr(states, name) for name in _TABLES}
        dense = {name: table.view(np.float32).reshape(*table.shape, -1) for name, table in tables.items()}
        dense["request"] = states.request.view(np.float32).reshape(self._count, -1)
        known = {name: np.where(np.isfinite(table), table, np.float32(UNKNOWN)) for name, table in dense.items()}
        masks = {name: getattr(states, name) for name in ("running_mask", "waiting_mask", "allowed")}
        masks["present"] = self.batch.present
        return {**known, **{name: mask.astype(np.int8) for name, mask in masks.items()}}

    def action_masks(self) -> npt.NDArray[np.int8]:
        """Return which actions are allowed, [B, experts + 1]; none once a simulation is over."""
        masks = np.zeros((self._count, self._experts + 1), np.int8)
        masks[:, :-1] = self.batch.states.allowed
        masks[:, -1] = self.batch.states.request["may_drop"][:, 0] > 0
        masks[self.batch.steps["over"]] = 0
        return masks

    def infos(self) -> dict[str, npt.NDArray[Any]]:
        steps = self.batch.steps
        return {
            "action_mask": self.action_masks(),
            "request": steps["request"].copy(),
            "qos": steps["qos"].copy(),
            "ended_count": steps["ended_count"].copy(),
            "late_quality": steps["late_quality"].copy(),
            "newly_late_quality": steps["newly_late_quality"].copy(),
        }


class RoutingEnvironment(gymnasium.Env[Observation, np.int64]):
    """One routing decision after the other.

    `step` terminates when every request has ended; the requests still being served at the last decision are then
    served to their end and rewarded with it.

    Args:
        source: Draws the situation of each episode.
        experts: Room for experts, at least as many as any situation has.
        reward: What is rewarded.
        strict: Raise InvalidAction on an action that is not allowed; otherwise the first allowed one is taken.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(self, source: Source, experts: int, reward: Reward = "qos", strict: bool = True) -> None:
        self.observation_space = observation_space(experts)
        self.action_space = spaces.Discrete(experts + 1)
        self._episodes = _Episodes(source, 1, experts, reward)
        self._strict = strict

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draw the next situation.

        Args:
            seed: Of the situations from here on; None = go on drawing.
            options: There are none.

        Raises:
            ValueError: If the situation has more experts than there is room for.
        """
        super().reset(seed=seed)
        self._episodes.begin_all([self.np_random])
        return self._observation(), self._info()

    def step(self, action: np.int64 | int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Route one request.

        Args:
            action: Expert's index, or the number of experts to drop the request.

        Raises:
            InvalidAction: If the action is not allowed.
            ResetNeeded: If the episode is over, or none has begun.
        """
        if self._episodes.batch.steps["over"][0]:
            raise ResetNeeded("the episode is over; reset the environment")
        mask = self._episodes.action_masks()[0]
        if not self._strict and not mask[action]:
            action = np.argmax(mask)
        reward = self._episodes.step(np.array([action], np.int64))
        over = bool(self._episodes.batch.steps["over"][0])
        return self._observation(), float(reward[0]), over, False, self._info()

    def _observation(self) -> Observation:
        return {name: array[0] for name, array in self._episodes.observations().items()}

    def _info(self) -> dict[str, Any]:
        infos = {name: array[0] for name, array in self._episodes.infos().items()}
        return {name: value if isinstance(value, np.ndarray) else value.item() for name, value in infos.items()}


class RoutingVectorEnvironment(VectorEnv[Observation, npt.NDArray[np.int64], npt.NDArray[Any]]):
    """Several episodes side by side.

    Where an episode is over, the next step begins another one there: its action is ignored and its reward 0
    (Gymnasium's NEXT_STEP mode). Every environment draws from a generator of its own, so its episodes do not depend on
    how long those of the others are. Infos are arrays over the environments.

    Args:
        source: Draws the situation of each episode.
        count: Environments, B.
        experts: Room for experts, at least as many as any situation has.
        reward: What is rewarded.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, source: Source, count: int, experts: int, reward: Reward = "qos") -> None:
        self.num_envs = count
        self.single_observation_space = observation_space(experts)
        self.single_action_space = spaces.Discrete(experts + 1)
        self.observation_space = batch_space(self.single_observation_space, count)
        self.action_space = batch_space(self.single_action_space, count)
        self._episodes = _Episodes(source, count, experts, reward)
        self._rngs: list[np.random.Generator] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode everywhere.

        Args:
            seed: Of the situations from here on; None = go on drawing.
            options: There are none.

        Raises:
            ValueError: If a situation has more experts than there is room for.
        """
        super().reset(seed=seed)
        if seed is not None or not self._rngs:
            self._rngs = list(self.np_random.spawn(self.num_envs))
        self._episodes.begin_all(self._rngs)
        return self._episodes.observations(), self._episodes.infos()

    def step(
        self, actions: npt.NDArray[np.int64]
    ) -> tuple[Observation, npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, Any]]:
        """Route one request in every environment, or begin anew where the episode is over.

        Args:
            actions: [B].

        Raises:
            InvalidAction: If an action is not allowed; no environment has been stepped then.
            ResetNeeded: If no episode has begun.
        """
        over = self._episodes.batch.steps["over"].copy()
        rewards = self._episodes.step(np.asarray(actions, np.int64))
        for row in np.flatnonzero(over):
            self._episodes.begin(int(row), self._rngs[row])
        terminated = self._episodes.batch.steps["over"].copy()
        truncated = np.zeros(self.num_envs, np.bool_)
        return self._episodes.observations(), rewards, terminated, truncated, self._episodes.infos()
