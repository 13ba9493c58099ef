import numpy as np
import pytest

from pointsman_policy.prediction.predictor import Predictor
from pointsman_policy.prediction.prior import PriorPredictor


def test_every_prompt_gets_the_models_constants() -> None:
    predictor: Predictor = PriorPredictor(("a", "b"), (0.4, 0.8), (100, 300))
    prediction = predictor.predict("anything", 3)
    assert predictor.models == ("a", "b")
    np.testing.assert_array_equal(prediction.quality, np.array([0.4, 0.8], np.float32))
    np.testing.assert_array_equal(prediction.output_tokens, np.array([100, 300], np.float32))


def test_a_caller_cannot_change_the_constants() -> None:
    predictor = PriorPredictor(("a",), (0.4,), (100,))
    with pytest.raises(ValueError, match="read-only"):
        predictor.predict("", 0).quality[0] = 1


def test_constants_are_given_for_each_model() -> None:
    with pytest.raises(ValueError, match="same length"):
        PriorPredictor(("a", "b"), (0.4,), (100, 200))
