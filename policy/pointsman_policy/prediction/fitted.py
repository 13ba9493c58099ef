"""The predictor that looks at the prompt: one matrix on an encoder's features, served with numpy alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pointsman_policy.prediction.encoder import Encoder
from pointsman_policy.prediction.predictor import Prediction

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Fit:
    """What is known of one model's quality, or of the length of its answers."""

    rows: int
    """Answers that it was fitted on."""
    mean: float
    """Over them, quality or tokens; the prior if there are none."""
    shared_weight: float = 0.0
    """How far the model follows what the prompt does to all models; 0 = not at all, 1 = like their average."""
    own_weight: float = 0.0
    """How far what the prompt does to this model beyond that is believed, 0 to 1."""
    explained: float = 0.0
    """Share of the variance over prompts that predictions of unseen prompts explain, 0 to 1."""

    @property
    def status(self) -> Literal["prior", "mean", "fitted"]:
        """Where predictions come from: prior = no data; mean = no skill, so the same for every prompt; fitted."""
        if not self.rows:
            return "prior"
        return "fitted" if self.shared_weight or self.own_weight else "mean"


@dataclass(frozen=True, slots=True)
class ModelFit:
    """Both fits of one model."""

    model: str
    quality: Fit
    length: Fit
    log_length_deviation: float
    """Standard deviation of the logarithm of true over predicted length, on unseen prompts; 0 without data."""


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """The arrays of a predictor of M models on d features.

    With z = matrix x + offset: quality is z[:M] within 0 and 1; tokens are
    length_intercept + length_slope * exp(z[M:] within log_length_bounds).
    """

    matrix: Floats
    """[2M, d]: quality, then the logarithm of the length."""
    offset: Floats
    """[2M]"""
    log_length_bounds: Floats
    """[2, M], least and greatest."""
    length_intercept: Floats
    """[M], tokens."""
    length_slope: Floats
    """[M]"""


class FittedPredictor:
    """Predicts quality and length from the prompt's text; what a model's fit has no skill in stays at its mean.

    An empty text gets every model's mean.

    Args:
        encoder: As in fitting.
        fits: One for each model, in the order of the weights.
        weights: Of as many models, on as many features as the encoder has.
    """

    def __init__(self, encoder: Encoder, fits: Sequence[ModelFit], weights: Weights) -> None:
        if weights.matrix.shape != (2 * len(fits), encoder.dimension):
            raise ValueError(f"weights of shape {weights.matrix.shape} fit neither the models nor the encoder")
        self.encoder = encoder
        self.fits = tuple(fits)
        self.weights = weights
        self._models = tuple(fit.model for fit in fits)
        self._means = Prediction(
            np.array([fit.quality.mean for fit in fits], np.float32),
            np.array([fit.length.mean for fit in fits], np.float32),
        )
        for values in self._means:
            values.flags.writeable = False

    @property
    def models(self) -> tuple[str, ...]:
        """The models, in the order of a prediction's arrays."""
        return self._models

    def predict(self, prompt: str, prompt_tokens: int) -> Prediction:
        """Return expectations for a prompt, [M]; its length in tokens is not looked at."""
        if not prompt:
            return self._means
        # Not a matrix product: that would wake the threads of the linear algebra library for so little.
        linear = np.einsum("md,d->m", self.weights.matrix, self.encoder.encode((prompt,))[0])
        return self._finish(linear)

    def predict_all(self, prompts: Sequence[str]) -> Prediction:
        """Return expectations for n prompts, [n, M]: those of `predict`, but for rounding."""
        prediction = self._finish(self.encoder.encode(prompts) @ self.weights.matrix.T)
        empty = [row for row, prompt in enumerate(prompts) if not prompt]
        for values, means in zip(prediction, self._means, strict=True):
            values[empty] = means
        return prediction

    def _finish(self, linear: Floats) -> Prediction:
        linear = linear + self.weights.offset
        count = len(self.fits)
        low, high = self.weights.log_length_bounds
        tokens = np.exp(np.clip(linear[..., count:], low, high))
        tokens = self.weights.length_intercept + self.weights.length_slope * tokens
        return Prediction(np.clip(linear[..., :count], 0, 1), np.maximum(tokens, 1))
