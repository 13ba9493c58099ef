"""How far to believe predictions: slopes of truth on prediction, pooled over models (empirical Bayes)."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_LEAST_ROWS = 3
_NO_VARIATION = 1e-9
"""Predictions that vary less, as a share of the truth's variation, are constants."""
_CONFIDENT = 1.64
"""Standard errors that the pooled slope must be above 0 by: a one-sided test at 5 %."""


def slopes(predicted: Floats, truth: Floats, most: float) -> Floats:
    """Return by what factor each model's predictions should be shrunk towards their mean.

    A model's least-squares slope is cov(predicted, truth) / var(predicted): 1 if predictions are right on average, 0 if
    they say nothing. Slopes are shrunk towards their mean over models, by the random-effects estimate of their true
    spread (DerSimonian and Laird, "Meta-analysis in clinical trials", 1986). If even that mean is not surely above 0,
    all are 0.

    Args:
        predicted: Of prompts that were not fitted on, [P, M].
        truth: [P, M]; NaN where not known.
        most: Greatest factor.

    Returns:
        [M], 0 to `most`.
    """
    slope, error = _least_squares(predicted, truth)
    known = np.isfinite(error)
    if not known.any():
        return np.zeros(truth.shape[1])
    spread = _spread(slope[known], 1 / error[known] ** 2)
    weight = 1 / (error**2 + spread)
    mean = (weight[known] * slope[known]).sum() / weight[known].sum()
    if mean <= _CONFIDENT / np.sqrt(weight[known].sum()):
        return np.zeros(truth.shape[1])
    own = np.where(known, slope - mean, 0.0)
    pooled: Floats = np.clip(mean + spread * weight * own, 0, most)
    return pooled


def _least_squares(predicted: Floats, truth: Floats) -> tuple[Floats, Floats]:
    """Return each column's slope and its standard error; 0 and infinity where there is too little to tell."""
    slope, error = np.zeros(truth.shape[1]), np.full(truth.shape[1], np.inf)
    for column in range(truth.shape[1]):
        known = ~np.isnan(truth[:, column])
        if known.sum() < _LEAST_ROWS:
            continue
        x = predicted[known, column] - predicted[known, column].mean()
        y = truth[known, column] - truth[known, column].mean()
        variation = float(x @ x)
        if variation <= _NO_VARIATION * float(y @ y):
            continue
        slope[column] = x @ y / variation
        residual = y - slope[column] * x
        error[column] = np.sqrt(max(float(residual @ residual), _NO_VARIATION * variation) / (len(x) - 2) / variation)
    return slope, error


def _spread(slope: Floats, precision: Floats) -> float:
    """Return the variance of true slopes over models (DerSimonian and Laird)."""
    total = precision.sum()
    mean = (precision * slope).sum() / total
    excess = (precision * (slope - mean) ** 2).sum() - (len(slope) - 1)
    scale = total - (precision**2).sum() / total
    return float(max(excess / scale, 0.0)) if scale > 0 else 0.0
