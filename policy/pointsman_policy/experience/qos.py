"""What a request was worth: the quality of its answer where its objectives were met, else nothing.

Both arms of a comparison are measured with the same yardstick, never by what a version predicted of itself.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEAST_LABELS: Final = 20
"""Of a model, for their mean to count more than the declared quality."""


def met(
    status: npt.NDArray[np.str_],
    output_tokens: npt.NDArray[np.floating],
    ttft_seconds: npt.NDArray[np.floating],
    duration_seconds: npt.NDArray[np.floating],
    ttft_objective_seconds: npt.NDArray[np.floating],
    tpot_objective_seconds: npt.NDArray[np.floating],
    ntpot_objective_seconds: npt.NDArray[np.floating],
) -> Floats:
    """Tell which requests met their objectives.

    TPOT is (duration - TTFT) / (tokens - 1), which an answer of one token has not; NTPOT is duration / tokens.

    Args:
        status: As in `schema.STATUSES`, [rows].
        output_tokens: NaN = not known, [rows].
        ttft_seconds: Arrival to first token; NaN = not known, [rows].
        duration_seconds: Arrival to end; NaN = not known, [rows].
        ttft_objective_seconds: 0 = none, [rows].
        tpot_objective_seconds: 0 = none, [rows].
        ntpot_objective_seconds: 0 = none, [rows].

    Returns:
        1 = met, or there was no objective; 0 = missed, failed or dropped; NaN = cancelled, expired, or cannot be told.
    """
    tokens = output_tokens.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        tpot = np.where(tokens == 1.0, 0.0, (duration_seconds - ttft_seconds) / (tokens - 1.0))
        ntpot = duration_seconds / tokens
    tpot[tokens < 1.0] = np.nan
    ntpot[tokens < 1.0] = np.nan
    missed = np.zeros(len(status), np.bool_)
    unknown = np.zeros(len(status), np.bool_)
    for measured, objective in (
        (ttft_seconds.astype(np.float64), ttft_objective_seconds),
        (tpot, tpot_objective_seconds),
        (ntpot, ntpot_objective_seconds),
    ):
        missed |= (objective > 0.0) & (measured > objective)
        unknown |= (objective > 0.0) & np.isnan(measured)
    result = np.where(missed, 0.0, np.where(unknown, np.nan, 1.0))
    result[(status == "failed") | (status == "dropped")] = 0.0
    result[(status == "cancelled") | (status == "expired")] = np.nan
    return result


def qos(met_: Floats, quality: npt.NDArray[np.floating], yardstick: npt.NDArray[np.floating]) -> Floats:
    """Return what each request was worth.

    Args:
        met_: As `met` returns it, [rows].
        quality: The label of the answer, 0 to 1; NaN = it has none, [rows].
        yardstick: What answers of its expert are worth on average (`yardsticks`), [rows].

    Returns:
        0 to 1; NaN where it is not known whether objectives were met.
    """
    worth = np.where(np.isnan(quality), yardstick, quality).astype(np.float64)
    return np.where(met_ == 0.0, 0.0, met_ * worth)


def yardsticks(priors: Mapping[str, float], labels: Mapping[str, tuple[int, float]]) -> dict[str, float]:
    """Return what an answer of each model is worth, to requests without a label.

    Args:
        priors: Declared quality by model, 0 to 1.
        labels: Number of labels and their mean by model.

    Returns:
        By model: the mean of its labels where there are enough of them, else what is declared.
    """
    known = {model: mean for model, (count, mean) in labels.items() if count >= LEAST_LABELS}
    return {**priors, **known}
