"""The agent `han`: ImpactGreedy with a chance that a graph network learns from outcomes.

Three stages share the budget. First ImpactGreedy's tables, as they come with the package, are searched on. Then the
network learns what the analytic chance gets wrong, from outcomes of the policy as it is so far, with some exploration.
At last the tables are searched again with the network in place, together with the trust in it. What that finds is taken
half way back to the packaged tables: a search fits the situations that it meets, and real ones are of other kinds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pointsman_policy.learning.impact_greedy_search import REQUESTS, compare
from pointsman_policy.learning.outcome_model import Collection, OutcomeModel, collect
from pointsman_policy.learning.scoring import Scorer, scorer
from pointsman_policy.learning.search import SearchSettings, SearchState, advance, all_found, begin
from pointsman_policy.learning.search_space import Tunable, tunables
from pointsman_policy.learning.sources import Source, training_source
from pointsman_policy.learning.training import TrainingRun
from pointsman_policy.pickers import han_actor, impact_greedy
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.pickers.trained import han_actor_policy
from pointsman_policy.runtime.exported import write_exported_policy
from pointsman_policy.runtime.packing import pack_network
from pointsman_policy.runtime.size import NetworkSize
from pointsman_policy.simulator.randomisation import Distribution

_GREEDY_UNTIL, _LEARNING_UNTIL = 0.15, 0.55
"""Shares of the budget at which the second and the third stage begin."""
_FIRST_TRUSTS = (0.0, 0.5, 1.0)
"""Where the third stage may start."""
_TRUST_BOUNDS = (0.0, 1.25)
_FIRST_RATE, _LAST_RATE = 3e-3, 1e-4
_SITUATIONS = 32
"""In a round of collecting decisions."""
_COLLECTING, _ORDER = 1, 2
_COLLECTED_FROM = 3_000_000_000
"""Index of the first situation for collecting; no search gets there."""
_START = PICKERS[impact_greedy.PICKER.name]
_HEADER = 2
"""Parameters of HanActor before its tables."""


@dataclass
class _Progress:
    """Where a run is."""

    greedy: list[SearchState]
    model: OutcomeModel
    learning_rounds: int = 0
    refined: list[SearchState] | None = None
    trust: float = 0.0
    """Where the third stage started."""


class HanAgent:
    """The default learned policy.

    Args:
        settings: Of both searches; None = the defaults.
        distribution: Of made-up situations; None = the default.
        size: Of the network; None = the default.
        estimates: Whether the network sees the analytic estimates.
        name: Of this variant.
    """

    summary = "ImpactGreedy with a chance learned from outcomes by a graph network"

    def __init__(
        self,
        settings: SearchSettings | None = None,
        distribution: Distribution | None = None,
        size: NetworkSize | None = None,
        estimates: bool = True,
        name: str = "han",
    ) -> None:
        self.name = name
        self._estimates = estimates
        self._settings = settings
        self._distribution = distribution or Distribution(requests=REQUESTS)
        self._size = size or NetworkSize()

    def train(self, run: TrainingRun) -> Path:
        """Train until the run is over and return the folder of the exported policy."""
        settings = self._settings or SearchSettings(seed=run.plan.seed)
        source = training_source(run.plan.scenarios, self._distribution, run.plan.seed)
        with scorer(run.plan.processes) as work:
            progress, rounds = self._begun(run, settings, source, work)
            while not run.is_over:
                if run.share < _GREEDY_UNTIL:
                    figures, line = _search(_greedy_parts(), progress.greedy, rounds, source, settings, work)
                elif run.share < _LEARNING_UNTIL:
                    figures, line = self._learn(progress, run, source)
                else:
                    figures, line = self._refine(progress, rounds, source, settings, work)
                rounds += 1
                run.record(rounds, figures, line)
                run.save(_document(progress), progress.model.arrays())
            picker = self._refined(progress)
            scores = compare(_actor(_greedy(progress), progress.model, 0.0), picker, source, work)
        folder = run.plan.folder / "policy"
        policy = han_actor_policy(picker, self._size, progress.model.network.weights(), run.description(), scores)
        write_exported_policy(folder, policy)
        return folder

    def _begun(self, run: TrainingRun, settings: SearchSettings, source: Source, work: Scorer) -> tuple[_Progress, int]:
        model = OutcomeModel(self._size, run.plan.seed, self._estimates)
        if run.checkpoint is None:
            greedy = [begin(part, source, settings, work) for part in _greedy_parts()]
            return _Progress(greedy, model), 0
        state = run.checkpoint.state
        model.restore(run.checkpoint.arrays)
        greedy = [SearchState.from_document(document) for document in state["greedy"]]
        progress = _Progress(greedy, model, state["learning_rounds"], trust=state["trust"])
        if state["refined"] is not None:
            progress.refined = [SearchState.from_document(document) for document in state["refined"]]
        return progress, run.checkpoint.rounds

    def _learn(self, progress: _Progress, run: TrainingRun, source: Source) -> tuple[dict[str, float], str]:
        number = progress.learning_rounds
        first = _COLLECTED_FROM + number * _SITUATIONS
        picker = _actor(_greedy(progress), progress.model, 0.5 if number else 0.0)
        rng = np.random.default_rng([run.plan.seed, number, _COLLECTING])
        groups = collect(source, range(first, first + _SITUATIONS), picker, Collection(), rng)
        loss, analytic = progress.model.losses(groups)
        done = (run.share - _GREEDY_UNTIL) / (_LEARNING_UNTIL - _GREEDY_UNTIL)
        rate = _LAST_RATE + (_FIRST_RATE - _LAST_RATE) * 0.5 * (1.0 + math.cos(math.pi * min(max(done, 0.0), 1.0)))
        progress.model.fit(groups, np.random.default_rng([run.plan.seed, number, _ORDER]), rate)
        progress.learning_rounds += 1
        figures = {"outcomes/loss": loss, "outcomes/loss_of_analytic_chance": analytic}
        return figures, f"loss on new outcomes {loss:.3f}, analytic {analytic:.3f}"

    def _refine(
        self, progress: _Progress, rounds: int, source: Source, settings: SearchSettings, work: Scorer
    ) -> tuple[dict[str, float], str]:
        if progress.refined is None:
            progress.trust, progress.refined = _started(progress, source, settings, work)
        parts = han_tunables(_actor(_greedy(progress), progress.model, progress.trust))
        return _search(parts, progress.refined, rounds, source, settings, work)

    def _refined(self, progress: _Progress) -> Picker:
        start = _actor(_greedy(progress), progress.model, progress.trust)
        if progress.refined is None:
            return start
        found = all_found(start, list(zip(han_tunables(start), progress.refined, strict=True)))
        return _halfway(found, _actor(_START, progress.model, progress.trust))


def _halfway(picker: Picker, other: Picker) -> Picker:
    """Return a picker with the means of both one's parameters; their networks are the same."""
    parameters = 0.5 * (np.array(picker.parameters) + np.array(other.parameters))
    return replace(picker, parameters=tuple(parameters.tolist()))


def _started(
    progress: _Progress, source: Source, settings: SearchSettings, work: Scorer
) -> tuple[float, list[SearchState]]:
    """Return the best of the first trusts, and searches that start there."""
    best: tuple[float, float, list[SearchState]] | None = None
    for trust in _FIRST_TRUSTS:
        parts = han_tunables(_actor(_greedy(progress), progress.model, trust))
        states = [begin(part, source, settings, work) for part in parts]
        score = sum(state.start_score for state in states)
        if best is None or score > best[0]:
            best = score, trust, states
    assert best is not None  # noqa: S101
    return best[1], best[2]


def _search(
    parts: tuple[Tunable, ...],
    states: list[SearchState],
    rounds: int,
    source: Source,
    settings: SearchSettings,
    work: Scorer,
) -> tuple[dict[str, float], str]:
    """Carry one of several searches on by a generation, in its place."""
    number = rounds % len(parts)
    part = parts[number]
    states[number] = advance(part, source, settings, work, states[number])
    figures = {
        f"{part.picker.name} {part.name}/{name}": value
        for name, value in states[number].history[-1].items()
        if name != "generation"
    }
    gains = (
        f"{part.name} {100 * (state.best_score / state.start_score - 1):+.1f} %"
        for part, state in zip(parts, states, strict=True)
    )
    return figures, f"{part.picker.name}: {', '.join(gains)}"


def _greedy_parts() -> tuple[Tunable, ...]:
    return tunables(_START)


def _greedy(progress: _Progress) -> Picker:
    return all_found(_START, list(zip(_greedy_parts(), progress.greedy, strict=True)))


def _actor(greedy: Picker, model: OutcomeModel, trust: float) -> Picker:
    network = pack_network(model.network.weights(), model.network.size)
    return han_actor.han_actor(network, greedy.parameters, trust)


def han_tunables(picker: Picker) -> tuple[Tunable, ...]:
    """Return the searches over a HanActor's tables: ImpactGreedy's parameters, and the trust in the network.

    Args:
        picker: A HanActor with tables.
    """
    width = len(han_actor.COLUMNS)
    tables = np.array(picker.parameters[_HEADER : _HEADER + int(picker.parameters[1])]).reshape(-1, width)
    greedy = replace(impact_greedy.PICKER, parameters=tuple(tables[:, : width - 1].ravel().tolist()))
    return tuple(_with_trust(part, picker, tables, number) for number, part in enumerate(tunables(greedy)))


def _with_trust(part: Tunable, picker: Picker, tables: np.ndarray[Any, Any], number: int) -> Tunable:
    width, rows = tables.shape[1], len(tables) // 2
    own = range(number * rows, (number + 1) * rows)
    moved = tuple(
        tuple(_HEADER + place // (width - 1) * width + place % (width - 1) for place in places)
        for places in part.positions
    )
    space = part.space
    trusted = replace(
        space,
        names=(*space.names, *(f"trust@{tables[row, 0]:g}" for row in own)),
        low=(*space.low, *(_TRUST_BOUNDS[0] for _ in own)),
        high=(*space.high, *(_TRUST_BOUNDS[1] for _ in own)),
        start=(*space.start, *(float(tables[row, -1]) for row in own)),
        logarithmic=(*space.logarithmic, *(False for _ in own)),
    )
    places = tuple((_HEADER + row * width + width - 1,) for row in own)
    return replace(part, picker=picker, space=trusted, positions=moved + places)


def _document(progress: _Progress) -> Mapping[str, Any]:
    return {
        "greedy": [state.to_document() for state in progress.greedy],
        "refined": None if progress.refined is None else [state.to_document() for state in progress.refined],
        "learning_rounds": progress.learning_rounds,
        "trust": progress.trust,
    }


AGENTS = (
    HanAgent(),
    HanAgent(size=NetworkSize(graph=False), name="han-without-graph"),
    HanAgent(estimates=False, name="han-without-estimates"),
)
"""The agent, and it without one of its parts: ablations."""
