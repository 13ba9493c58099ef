"""The predictor that knows each model's mean and nothing of the prompt."""

from collections.abc import Sequence

import numpy as np

from pointsman_policy.prediction.predictor import Prediction


class PriorPredictor:
    """Returns the same constants for every prompt: a good start, and the baseline that a learned predictor must beat.

    Args:
        models: The models, in the order of the other arguments.
        quality: Expected quality on each, 0 to 1.
        output_tokens: Expected answer length of each, tokens.
    """

    def __init__(self, models: Sequence[str], quality: Sequence[float], output_tokens: Sequence[float]) -> None:
        if not len(models) == len(quality) == len(output_tokens):
            raise ValueError("models, quality and output_tokens must have the same length")
        self._models = tuple(models)
        self._prediction = Prediction(np.asarray(quality, np.float32), np.asarray(output_tokens, np.float32))
        for values in self._prediction:
            values.flags.writeable = False

    @property
    def models(self) -> tuple[str, ...]:
        """The models, in the order of a prediction's arrays."""
        return self._models

    def predict(self, prompt: str, prompt_tokens: int) -> Prediction:
        """Return the constants, as read-only arrays."""
        return self._prediction
