"""The agent `impact-greedy`: ImpactGreedy's parameters by a search in the simulator.

Its two tables, for requests that must be served and for those that may be shed, are searched in turn; a round is a
generation of one of them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pointsman_policy.learning.scoring import Scorer, scorer
from pointsman_policy.learning.search import SearchSettings, SearchState, advance, all_found, begin
from pointsman_policy.learning.search_space import ALL_ADMISSIONS, Tunable, tunables
from pointsman_policy.learning.sources import Source, training_source
from pointsman_policy.learning.training import TrainingRun
from pointsman_policy.pickers import impact_greedy
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.pickers.trained import impact_greedy_policy
from pointsman_policy.runtime.exported import write_exported_policy
from pointsman_policy.simulator.randomisation import Distribution

REQUESTS = 1_200
"""In one situation."""
_TEST_FROM = 2_000_000_000
"""Index of the first situation of the final test; neither training nor validation gets there."""
_TEST_SITUATIONS = 32


class ImpactGreedySearch:
    """Evolution search over both tables."""

    name = "impact-greedy"
    summary = "ImpactGreedy's parameters by evolution search"

    def __init__(self, settings: SearchSettings | None = None, distribution: Distribution | None = None) -> None:
        self._settings = settings
        self._distribution = distribution or Distribution(requests=REQUESTS)

    def train(self, run: TrainingRun) -> Path:
        """Search until the run is over and return the folder of the exported policy."""
        settings = self._settings or SearchSettings(seed=run.plan.seed)
        source = training_source(run.plan.scenarios, self._distribution, run.plan.seed)
        parts = tunables(impact_greedy.PICKER)
        with scorer(run.plan.processes) as work:
            states, rounds = self._resumed(run) or ([begin(part, source, settings, work) for part in parts], 0)
            run.save(_document(states))
            while not run.is_over:
                number = rounds % len(parts)
                states[number] = advance(parts[number], source, settings, work, states[number])
                rounds += 1
                run.record(rounds, _figures(parts[number], states[number]), _line(parts, states))
                run.save(_document(states))
            picker = all_found(impact_greedy.PICKER, list(zip(parts, states, strict=True)))
            scores = compare(impact_greedy.PICKER, picker, source, work)
        return export(picker, scores, run)

    def _resumed(self, run: TrainingRun) -> tuple[list[SearchState], int] | None:
        if run.checkpoint is None:
            return None
        states = [SearchState.from_document(document) for document in run.checkpoint.state["searches"]]
        return states, run.checkpoint.rounds


def _document(states: Sequence[SearchState]) -> dict[str, object]:
    return {"searches": [state.to_document() for state in states]}


def _figures(part: Tunable, state: SearchState) -> dict[str, float]:
    return {f"{part.name}/{name}": value for name, value in state.history[-1].items() if name != "generation"}


def _line(parts: Sequence[Tunable], states: Sequence[SearchState]) -> str:
    gains = zip(parts, states, strict=True)
    return ", ".join(f"{part.name} {100 * (state.best_score / state.start_score - 1):+.1f} %" for part, state in gains)


def compare(start: Picker, picker: Picker, source: Source, work: Scorer) -> dict[str, float]:
    """Return mean QoS on test situations by admission and rule: the found parameters, the start, the best classic rule.

    Args:
        start: The picker before.
        picker: The picker after.
        source: Gives the situations; those of the test come from nowhere else.
        work: Runs them.
    """
    parameters = np.array([picker.parameters, start.parameters])
    scores: dict[str, float] = {}
    for mode in ALL_ADMISSIONS:
        indices = range(_TEST_FROM, _TEST_FROM + _TEST_SITUATIONS)
        reached = work.score(source.admitting((mode,)), indices, picker.name, parameters)
        scores[f"{mode}/mean_qos"] = float(reached.qos[:, 0].mean())
        scores[f"{mode}/mean_qos_before"] = float(reached.qos[:, 1].mean())
        scores[f"{mode}/mean_qos_of_best_classic"] = float(reached.classic_qos.mean())
    return scores


def export(picker: Picker, scores: Mapping[str, float], run: TrainingRun) -> Path:
    """Write the policy and return its folder."""
    folder = run.plan.folder / "policy"
    write_exported_policy(folder, impact_greedy_policy(picker, run.description(), scores))
    return folder


AGENTS = (ImpactGreedySearch(),)
