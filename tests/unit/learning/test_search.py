import json
from dataclasses import replace

import numpy as np
import pytest

from pointsman_policy.learning.scoring import CLASSICS, Scorer, Scores, mean_qos, scorer
from pointsman_policy.learning.search import SearchSettings, SearchState, advance, begin, found, tune
from pointsman_policy.learning.search_space import tunables
from pointsman_policy.learning.sources import MadeUp
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.simulator.randomisation import Distribution

SOURCE = MadeUp(Distribution(requests=150, experts=(2, 4)), 11)
SETTINGS = SearchSettings(seed=1, population=4, situations=3, validation_situations=6, validate_every=2)


def test_scores_are_taken_against_the_best_classic_rule_and_a_share_of_the_best_expert() -> None:
    parameters = np.array([PICKERS["ImpactGreedy"].parameters])
    scores = Scorer().score(SOURCE, [4], "ImpactGreedy", parameters)
    situation = SOURCE.situation(4)
    classic = max(mean_qos(situation, PICKERS[name], 4) for name in CLASSICS)
    assert scores.classic_qos == pytest.approx([classic])
    assert scores.scale == pytest.approx([max(classic, 0.25 * situation.quality.mean(axis=0).max())])
    assert scores.qos == pytest.approx(np.array([[mean_qos(situation, PICKERS["ImpactGreedy"], 4)]]))


def test_what_is_lacking_of_the_best_classic_rule_counts_twice() -> None:
    scores = Scores(np.array([[0.6, 0.4]]), np.array([0.5]), np.array([0.5]))
    assert scores.values() == pytest.approx(np.array([[1.2, 0.6]]))


def test_the_number_of_processes_does_not_matter() -> None:
    picker = PICKERS["SloFilteredQuality"]
    parameters = np.array([[0.5], [0.8], [1.1]])
    alone = Scorer().score(SOURCE, range(5), picker.name, parameters)
    with scorer(2) as several:
        together = several.score(SOURCE, range(5), picker.name, parameters)
    for one, two in zip(alone, together, strict=True):
        assert np.array_equal(one, two)


def test_a_search_that_was_interrupted_ends_where_another_one_does() -> None:
    tunable = tunables(PICKERS["ImpactGreedy"])[0]
    straight = begin(tunable, SOURCE, SETTINGS, Scorer())
    for _ in range(4):
        straight = advance(tunable, SOURCE, SETTINGS, Scorer(), straight)
    resumed = begin(tunable, SOURCE, SETTINGS, Scorer())
    for _ in range(4):
        resumed = SearchState.from_document(json.loads(json.dumps(resumed.to_document())))
        resumed = advance(tunable, SOURCE, SETTINGS, Scorer(), resumed)
    assert resumed.to_document() == straight.to_document()
    assert [row["generation"] for row in straight.history] == [1, 2, 3, 4]


def test_what_is_found_is_never_worse_than_the_start_on_the_validation_situations() -> None:
    tunable = tunables(PICKERS["WeightedScore"])[0]
    state = begin(tunable, SOURCE, SETTINGS, Scorer())
    assert found(tunable, state).parameters == pytest.approx(tunable.picker.parameters)
    for _ in range(4):
        state = advance(tunable, SOURCE, SETTINGS, Scorer(), state)
        assert state.best_score >= state.start_score


def test_tuning_mends_a_bad_parameter() -> None:
    bad = replace(PICKERS["SloFilteredQuality"], parameters=(0.3,))
    settings = replace(SETTINGS, population=6, situations=6)
    tuned = tune(bad, SOURCE, settings, Scorer(), 6)
    assert tuned.parameters[0] > 0.4
    assert tune(PICKERS["QualityFirst"], SOURCE, settings, Scorer(), 6) == PICKERS["QualityFirst"]


@pytest.mark.parametrize("wrong", [{"population": 1}, {"situations": 0}, {"validate_every": 0}])
def test_settings_that_cannot_search_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least two"):
        SearchSettings(**wrong)
