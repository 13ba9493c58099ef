"""Whether a version's beliefs can be true: near what is declared, and near what was measured on outcomes held out."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pointsman_policy.experience.dataset import Experience
from pointsman_policy.experience.fleet import FleetExpert
from pointsman_policy.experience.qos import LEAST_LABELS
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.twin.calibration import (
    believed_coefficients,
    declared_coefficients,
    declared_experts,
    served_by,
)
from pointsman_policy.twin.served import decode_rows

Floats = npt.NDArray[np.float64]

_LARGEST_FACTOR = 8.0
_BATCHES = (1.0, 8.0, 32.0)
_CONTEXT_TOKENS = 500.0
_LEAST_ROWS = 50
_MOST_WORSE = 1.2
_LATENCY_NOISE = 0.02
_QUALITY_NOISE = 0.02
_CONFIDENT = 2.58
"""Standard errors of a mean label that chance hardly reaches."""


def implausible(experience: Experience, candidate: Calibration, active: Calibration) -> list[str]:
    """Return what cannot be true of a candidate's beliefs, in words; empty = nothing is wrong.

    Args:
        experience: Outcomes that the candidate was not calibrated on.
        candidate: Its beliefs.
        active: Those of the version that it would replace.
    """
    found: list[str] = []
    for expert in declared_experts(experience):
        found += _far_from_declared(expert, candidate)
        found += _far_from_measured(experience, expert, candidate, active)
    for model in sorted({expert.model for expert in declared_experts(experience)}):
        found += _far_from_labels(experience, model, candidate, active)
    return found


def _far_from_declared(expert: FleetExpert, candidate: Calibration) -> Iterator[str]:
    believed, declared = believed_coefficients(expert, candidate), declared_coefficients(expert)
    for batch in _BATCHES:
        terms = np.array([1.0, batch, batch * _CONTEXT_TOKENS, _CONTEXT_TOKENS])
        factor = float(terms @ believed / (terms @ declared))
        if not 1.0 / _LARGEST_FACTOR <= factor <= _LARGEST_FACTOR:
            yield (
                f"{expert.name} is said to take {factor:.2g} times as long as declared, "
                f"more than {_LARGEST_FACTOR:g} times off"
            )
            return


def _far_from_measured(
    experience: Experience, expert: FleetExpert, candidate: Calibration, active: Calibration
) -> Iterator[str]:
    served = served_by(experience, expert)
    if len(served) < _LEAST_ROWS:
        return
    rows = decode_rows(served, declared_coefficients(expert))
    if len(rows.seconds) < _LEAST_ROWS:
        return
    own, other = (
        float(np.median(np.abs(np.log(rows.seconds / (rows.terms @ believed_coefficients(expert, beliefs))))))
        for beliefs in (candidate, active)
    )
    if own > _MOST_WORSE * other + _LATENCY_NOISE:
        yield (f"latency of {expert.name}: off by {own:.0%} on outcomes held out, the active version by {other:.0%}")


def _far_from_labels(experience: Experience, model: str, candidate: Calibration, active: Calibration) -> Iterator[str]:
    believed = candidate.models.get(model)
    own = experience["model"] == experience.code("model", model)
    labelled = own & np.isfinite(experience["quality"])
    labels = experience["quality"][labelled].astype(np.float64)
    if believed is None or believed.quality is None or len(labels) < LEAST_LABELS:
        return
    before = active.models.get(model)
    predicted = experience["predicted_quality"][labelled].astype(np.float64)
    usual = float(np.nanmean(predicted)) if np.isfinite(predicted).any() else believed.quality
    if before is not None and before.quality is not None:
        usual = before.quality
    mean = float(labels.mean())
    error, other = abs(believed.quality - mean), abs(usual - mean)
    noise = _CONFIDENT * float(labels.std()) / np.sqrt(len(labels)) + _QUALITY_NOISE
    if error > other + noise:
        yield (
            f"quality of {model}: said to be {believed.quality:.2f}, labels held out say {mean:.2f} "
            f"and the active version {usual:.2f}"
        )
