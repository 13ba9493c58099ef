"""Replay: what a candidate would have done in stored states, and whether it can answer them at all."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.errors import PickError
from pointsman_policy.experience.dataset import Experience
from pointsman_policy.experience.fleet import FleetExpert
from pointsman_policy.experience.packed_state import unpack_states
from pointsman_policy.latency.estimator import estimates
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.registry.calibration import Calibration, kind_of
from pointsman_policy.retraining.contenders import Contender
from pointsman_policy.simulator.engine import COEFFICIENTS
from pointsman_policy.state import DROP, RoutingState
from pointsman_policy.twin.calibration import believed_coefficients, declared_experts

Floats = npt.NDArray[np.float64]

_MOST_STATES = 2_000
_UNIFORMS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Near-ties are broken at random: the chance of a choice is its share of these."""


class Answer(NamedTuple):
    """What a candidate says to one stored state of E experts."""

    row: int
    """Of the experience."""
    names: tuple[str, ...]
    """Of the experts."""
    chance: Floats
    """With which it chooses each expert, [E]; they sum to less than 1 where it would drop."""
    expected: Floats
    """QoS of each expert as it sees it, [E]."""
    agrees: bool
    """Whether the active version chooses the same."""


class Replay(NamedTuple):
    """What a candidate says to stored states."""

    answers: tuple[Answer, ...]
    problem: str
    """Why it could not answer one; empty = it answered all."""

    @property
    def agreement(self) -> float:
        """Share in which it chooses as the active version; 1 where there are no states."""
        return float(np.mean([answer.agrees for answer in self.answers])) if self.answers else 1.0


def replay(experience: Experience, candidate: Contender, active: Contender) -> Replay:
    """Ask a candidate about the newest stored states; those that another version of this program packed are left out.

    Args:
        experience: With the column `state`.
        candidate: Is asked with its own beliefs in place of those in a state.
        active: Is asked with a state as it is.

    Raises:
        ValueError: If no fleet is known.
    """
    beliefs = _Beliefs(experience, candidate.calibration)
    answers: list[Answer] = []
    for row, names, state in _states(experience):
        usual = _choice(active.picker, state)
        beliefs.put_into(state, names)
        try:
            answers.append(_asked(candidate.picker, row, names, state, usual))
        except PickError as error:
            return Replay(tuple(answers), f"cannot decide in a stored state: {error}")
    return Replay(tuple(answers), "")


def _states(experience: Experience) -> Iterator[tuple[int, tuple[str, ...], RoutingState]]:
    packed = experience["state"]
    rows = np.flatnonzero([isinstance(one, bytes) and len(one) > 0 for one in packed])[-_MOST_STATES:]
    lists = [tuple(text.split(",")) for text in experience.names["experts"]]
    for batch in unpack_states([packed[row] for row in rows]).batches:
        for place, index in enumerate(batch.rows):
            row = int(rows[index])
            names = lists[experience["experts"][row]]
            state = RoutingState(*(array[place].copy() for array in batch.states))
            if len(names) == len(state.allowed) and state.allowed.any():
                yield row, names, state


class _Beliefs:
    """Puts a candidate's beliefs in place of those of whoever decided."""

    def __init__(self, experience: Experience, calibration: Calibration) -> None:
        self._experts = {expert.name: expert for expert in declared_experts(experience)}
        self._calibration = calibration
        predicted = experience["predicted_quality"].astype(np.float64)
        self._shift: dict[str, float] = {}
        for model, known in calibration.models.items():
            seen = predicted[(experience["model"] == experience.code("model", model)) & np.isfinite(predicted)]
            if known.quality is not None and len(seen):
                self._shift[model] = known.quality - float(seen.mean())

    def put_into(self, state: RoutingState, names: tuple[str, ...]) -> None:
        for e, name in enumerate(names):
            expert = self._experts.get(name)
            if expert is None:
                continue
            if self._knows(expert):
                state.expert["pace_ratio"][e] = 1.0
                for column, value in zip(COEFFICIENTS, believed_coefficients(expert, self._calibration), strict=True):
                    state.expert[column][e] = value
            quality = state.candidate["predicted_quality"][e] + self._shift.get(expert.model, 0.0)
            state.candidate["predicted_quality"][e] = min(max(quality, 0.0), 1.0)

    def _knows(self, expert: FleetExpert) -> bool:
        known = self._calibration
        return expert.name in known.experts or kind_of(expert.model, expert.gpu) in known.kinds


def _choice(picker: Picker, state: RoutingState) -> int | None:
    try:
        return picker.pick(state, 0.5).expert
    except PickError:
        return None


def _asked(picker: Picker, row: int, names: tuple[str, ...], state: RoutingState, usual: int | None) -> Answer:
    chance = np.zeros(len(names))
    for uniform in _UNIFORMS:
        pick = picker.pick(state, uniform)
        if pick.expert != DROP:
            chance[pick.expert] += 1.0 / len(_UNIFORMS)
        if not np.isfinite(pick.scores[state.allowed]).all():
            raise PickError(f"{picker.name}: a score is not finite")
    expected = state.candidate["predicted_quality"] * estimates(state)["slo_probability"]
    if not np.isfinite(expected[state.allowed]).all():
        raise PickError(f"{picker.name}: an expected QoS is not finite")
    agrees = chance[usual] > 0.0 if usual is not None and usual != DROP else usual == DROP and chance.sum() < 1.0
    return Answer(row, names, chance, np.asarray(expected, np.float64), bool(agrees))
