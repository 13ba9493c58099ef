"""How well a predictor does on prompts that it has not seen, model by model, against the model's mean."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pointsman_policy.prediction.fitted import FittedPredictor
from pointsman_policy.simulator.tables import ScoreTable

Floats = npt.NDArray[np.float64]

_BINS = 10


@dataclass(frozen=True)
class QualitySkill:
    """Predicted against true quality; NaN = cannot be told."""

    rows: int
    rank_correlation: float
    """Spearman's, of prediction and truth; 0 for a constant."""
    auc: float
    """Chance that of a right and a wrong answer, the right one was predicted better; NaN unless scores are 0 or 1."""
    calibration_error: float
    """Mean distance of predicted from true means, over ten bins of equally many predictions."""
    slope: float
    """Of truth on prediction: 1 = differences in prediction are right, below 1 = too large."""
    error: float
    """Mean squared error over that of the model's mean: below 1 is better than the mean."""
    absolute_error: float
    """Mean, 0 to 1."""
    mean_absolute_error: float
    """Mean absolute error of the model's mean."""


@dataclass(frozen=True)
class LengthSkill:
    """Predicted against true length; NaN = cannot be told."""

    rows: int
    rank_correlation: float
    log_error: float
    """Mean distance of the logarithms of predicted and true length."""
    mean_log_error: float
    """That of the model's mean."""
    bias: float
    """Mean predicted over mean true length."""
    error: float
    """Mean squared error in tokens, over that of the model's mean."""


@dataclass(frozen=True)
class ModelSkill:
    """One model; None where there is no truth to compare with."""

    model: str
    quality: QualitySkill | None
    length: LengthSkill | None


def measure_skill(predictor: FittedPredictor, fitted: ScoreTable, unseen: ScoreTable) -> tuple[ModelSkill, ...]:
    """Compare predictions of unseen prompts with what was answered, and with the means of what was fitted on.

    Args:
        predictor: Fitted on `fitted`, of the same models.
        fitted: Gives the means.
        unseen: Other prompts, with their text.
    """
    prediction = predictor.predict_all(unseen.prompts or ())
    skills = []
    for column, model in enumerate(predictor.models):
        quality = _pair(prediction.quality[:, column], unseen.score[:, column])
        length = _pair(prediction.output_tokens[:, column], unseen.out_tokens[:, column])
        quality_mean, length_mean = (_mean(values[:, column]) for values in (fitted.score, fitted.out_tokens))
        skills.append(ModelSkill(model, _quality_skill(*quality, quality_mean), _length_skill(*length, length_mean)))
    return tuple(skills)


def _pair(predicted: npt.NDArray[np.float32], truth: npt.NDArray[np.float32]) -> tuple[Floats, Floats]:
    known = ~np.isnan(truth)
    return predicted[known].astype(np.float64), truth[known].astype(np.float64)


def _mean(values: npt.NDArray[np.float32]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def _quality_skill(predicted: Floats, truth: Floats, mean: float) -> QualitySkill | None:
    if not truth.size or math.isnan(mean):
        return None
    return QualitySkill(
        rows=len(truth),
        rank_correlation=rank_correlation(predicted, truth),
        auc=auc(predicted, truth),
        calibration_error=calibration_error(predicted, truth),
        slope=_slope(predicted, truth),
        error=_ratio(np.square(predicted - truth).mean(), np.square(mean - truth).mean()),
        absolute_error=float(np.abs(predicted - truth).mean()),
        mean_absolute_error=float(np.abs(mean - truth).mean()),
    )


def _length_skill(predicted: Floats, truth: Floats, mean: float) -> LengthSkill | None:
    if not truth.size or math.isnan(mean):
        return None
    tokens = np.maximum(truth, 1)
    return LengthSkill(
        rows=len(truth),
        rank_correlation=rank_correlation(predicted, truth),
        log_error=float(np.abs(np.log(predicted / tokens)).mean()),
        mean_log_error=float(np.abs(np.log(max(mean, 1) / tokens)).mean()),
        bias=_ratio(predicted.mean(), truth.mean()),
        error=_ratio(np.square(predicted - truth).mean(), np.square(mean - truth).mean()),
    )


def rank_correlation(one: Floats, other: Floats) -> float:
    """Return Spearman's rank correlation, ties ranked by their mean; 0 if either is constant."""
    ranks = [_ranks(values) for values in (one, other)]
    centred = [rank - rank.mean() for rank in ranks]
    scale = math.sqrt(float(np.square(centred[0]).sum() * np.square(centred[1]).sum()))
    return float(centred[0] @ centred[1]) / scale if scale else 0.0


def auc(predicted: Floats, truth: Floats) -> float:
    """Return the area under the ROC curve; NaN unless the truth is 0 or 1 and both occur."""
    positive = truth == 1
    right, wrong = int(positive.sum()), int((truth == 0).sum())
    if right + wrong != len(truth) or not right or not wrong:
        return math.nan
    return float((_ranks(predicted)[positive].sum() - right * (right + 1) / 2) / (right * wrong))


def calibration_error(predicted: Floats, truth: Floats) -> float:
    """Return the expected calibration error over ten bins of equally many predictions, equal ones in one bin."""
    bins = (_ranks(predicted) - 1) * _BINS // len(predicted)
    error = sum(abs(float((predicted[bins == one] - truth[bins == one]).sum())) for one in np.unique(bins))
    return error / len(predicted)


def _ranks(values: Floats) -> Floats:
    """Return ranks from 1, ties at their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank: Floats = np.cumsum(counts) - (counts - 1) / 2
    return mean_rank[inverse]


def _slope(predicted: Floats, truth: Floats) -> float:
    centred = predicted - predicted.mean()
    # Rounding makes constants vary a little.
    if np.square(centred).mean() < 1e-12:
        return math.nan
    return _ratio(centred @ truth, centred @ centred)


def _ratio(one: float, other: float) -> float:
    return float(one / other) if other else math.nan


def mean_skill(skills: Sequence[QualitySkill] | Sequence[LengthSkill], figure: str) -> float:
    """Return a figure's mean over the models for which it can be told; NaN if there is none."""
    known = [value for value in (float(getattr(skill, figure)) for skill in skills) if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
