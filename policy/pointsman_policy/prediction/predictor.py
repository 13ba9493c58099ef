"""What every predictor of quality and answer length does."""

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt


class Prediction(NamedTuple):
    """Expectations for one prompt on each of M models."""

    quality: npt.NDArray[np.float32]
    """[M], 0 to 1."""
    output_tokens: npt.NDArray[np.float32]
    """[M], above 0."""


class Predictor(Protocol):
    """Predicts from the prompt alone, before any model has seen it."""

    @property
    def models(self) -> tuple[str, ...]:
        """The models, in the order of a prediction's arrays."""

    def predict(self, prompt: str, prompt_tokens: int) -> Prediction:
        """Return expectations for a prompt; takes microseconds and never fails.

        Args:
            prompt: Its text; empty if only its length is known.
            prompt_tokens: Its length, tokens.
        """
