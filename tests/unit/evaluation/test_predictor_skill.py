import dataclasses
import math

import numpy as np
import pytest

from pointsman_policy.evaluation.predictor_skill import (
    ModelSkill,
    auc,
    calibration_error,
    mean_skill,
    measure_skill,
    rank_correlation,
)
from pointsman_policy.prediction.fitting import fit_predictor
from pointsman_policy.prediction.hashed_ngrams import HashedNgrams
from pointsman_policy.simulator.sample import prompts_path, scores_path
from pointsman_policy.simulator.tables import ScoreTable, read_score_table


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (floats(1, 2, 3, 4), floats(10, 20, 30, 1_000), 1.0),
        (floats(1, 2, 3, 4), floats(4, 3, 2, 1), -1.0),
        (floats(1, 1, 2, 2), floats(1, 2, 3, 4), 0.8944),
        (floats(1, 1, 1), floats(1, 2, 3), 0.0),
    ],
)
def test_rank_correlation_is_spearmans(one: np.ndarray, other: np.ndarray, expected: float) -> None:
    assert rank_correlation(one, other) == pytest.approx(expected, abs=1e-4)


def test_auc_is_the_chance_that_the_right_answer_ranks_higher() -> None:
    assert auc(floats(0.1, 0.4, 0.35, 0.8), floats(0, 0, 1, 1)) == 0.75
    assert auc(floats(0.5, 0.5), floats(0, 1)) == 0.5
    assert math.isnan(auc(floats(0.1, 0.2), floats(1, 1)))
    assert math.isnan(auc(floats(0.1, 0.2), floats(0.3, 1)))


def test_calibration_error_is_the_mean_distance_of_the_bins() -> None:
    assert calibration_error(np.full(10, 0.7), floats(1, 1, 1, 1, 1, 0, 0, 0, 0, 0)) == pytest.approx(0.2)
    predicted = np.repeat([0.2, 0.8], 50)
    assert calibration_error(predicted, predicted) == 0
    assert calibration_error(predicted, np.repeat([0.3, 0.7], 50)) == pytest.approx(0.1)


def measured(table: ScoreTable) -> tuple[ModelSkill, ...]:
    fit_rows, unseen_rows = table.split(np.random.default_rng(0), 0.5)
    fitted, unseen = table.take(fit_rows), table.take(unseen_rows)
    rng = np.random.default_rng(0)
    fit = fit_predictor(table.models, fitted.prompts or (), fitted.score, fitted.out_tokens, HashedNgrams(), rng)
    return measure_skill(fit.predictor, fitted, unseen)


def test_the_samples_answers_are_predicted_better_than_by_means() -> None:
    for one in measured(read_score_table(scores_path(), prompts_path())):
        assert one.quality is not None
        assert one.length is not None
        assert one.quality.rows == one.length.rows == 200
        assert one.quality.error < 1
        assert one.quality.rank_correlation > 0.2
        assert one.length.error < 1
        assert one.length.log_error < one.length.mean_log_error
        assert one.length.bias == pytest.approx(1, abs=0.15)


def test_a_model_without_truth_is_left_out() -> None:
    table = read_score_table(scores_path(), prompts_path())
    score, tokens = table.score.copy(), table.out_tokens.copy()
    score[:, 0], tokens[:] = np.nan, np.nan
    first, *others = measured(dataclasses.replace(table, score=score, out_tokens=tokens))
    assert first == ModelSkill(table.models[0], None, None)
    assert all(one.quality is not None and one.length is None for one in others)
    assert 0 < mean_skill([one.quality for one in others if one.quality], "rank_correlation") < 1
    assert math.isnan(mean_skill([], "rank_correlation"))
