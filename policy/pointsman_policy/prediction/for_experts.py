"""A predictor for the experts that there are: fitted where their model is known to it, at their priors where not."""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.experts import Expert
from pointsman_policy.latency.datasheets import canonical_model
from pointsman_policy.prediction.fitted import FittedPredictor, ModelFit
from pointsman_policy.prediction.predictor import Prediction
from pointsman_policy.prediction.prior import PriorPredictor

_LOGGER = logging.getLogger(__name__)


class Means(NamedTuple):
    """What a model's answers were like on average; None = not known."""

    quality: float | None
    """0 to 1."""
    output_tokens: float | None


def with_fitted_means(expert: Expert, fitted: FittedPredictor) -> Expert:
    """Return an expert whose priors are the fitted means of its model, as far as there are any."""
    column = _find(fitted.models, expert.model)
    if column is None:
        return expert
    fit = fitted.fits[column]
    means: dict[str, int] = {}
    if fit.quality.rows:
        means["quality_prior_percent"] = round(100 * min(max(fit.quality.mean, 0.0), 1.0))
    if fit.length.rows:
        means["output_tokens_prior"] = max(round(fit.length.mean), 1)
    return expert.model_copy(update=means)


class ExpertPredictor:
    """Puts a fitted predictor's columns in the order of the experts, and fills up with priors.

    A model is found by the same name, else by the only one of the same architecture. Quality and length are looked up
    each for itself: a model that was fitted on scores without lengths keeps the expert's prior length.

    Args:
        fitted: Knows some of the models.
        prior: Has the experts' models in their order.
        means: What models' answers have been like since the fit, by the experts' models; predictions are moved there.
    """

    def __init__(
        self, fitted: FittedPredictor, prior: PriorPredictor, means: Mapping[str, Means] | None = None
    ) -> None:
        self._fitted = fitted
        self._prior = prior
        columns = [_find(fitted.models, model) for model in prior.models]
        self._columns = np.array([0 if column is None else column for column in columns], np.intp)
        fits = [None if column is None else fitted.fits[column] for column in columns]
        self._knows_quality = np.array([fit is not None and fit.quality.rows > 0 for fit in fits], np.bool_)
        self._knows_length = np.array([fit is not None and fit.length.rows > 0 for fit in fits], np.bool_)
        moves = [_moves(fit, (means or {}).get(model)) for fit, model in zip(fits, prior.models, strict=True)]
        self._quality_shift, self._length_factor = np.array(moves, np.float32).reshape(-1, 2).T
        self._failed = False

    @property
    def models(self) -> tuple[str, ...]:
        """The experts' models, in the order of a prediction's arrays."""
        return self._prior.models

    @property
    def at_prior(self) -> tuple[str, ...]:
        """Models whose quality or length nothing was fitted on."""
        known = (self._knows_quality & self._knows_length).tolist()
        return tuple(dict.fromkeys(model for model, fitted in zip(self.models, known, strict=True) if not fitted))

    def predict(self, prompt: str, prompt_tokens: int) -> Prediction:
        """Return expectations for a prompt, [E]; an encoder that fails leaves them at the priors."""
        prior = self._prior.predict(prompt, prompt_tokens)
        try:
            fitted = self._fitted.predict(prompt, prompt_tokens)
        except Exception:
            # Encoders come from elsewhere; whatever is wrong with one, the request must be routed.
            if not self._failed:
                _LOGGER.exception("The predictor's encoder failed; using priors wherever it does")
            self._failed = True
            return prior
        return Prediction(
            np.where(self._knows_quality, self._quality(fitted), prior.quality),
            np.where(
                self._knows_length, fitted.output_tokens[self._columns] * self._length_factor, prior.output_tokens
            ),
        )

    def _quality(self, fitted: Prediction) -> npt.NDArray[np.float32]:
        quality: npt.NDArray[np.float32] = fitted.quality[self._columns] + self._quality_shift
        return np.clip(quality, 0.0, 1.0)

    def _length(self, fitted: Prediction) -> npt.NDArray[np.float32]:
        tokens: npt.NDArray[np.float32] = fitted.output_tokens[self._columns] * self._length_factor
        return tokens


def _moves(fit: ModelFit | None, means: Means | None) -> tuple[float, float]:
    """Return how far qualities are moved, and by what lengths are multiplied."""
    if fit is None or means is None:
        return 0.0, 1.0
    shift = 0.0 if means.quality is None else means.quality - fit.quality.mean
    factor = 1.0 if means.output_tokens is None else means.output_tokens / max(fit.length.mean, 1.0)
    return shift, factor


def _find(models: Sequence[str], name: str) -> int | None:
    if name in models:
        return models.index(name)
    alike = [index for index, model in enumerate(models) if canonical_model(model) == canonical_model(name)]
    return alike[0] if len(alike) == 1 else None
