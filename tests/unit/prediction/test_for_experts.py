from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from pointsman_policy.experts import Expert
from pointsman_policy.prediction.fitted import Fit, FittedPredictor, ModelFit, Weights
from pointsman_policy.prediction.for_experts import ExpertPredictor, Means, with_fitted_means
from pointsman_policy.prediction.prior import PriorPredictor


class Length:
    """One feature: the text's length; a text that says so breaks it."""

    name = "length"
    version = 1
    dimension = 1

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        if "break" in texts[0]:
            raise RuntimeError("broken")
        return np.array([[len(text)] for text in texts], np.float32)


def predictor() -> FittedPredictor:
    """Quality 0.01 and 0.02 a character; 100 tokens, and no lengths for the second model; nothing for the third."""
    nothing = Fit(0, 0.5)
    fits = [
        ModelFit("Meta-Llama-3.1-8B-Instruct", Fit(9, 0.4, 1.0), Fit(9, 100.0), 0.3),
        ModelFit("gemma-2-9b-it", Fit(9, 0.7, 1.0), Fit(0, 256.0), 0.0),
        ModelFit("new", nothing, Fit(0, 256.0), 0.0),
    ]
    matrix = np.zeros((6, 1), np.float32)
    matrix[:2, 0] = 0.01, 0.02
    return FittedPredictor(
        Length(),
        fits,
        Weights(
            matrix=matrix,
            offset=np.array([0, 0, 0.5, 0, 0, 0], np.float32),
            log_length_bounds=np.zeros((2, 3), np.float32),
            length_intercept=np.array([100, 256, 256], np.float32),
            length_slope=np.zeros(3, np.float32),
        ),
    )


def for_experts(means: Mapping[str, Means] | None = None) -> ExpertPredictor:
    models = ("other", "gemma-2-9b", "Llama-3.1-8B", "new", "gemma-2-9b")
    prior = PriorPredictor(models, (0.1, 0.2, 0.3, 0.4, 0.5), (11, 12, 13, 14, 15))
    return ExpertPredictor(predictor(), prior, means)


def test_models_are_found_by_architecture_and_the_rest_stays_at_its_prior() -> None:
    prediction = for_experts().predict("x" * 20, 5)
    np.testing.assert_allclose(prediction.quality, [0.1, 0.4, 0.2, 0.4, 0.4])
    np.testing.assert_allclose(prediction.output_tokens, [11, 12, 100, 14, 15])


def test_predictions_are_moved_to_what_answers_have_been_like_since_the_fit() -> None:
    means = {"gemma-2-9b": Means(0.5, None), "Llama-3.1-8B": Means(None, 150.0), "other": Means(0.9, 90.0)}
    prediction = for_experts(means).predict("x" * 20, 5)
    np.testing.assert_allclose(prediction.quality, [0.1, 0.2, 0.2, 0.4, 0.2], rtol=1e-6)
    np.testing.assert_allclose(prediction.output_tokens, [11, 12, 150, 14, 15], rtol=1e-6)
    far = {"gemma-2-9b": Means(0.0, None)}
    assert for_experts(far).predict("x" * 20, 5).quality[1] == 0.0


def test_it_says_which_models_are_at_their_priors() -> None:
    assert for_experts().at_prior == ("other", "gemma-2-9b", "new")


def test_a_failing_encoder_leaves_everything_at_its_prior(caplog: pytest.LogCaptureFixture) -> None:
    one = for_experts()
    for _ in range(3):
        np.testing.assert_allclose(one.predict("break", 1).quality, [0.1, 0.2, 0.3, 0.4, 0.5])
    assert [record.message for record in caplog.records] == [
        "The predictor's encoder failed; using priors wherever it does"
    ]
    assert one.predict("x" * 20, 5).quality[2] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("model", "expected"),
    [("Llama-3.1-8B", (40, 100)), ("gemma-2-9b-it", (70, 33)), ("new", (22, 33)), ("other", (22, 33))],
)
def test_an_experts_priors_become_its_models_means(model: str, expected: tuple[int, int]) -> None:
    expert = Expert(name="a", endpoint="10.0.0.1:1", model=model, quality_prior_percent=22, output_tokens_prior=33)
    adjusted = with_fitted_means(expert, predictor())
    assert (adjusted.quality_prior_percent, adjusted.output_tokens_prior) == expected
    assert adjusted.name == "a"


def test_weights_must_fit_models_and_encoder() -> None:
    one = predictor()
    with pytest.raises(ValueError, match="fit neither"):
        FittedPredictor(one.encoder, one.fits[:2], one.weights)
