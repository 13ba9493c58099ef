from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tests.unit.prediction.conftest import CHANCE, MODELS, TOKENS, Answers, draw, fit

from pointsman_policy.prediction.fitted import FittedPredictor
from pointsman_policy.prediction.fitting import PredictorFit, fit_predictor
from pointsman_policy.prediction.predictor import Prediction, Predictor
from pointsman_policy.prediction.stored import read_predictor, write_predictor

SUM, CODE = (next(prompt for prompt in draw(20, 99).prompts if mark in prompt) for mark in ("Add ", "def "))


def kind_means(predictor: FittedPredictor, kind: str) -> Prediction:
    """The mean prediction over unseen prompts of a kind."""
    unseen = draw(200, 98)
    prompts = [prompt for prompt, one in zip(unseen.prompts, unseen.kinds, strict=True) if one == kind]
    return Prediction(*(values.mean(axis=0) for values in predictor.predict_all(prompts)))


def test_predictions_are_each_kinds_chances_and_mean_lengths(fitted: PredictorFit) -> None:
    predictor: Predictor = fitted.predictor
    assert predictor.models == MODELS
    for kind in CHANCE:
        prediction = kind_means(fitted.predictor, kind)
        np.testing.assert_allclose(prediction.quality, CHANCE[kind], atol=0.12)
        np.testing.assert_allclose(prediction.output_tokens, TOKENS[kind], rtol=0.2)


def test_unseen_prompts_are_predicted_better_than_by_means(fitted: PredictorFit) -> None:
    seen, unseen = draw(600, 1), draw(600, 2)
    prediction = fitted.predictor.predict_all(unseen.prompts)
    for predicted, truth, mean in (
        (prediction.quality, unseen.score, seen.score.mean(axis=0)),
        (prediction.output_tokens, unseen.tokens, seen.tokens.mean(axis=0)),
    ):
        explained = 1 - ((truth - predicted) ** 2).sum(axis=0) / ((truth - mean) ** 2).sum(axis=0)
        assert (explained > [0.03, 0.02, 0.1]).all(), explained
    assert prediction.output_tokens.mean(axis=0) == pytest.approx(unseen.tokens.mean(axis=0), rel=0.1)


def test_a_batch_equals_its_single_prompts(fitted: PredictorFit) -> None:
    prompts = [*draw(30, 3).prompts, ""]
    together = fitted.predictor.predict_all(prompts)
    for row, prompt in enumerate(prompts):
        alone = fitted.predictor.predict(prompt, 1)
        np.testing.assert_allclose(together.quality[row], alone.quality, atol=1e-5)
        np.testing.assert_allclose(together.output_tokens[row], alone.output_tokens, rtol=1e-4)


def test_an_unknown_prompt_gets_the_means(fitted: PredictorFit) -> None:
    prediction = fitted.predictor.predict("", 500)
    np.testing.assert_allclose(prediction.quality, draw(600, 1).score.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(prediction.output_tokens, draw(600, 1).tokens.mean(axis=0), rtol=0.02)


def test_the_fit_says_what_it_rests_on(fitted: PredictorFit) -> None:
    for one in fitted.predictor.fits:
        assert (one.quality.rows, one.length.rows) == (600, 600)
        assert (one.quality.status, one.length.status) == ("fitted", "fitted")
        assert 0.3 < one.log_length_deviation < 0.5
    coder = fitted.predictor.fits[MODELS.index("coder")]
    assert 0.05 < coder.quality.explained < 0.3
    assert coder.length.explained > 0.3


def test_no_prompts_own_answers_are_in_its_out_of_fold_predictions() -> None:
    answers = draw(300, 4)
    noise = np.random.default_rng(5).permutation(len(answers.prompts))
    shuffled = answers._replace(score=answers.score[noise], tokens=answers.tokens[noise])
    out_of_fold = fit(shuffled).out_of_fold
    for predicted, truth in zip(out_of_fold, (shuffled.score, shuffled.tokens), strict=True):
        error = ((truth - predicted) ** 2).sum(axis=0)
        constant = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
        assert (error > 0.99 * constant).all()


def test_without_skill_every_prompt_gets_the_means() -> None:
    answers = draw(300, 4)
    noise = np.random.default_rng(5).permutation(len(answers.prompts))
    predictor = fit(answers._replace(score=answers.score[noise], tokens=answers.tokens[noise])).predictor
    assert {one.quality.status for one in predictor.fits} == {"mean"}
    np.testing.assert_allclose(predictor.predict(SUM, 1).quality, predictor.predict(CODE, 1).quality, atol=1e-6)


def test_the_same_seed_gives_the_same_predictor(fitted: PredictorFit) -> None:
    again = fit(draw(600, 1))
    np.testing.assert_array_equal(again.predictor.weights.matrix, fitted.predictor.weights.matrix)


def test_a_model_without_answers_starts_at_the_prior_and_says_so() -> None:
    answers = draw(300, 6)
    score, tokens = (np.column_stack([values, np.full(300, np.nan)]) for values in (answers.score, answers.tokens))
    predictor = fit(answers._replace(score=score, tokens=tokens), (*MODELS, "new")).predictor
    new = predictor.fits[-1]
    assert (new.quality.rows, new.quality.status, new.length.status) == (0, "prior", "prior")
    for prompt in (SUM, CODE, ""):
        prediction = predictor.predict(prompt, 1)
        assert (prediction.quality[-1], prediction.output_tokens[-1]) == (0.5, 256)
    assert predictor.fits[0].quality.status == "fitted"


def test_scores_without_lengths_are_enough_for_quality() -> None:
    answers = draw(300, 6)
    predictor = fit(answers._replace(tokens=np.full((300, 3), np.nan))).predictor
    assert {one.length.status for one in predictor.fits} == {"prior"}
    assert {one.quality.status for one in predictor.fits} == {"fitted"}
    np.testing.assert_array_equal(predictor.predict(CODE, 1).output_tokens, [256, 256, 256])


def test_outcomes_of_one_model_a_prompt_are_enough() -> None:
    answers = draw(1_500, 7)
    chosen = np.random.default_rng(8).integers(3, size=1_500)
    missing = np.arange(3) != chosen[:, None]
    seen = answers._replace(
        score=np.where(missing, np.nan, answers.score), tokens=np.where(missing, np.nan, answers.tokens)
    )
    predictor = fit(seen).predictor
    assert sum(one.quality.rows for one in predictor.fits) == 1_500
    code, plain = kind_means(predictor, "code"), kind_means(predictor, "sum")
    assert code.quality[2] > plain.quality[2] + 0.15
    np.testing.assert_allclose(code.output_tokens, TOKENS["code"], rtol=0.3)


@pytest.mark.parametrize("count", [1, 2, 10, 45])
def test_few_answers_give_means_at_least(count: int) -> None:
    predictor = fit(draw(count, 9)).predictor
    prediction = predictor.predict(CODE, 1)
    assert np.isfinite(prediction.quality).all()
    assert (prediction.output_tokens >= 1).all()


def test_of_very_many_prompts_some_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointsman_policy.prediction.fitting._MOST_PROMPTS", 100)
    result = fit(draw(150, 1))
    assert len(result.rows) == len(set(result.rows)) == 100
    assert result.predictor.fits[0].quality.rows == 100
    assert result.out_of_fold.quality.shape == (100, 3)


class CodeEncoder:
    """What a sentence encoder looks like to the predictor; this one knows of code only."""

    name = "code-marks"
    version = 3
    dimension = 2

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.array([(float("def " in text), len(text) / 1_000) for text in texts], np.float32)


def test_another_encoder_can_be_plugged_in(tmp_path: Path) -> None:
    answers: Answers = draw(400, 10)
    encoder = CodeEncoder()
    rng = np.random.default_rng(0)
    result = fit_predictor(MODELS, answers.prompts, answers.score, answers.tokens, encoder, rng)
    write_predictor(tmp_path, result.predictor, {})
    read = read_predictor(tmp_path, encoder)
    for prompt, kind in ((SUM, "sum"), (CODE, "code")):
        np.testing.assert_allclose(kind_means(read, kind).quality, CHANCE[kind], atol=0.12)
        np.testing.assert_array_equal(read.predict(prompt, 1).quality, result.predictor.predict(prompt, 1).quality)
