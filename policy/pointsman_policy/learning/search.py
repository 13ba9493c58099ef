"""Search over a picker's parameters in the simulator.

Each generation of an evolution strategy meets fresh situations, all of its candidates the same ones. Now and then the
strategy's mean is compared with the best parameters so far on a fixed set of other situations, and takes their place if
it is better there. Differences within a situation count up to a bound, so that no single one decides.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pointsman_policy.learning.evolution import Evolution
from pointsman_policy.learning.scoring import Scorer
from pointsman_policy.learning.search_space import Tunable, tunables
from pointsman_policy.learning.sources import Source
from pointsman_policy.pickers.picker import Picker

Floats = npt.NDArray[np.float64]

_VALIDATION_FROM = 1_000_000_000
"""Index of the first situation for validation; training never gets there."""
_MOST_IN_ONE = 0.25
"""Difference of scores that one situation counts for at most."""


@dataclass(frozen=True)
class SearchSettings:
    """How thoroughly to search."""

    seed: int = 0
    population: int = 12
    """Candidates in a generation."""
    situations: int = 28
    """In a generation."""
    validation_situations: int = 48
    validate_every: int = 4
    """Generations."""
    step: float = 0.12
    """First step size, as a share of each parameter's range."""

    def __post_init__(self) -> None:
        if min(self.population - 1, self.situations, self.validation_situations, self.validate_every) < 1:
            raise ValueError("a search needs at least two candidates, and one situation and generation")


@dataclass(frozen=True, eq=False)
class SearchState:
    """Where a search is; all that is needed to go on with it."""

    evolution: Evolution
    best: Floats
    """Coordinates of the best parameters so far, [d]."""
    best_values: Floats
    """Their score in each of the validation situations, [V]."""
    start_score: float
    """Mean score of the start there."""
    history: tuple[dict[str, float], ...] = ()
    """A row for each generation."""

    @property
    def best_score(self) -> float:
        """Mean score of the best parameters on the validation situations."""
        return float(self.best_values.mean())

    def to_document(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        evolution = {name: _plain(value) for name, value in vars(self.evolution).items()}
        best = {"best": self.best.tolist(), "best_values": self.best_values.tolist()}
        return {"evolution": evolution, **best, "start_score": self.start_score, "history": list(self.history)}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "SearchState":
        """Return the state that `to_document` gave.

        Raises:
            KeyError, TypeError: If it is not one.
        """
        fields: dict[str, Any] = {
            name: np.array(value) if isinstance(value, list) else value for name, value in document["evolution"].items()
        }
        return cls(
            Evolution(**fields),
            np.array(document["best"], np.float64),
            np.array(document["best_values"], np.float64),
            float(document["start_score"]),
            tuple(document["history"]),
        )


def _plain(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray) else value


def begin(tunable: Tunable, source: Source, settings: SearchSettings, scorer: Scorer) -> SearchState:
    """Return a search that has only seen its start."""
    start = tunable.space.encode(np.array(tunable.space.start))
    values = _validate(tunable, source, settings, scorer, start)
    return SearchState(Evolution.begin(start, settings.step, tunable.space.groups), start, values, float(values.mean()))


def advance(
    tunable: Tunable, source: Source, settings: SearchSettings, scorer: Scorer, state: SearchState
) -> SearchState:
    """Return the state after one more generation.

    It depends on the state before and the settings only, not on the time, nor on the number of processes.
    """
    generation = state.evolution.generation
    rng = np.random.default_rng([settings.seed, generation])
    candidates = state.evolution.sample(rng, settings.population)
    indices = range(generation * settings.situations, (generation + 1) * settings.situations)
    own, parameters = source.admitting(tunable.admissions), _parameters(tunable, candidates)
    values = scorer.score(own, indices, tunable.picker.name, parameters).values()
    usual = values.mean(axis=1, keepdims=True)
    state = replace(state, evolution=state.evolution.updated(candidates, _gain(values, usual)))
    row = {
        "generation": float(generation + 1),
        "mean_score": float(values.mean()),
        "top_score": float(values.mean(axis=0).max()),
        "step": state.evolution.step,
    }
    if (generation + 1) % settings.validate_every == 0:
        validated = _validate(tunable, source, settings, scorer, state.evolution.mean)
        if _gain(validated[:, None], state.best_values[:, None])[0] > 0.0:
            state = replace(state, best=state.evolution.mean, best_values=validated)
        row["validation_score"] = float(validated.mean())
    row["best_score"] = state.best_score
    return replace(state, history=(*state.history, row))


def _parameters(tunable: Tunable, coordinates: Floats) -> Floats:
    return np.array([tunable.parameters(tunable.space.decode(row)) for row in coordinates])


def _gain(values: Floats, others: Floats) -> Floats:
    """Return by how much scores, [S, P], are better than others, on average over S situations, [P]."""
    return np.asarray(np.clip(values - others, -_MOST_IN_ONE, _MOST_IN_ONE).mean(axis=0))


def _validate(
    tunable: Tunable, source: Source, settings: SearchSettings, scorer: Scorer, coordinates: Floats
) -> Floats:
    """Return the score of one set of parameters in each of the validation situations, [V]."""
    indices = range(_VALIDATION_FROM, _VALIDATION_FROM + settings.validation_situations)
    own, parameters = source.admitting(tunable.admissions), _parameters(tunable, coordinates[None])
    return scorer.score(own, indices, tunable.picker.name, parameters).values()[:, 0]


def found(tunable: Tunable, state: SearchState) -> Picker:
    """Return the picker with the best parameters that a search has found."""
    return tunable.with_values(tunable.space.decode(state.best))


def all_found(picker: Picker, searches: Sequence[tuple[Tunable, SearchState]]) -> Picker:
    """Return a picker with the best parameters that searches over parts of them have found, each on its own."""
    for tunable, state in searches:
        picker = found(tunable.on(picker), state)
    return picker


def tune(
    picker: Picker,
    source: Source,
    settings: SearchSettings,
    scorer: Scorer,
    count: int,
    searches: Callable[[Picker], tuple[Tunable, ...]] = tunables,
) -> Picker:
    """Tune a picker with a budget of generations, shared evenly by its searches; one without parameters stays as it is.

    Args:
        picker: Where to start.
        source: Gives the situations.
        settings: How thoroughly.
        scorer: Runs them.
        count: Generations in all.
        searches: Which parameters are searched, each part apart from the others.
    """
    parts = searches(picker)
    states = [begin(part, source, settings, scorer) for part in parts]
    for turn in range(count if parts else 0):
        number = turn % len(parts)
        states[number] = advance(parts[number], source, settings, scorer, states[number])
    return all_found(picker, list(zip(parts, states, strict=True)))
