"""Fits predictors of quality and output length with scikit-learn.

A prompt's effect on a model is taken apart: what it does to all models (it is hard, it asks for much text), predicted
from the answers of all of them together, and what it does to this model beyond that, predicted from its own answers
alone. Which expert is best for a prompt depends on the second part only, of which there is little, so noise in it costs
most. Each part counts by as much as it proves right on prompts that it was not fitted on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV

from pointsman_policy.prediction.encoder import Encoder
from pointsman_policy.prediction.fitted import Fit, FittedPredictor, ModelFit, Weights
from pointsman_policy.prediction.predictor import Prediction
from pointsman_policy.prediction.shrinkage import slopes

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

PRIOR_QUALITY, PRIOR_OUTPUT_TOKENS = 0.5, 256.0
"""Of a model without data; those of an expert in `experts.yaml`, where they can be set for each."""

_COMPONENTS = 256
_MOST_PROMPTS = 20_000
_LEAST_ROWS = 40
"""With less, a part is not fitted."""
_FOLDS = 5
_ALPHAS = np.geomspace(0.1, 300, 8)
_MOST_SHARED = 3.0
_PRIOR_ROWS = 5.0
"""A model's mean counts against the mean of all models as if that came from so many answers."""
_LENGTH_TAILS = (0.5, 99.5)
"""Percentiles of fitted lengths that predicted lengths stay between."""


@dataclass(frozen=True, eq=False)
class PredictorFit:
    """A predictor, and what it would have said of the prompts that it was fitted on had it not seen them."""

    predictor: FittedPredictor
    rows: tuple[int, ...]
    """Of the prompts that were fitted on, ascending: all of them unless there were too many."""
    out_of_fold: Prediction
    """[len(rows), M]"""


class _Part(NamedTuple):
    """Quality or log length of M models, as a linear function of k components."""

    rows: npt.NDArray[np.int64]
    """[M]"""
    weights: Floats
    """[k, M]"""
    offset: Floats
    """[M]"""
    out_of_fold: Floats
    """[P, M]"""
    shared: Floats
    """[M]"""
    own: Floats
    """[M]"""


def fit_predictor(
    models: Sequence[str],
    prompts: Sequence[str],
    score: npt.NDArray[np.floating[Any]],
    output_tokens: npt.NDArray[np.floating[Any]],
    encoder: Encoder,
    rng: np.random.Generator,
) -> PredictorFit:
    """Fit on answers; a model without any starts at its prior, and one without lengths at the prior length.

    Args:
        models: M names.
        prompts: P texts; of more than 20,000, as many are drawn at random.
        score: [P, M], 0 to 1; NaN where there is no answer.
        output_tokens: [P, M], tokens; NaN where not known.
        encoder: Makes the features.
        rng: Draws folds, and where there are too many, components and prompts.
    """
    chosen = np.sort(rng.permutation(len(prompts))[:_MOST_PROMPTS])
    if len(chosen) < len(prompts):
        prompts, score, output_tokens = [prompts[row] for row in chosen], score[chosen], output_tokens[chosen]
    quality_target: Floats = score.astype(np.float64)
    tokens: Floats = np.maximum(output_tokens.astype(np.float64), 1)
    space = _reduce(encoder.encode(prompts), rng)
    fold = rng.permutation(len(prompts)) % _FOLDS
    quality = _fit_part(space.components, quality_target, fold, PRIOR_QUALITY)
    length = _fit_part(space.components, np.log(tokens), fold, np.log(PRIOR_OUTPUT_TOKENS))
    scale = _scale_lengths(length, tokens)
    matrix = space.basis.T @ np.hstack([quality.weights, length.weights])
    weights = Weights(
        matrix=_float32(matrix.T),
        offset=_float32(np.concatenate([quality.offset, length.offset]) - space.mean @ matrix),
        log_length_bounds=_float32(scale.bounds),
        length_intercept=_float32(scale.intercept),
        length_slope=_float32(scale.slope),
    )
    predicted_quality = np.clip(quality.out_of_fold, 0, 1)
    qualities = _fits(quality, _means(quality_target, PRIOR_QUALITY), predicted_quality, quality_target)
    lengths = _fits(length, scale.mean, scale.out_of_fold, tokens)
    deviations = [_deviation(np.log(tokens[:, m] / scale.out_of_fold[:, m])) for m in range(len(models))]
    fits = [ModelFit(*of_model) for of_model in zip(models, qualities, lengths, deviations, strict=True)]
    out_of_fold = Prediction(_float32(predicted_quality), _float32(scale.out_of_fold))
    return PredictorFit(FittedPredictor(encoder, fits, weights), tuple(chosen.tolist()), out_of_fold)


class _Space(NamedTuple):
    """The directions in which prompts differ most: components = (features - mean) basis^T."""

    components: Floats
    """[P, k]"""
    basis: Floats
    """[k, d]"""
    mean: Floats
    """[d]"""


def _reduce(features: npt.NDArray[np.float32], rng: np.random.Generator) -> _Space:
    mean = features.mean(axis=0)
    prompts, dimension = features.shape
    if dimension <= _COMPONENTS or prompts < _LEAST_ROWS:
        basis = np.eye(min(dimension, _COMPONENTS), dimension)
        return _Space((features - mean) @ basis.T, basis, mean)
    seed = int(rng.integers(2**31))
    pca = PCA(min(_COMPONENTS, prompts - 1), svd_solver="randomized", random_state=seed).fit(features)
    return _Space(pca.transform(features).astype(np.float64), pca.components_, pca.mean_)


def _fit_part(components: Floats, target: Floats, fold: Rows, prior: float) -> _Part:
    known = ~np.isnan(target)
    mean = _means(target, prior)
    deviation = target - mean
    answers = known.sum(axis=1)
    shared_target = np.nansum(deviation, axis=1) / np.maximum(answers, 1)
    shared = _cross_fit(components, shared_target[:, None], fold, answers.astype(np.float64))
    shared_weight = slopes(np.broadcast_to(shared.out_of_fold, target.shape), deviation, _MOST_SHARED)

    deviation = deviation - shared_weight * shared.out_of_fold
    own_out_of_fold, own_coefficients = np.zeros(target.shape), np.zeros((components.shape[1], target.shape[1]))
    for pattern in np.unique(known, axis=1).T:
        alike = np.flatnonzero((known == pattern[:, None]).all(axis=0))
        own = _cross_fit(components, deviation[:, alike], fold, pattern.astype(np.float64))
        own_out_of_fold[:, alike], own_coefficients[:, alike] = own.out_of_fold, own.coefficients
    own_weight = slopes(own_out_of_fold, deviation, 1.0)

    weights = shared_weight * shared.coefficients + own_weight * own_coefficients
    out_of_fold = shared_weight * shared.out_of_fold + own_weight * own_out_of_fold
    return _Part(
        rows=known.sum(axis=0),
        weights=weights,
        offset=mean - _column_means(components @ weights, known),
        out_of_fold=mean + out_of_fold - _column_means(out_of_fold, known),
        shared=shared_weight,
        own=own_weight,
    )


class _CrossFit(NamedTuple):
    coefficients: Floats
    """[k, T], fitted on all rows."""
    out_of_fold: Floats
    """[P, T], each row predicted by a fit on other folds."""


def _cross_fit(components: Floats, target: Floats, fold: Rows, weight: Floats) -> _CrossFit:
    """Fit ridge regressions, their penalty chosen by leaving one out; rows of weight 0 are left out."""
    coefficients = np.zeros((components.shape[1], target.shape[1]))
    out_of_fold = np.zeros(target.shape)
    used = weight > 0
    if used.sum() < _LEAST_ROWS:
        return _CrossFit(coefficients, out_of_fold)
    for held_out in range(_FOLDS):
        train, test = used & (fold != held_out), fold == held_out
        ridge = RidgeCV(_ALPHAS).fit(components[train], target[train], weight[train])
        out_of_fold[test] = ridge.predict(components[test]).reshape(-1, target.shape[1])
    ridge = RidgeCV(_ALPHAS).fit(components[used], target[used], weight[used])
    return _CrossFit(ridge.coef_.reshape(target.shape[1], -1).T, out_of_fold)


class _LengthScale(NamedTuple):
    """Makes mean tokens of predicted logarithms, which alone give too small a mean."""

    mean: Floats
    """[M], tokens."""
    bounds: Floats
    """[2, M]"""
    intercept: Floats
    """[M]"""
    slope: Floats
    """[M]"""
    out_of_fold: Floats
    """[P, M], tokens."""


def _scale_lengths(length: _Part, tokens: Floats) -> _LengthScale:
    known = ~np.isnan(tokens)
    mean = _means(tokens, PRIOR_OUTPUT_TOKENS)
    bounds = np.zeros((2, tokens.shape[1]))
    for column in np.flatnonzero(known.any(axis=0)):
        bounds[:, column] = np.percentile(np.log(tokens[known[:, column], column]), _LENGTH_TAILS)
    raw = np.exp(np.clip(length.out_of_fold, *bounds))
    factor = mean / np.maximum(_column_means(raw, known), 1)
    reliability = slopes(raw * factor, tokens, 1.0)
    slope, intercept = reliability * factor, (1 - reliability) * mean
    return _LengthScale(mean, bounds, intercept, slope, np.maximum(intercept + slope * raw, 1))


def _fits(part: _Part, mean: Floats, predicted: Floats, truth: Floats) -> list[Fit]:
    error, variance = np.nansum((truth - predicted) ** 2, axis=0), np.nansum((truth - mean) ** 2, axis=0)
    explained = np.clip(1 - np.divide(error, variance, out=np.ones_like(error), where=variance > 0), 0, 1)
    columns = (part.rows, mean, part.shared, part.own, explained)
    return [
        Fit(int(rows), float(m), float(shared), float(own), float(share))
        for rows, m, shared, own, share in zip(*columns, strict=True)
    ]


def _means(values: Floats, prior: float) -> Floats:
    """Return each column's mean, shrunk a little towards the mean of all; the prior where there is nothing."""
    rows = (~np.isnan(values)).sum(axis=0)
    means = np.nansum(values, axis=0) / np.maximum(rows, 1)
    everywhere = means[rows > 0].mean() if rows.any() else prior
    shrunk = (rows * means + _PRIOR_ROWS * everywhere) / (rows + _PRIOR_ROWS)
    return np.where(rows > 0, shrunk, prior)


def _column_means(values: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    """Return the means over what is known, 0 where nothing is."""
    means: Floats = np.where(known, values, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return means


def _deviation(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.std()) if known.size else 0.0


def _float32(values: Floats) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(values, np.float32)
