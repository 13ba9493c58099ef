"""Tuning on the twin: ImpactGreedy's tables by search, then the network of HanActor on what becomes of requests.

A search fits the situations that it meets, and those to come are not quite the same; so what it finds is taken half way
back to the packaged tables, and the network goes on seeing made-up fleets beside its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pointsman_policy.learning.outcome_model import Collection, OutcomeModel, collect
from pointsman_policy.learning.scoring import Scorer
from pointsman_policy.learning.search import SearchSettings, SearchState, advance, all_found, begin
from pointsman_policy.learning.search_space import Tunable, tunables
from pointsman_policy.learning.sources import MadeUp, Mixed
from pointsman_policy.learning.training import TrainingRun
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.pickers.trained import as_picker, impact_greedy_policy
from pointsman_policy.runtime.exported import ExportedPolicy
from pointsman_policy.simulator.randomisation import Distribution
from pointsman_policy.twin.twin import Twin

_SEARCH_UNTIL = 0.5
"""Share of the budget at which the network's turn comes."""
_RATE = 3e-4
_REQUESTS = 600
"""In one situation."""
_SITUATIONS = 6
"""In a round of collecting decisions."""
_COLLECTED_FROM = 3_000_000_000
"""Index of the first situation for collecting; no search gets there."""
_COLLECTING, _ORDER = 1, 2
_SETTINGS = SearchSettings(population=10, situations=10, validation_situations=20, step=0.08)


@dataclass(frozen=True)
class Start:
    """Where tuning starts."""

    rule: ExportedPolicy
    """An ImpactGreedy."""
    network: ExportedPolicy
    """A HanActor with tables."""


@dataclass
class _Progress:
    searches: list[SearchState]
    model: OutcomeModel
    learned: int = 0
    """Rounds of the network."""


class Tuning:
    """Tunes policies on a twin.

    Args:
        start: Where to start.
        twin: Gives the situations, with the beliefs that the policies will have.
        settings: Of the search.
    """

    def __init__(self, start: Start, twin: Twin, settings: SearchSettings = _SETTINGS) -> None:
        self._start = start
        self._rule = as_picker(start.rule)
        self._twin = replace(twin, requests=_REQUESTS)
        self._settings = settings
        self._parts = _parts(self._rule, twin.traffic.admission)

    def run(self, run: TrainingRun, work: Scorer) -> tuple[ExportedPolicy, ExportedPolicy]:
        """Tune until the run is over and return both policies: the rule and the one with a network.

        Args:
            run: Its budget and its checkpoints.
            work: Runs the search's situations; the result does not depend on where.
        """
        settings = replace(self._settings, seed=run.plan.seed)
        made_up = MadeUp(Distribution(requests=self._twin.requests), run.plan.seed)
        source = Mixed((self._twin, made_up))
        progress, rounds = self._begun(run, settings, work)
        while not run.is_over:
            if run.share < _SEARCH_UNTIL:
                line = self._search(progress, rounds, settings, work)
            else:
                line = self._learn(progress, run, source)
            rounds += 1
            run.record(rounds, {}, line)
            run.save(_document(progress), progress.model.arrays())
        return self._found(progress, run), self._learned(progress, run)

    def _begun(self, run: TrainingRun, settings: SearchSettings, work: Scorer) -> tuple[_Progress, int]:
        size = self._start.network.size
        if size is None:
            raise ValueError("tuning starts from a HanActor, which has a network")
        model = OutcomeModel(size, run.plan.seed)
        model.network.load_state_dict({name: torch.tensor(one) for name, one in self._start.network.weights.items()})
        if run.checkpoint is None:
            return _Progress([begin(part, self._twin, settings, work) for part in self._parts], model), 0
        state = run.checkpoint.state
        model.restore(run.checkpoint.arrays)
        searches = [SearchState.from_document(document) for document in state["searches"]]
        return _Progress(searches, model, state["learned"]), run.checkpoint.rounds

    def _search(self, progress: _Progress, rounds: int, settings: SearchSettings, work: Scorer) -> str:
        number = rounds % len(self._parts)
        state = advance(self._parts[number], self._twin, settings, work, progress.searches[number])
        progress.searches[number] = state
        gain = state.best_score / state.start_score - 1.0 if state.start_score > 0.0 else 0.0
        return f"search for {self._parts[number].name} tables: {gain:+.1%}"

    def _learn(self, progress: _Progress, run: TrainingRun, source: Mixed) -> str:
        number, seed = progress.learned, run.plan.seed
        first = _COLLECTED_FROM + number * _SITUATIONS
        picker = as_picker(replace(self._start.network, weights=progress.model.network.weights()))
        rng = np.random.default_rng([seed, number, _COLLECTING])
        groups = collect(source, range(first, first + _SITUATIONS), picker, Collection(), rng)
        loss, analytic = progress.model.losses(groups)
        progress.model.fit(groups, np.random.default_rng([seed, number, _ORDER]), _RATE)
        progress.learned += 1
        return f"loss on new outcomes {loss:.3f}, analytic {analytic:.3f}"

    def _found(self, progress: _Progress, run: TrainingRun) -> ExportedPolicy:
        found = all_found(self._rule, list(zip(self._parts, progress.searches, strict=True)))
        halfway = 0.5 * (np.array(found.parameters) + np.array(self._rule.parameters))
        picker: Picker = replace(self._rule, parameters=tuple(halfway.tolist()))
        return impact_greedy_policy(picker, _description(run))

    def _learned(self, progress: _Progress, run: TrainingRun) -> ExportedPolicy:
        weights = progress.model.network.weights()
        return replace(self._start.network, weights=weights, training=_description(run), scores={}, digest="")


def _parts(rule: Picker, admission: str) -> tuple[Tunable, ...]:
    """Return the searches for the tables that such requests go by."""
    must_serve, may_drop = tunables(rule)
    if admission == "Never":
        return (must_serve,)
    return (may_drop,) if admission == "ShedHopeless" else (must_serve, may_drop)


def _document(progress: _Progress) -> Mapping[str, Any]:
    return {"searches": [state.to_document() for state in progress.searches], "learned": progress.learned}


def _description(run: TrainingRun) -> dict[str, str]:
    return {"data": "a twin of observed outcomes", "seed": str(run.plan.seed)}
