"""Where a series changed its level for good: an expert that was throttled, a model that was replaced."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEAST_QUALITY_SHIFT = 0.05
"""Change of mean quality that is taken for a change of the model."""
LEAST_LENGTH_SHIFT = 0.2
"""Change of the mean logarithm of answers' lengths that is."""
_LEAST_VALUES = 12
"""On both sides of a shift."""
_CLEAR = 6.0
"""Standard errors that levels must be apart."""
_OUTLIER = 4.0
"""Standard deviations that a value counts for at most."""
_MAD_TO_DEVIATION = 1.4826


def shifts(values: Floats, least: float) -> tuple[int, ...]:
    """Return where the level of a series changes, rising: the index of the first value of each new level.

    Binary segmentation (Scott and Knott, "A cluster analysis method for grouping means in the analysis of variance",
    Biometrics 1974): a series is split where the means of both sides differ most for their standard errors, as long as
    they differ by `least` and clearly. Outliers are drawn in first.

    Args:
        values: In order of time, [n].
        least: Difference of levels that matters.
    """
    found: list[int] = []
    _split(values, 0, least, found)
    return tuple(sorted(found))


def newest_level(rows: npt.NDArray[np.intp], values: Floats, least: float) -> npt.NDArray[np.intp]:
    """Return those rows, in order of time, whose values came since the last shift of their level.

    Args:
        rows: In order of time, [k].
        values: Of all rows, [n].
        least: As for `shifts`.
    """
    found = shifts(values[rows], least)
    return rows[found[-1] :] if found else rows


def _split(values: Floats, start: int, least: float, found: list[int]) -> None:
    count = len(values)
    if count < 2 * _LEAST_VALUES:
        return
    drawn_in = _without_outliers(values)
    place = np.arange(_LEAST_VALUES, count - _LEAST_VALUES + 1)
    sums = np.cumsum(drawn_in)
    left, right = sums[place - 1] / place, (sums[-1] - sums[place - 1]) / (count - place)
    standing = np.abs(left - right) * np.sqrt(place * (count - place) / count)
    best = int(np.argmax(standing))
    split = int(place[best])
    deviation = _deviation(drawn_in[:split] - left[best], drawn_in[split:] - right[best])
    if abs(left[best] - right[best]) < least or standing[best] < _CLEAR * deviation:
        return
    found.append(start + split)
    _split(values[:split], start, least, found)
    _split(values[split:], start + split, least, found)


def _without_outliers(values: Floats) -> Floats:
    """Return the values, those far from the middle of their neighbours drawn in to it."""
    width = min(2 * _LEAST_VALUES + 1, len(values))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, width // 2, mode="reflect"), width)
    middle = np.median(windows, axis=1)[: len(values)]
    reach = _OUTLIER * _MAD_TO_DEVIATION * float(np.median(np.abs(values - middle)))
    clipped: Floats = np.clip(values, middle - reach, middle + reach)
    return clipped


def _deviation(*residuals: Floats) -> float:
    return float(np.std(np.concatenate(residuals)))
