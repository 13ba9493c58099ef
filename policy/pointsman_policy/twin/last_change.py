"""When a policy's experts or models last changed, as far as outcomes show it."""

import numpy as np

from pointsman_policy.experience.dataset import Experience
from pointsman_policy.twin.calibration import declared_coefficients, declared_experts, served_by
from pointsman_policy.twin.fitting import fit_expert
from pointsman_policy.twin.shifts import LEAST_QUALITY_SHIFT, newest_level


def last_change(experience: Experience) -> float | None:
    """Return since when outcomes are as they are now, Unix seconds; None = they have always been alike.

    Args:
        experience: Outcomes, oldest first.

    Raises:
        ValueError: If no fleet is known.
    """
    found: list[float] = []
    for expert in declared_experts(experience):
        fit = fit_expert(served_by(experience, expert), declared_coefficients(expert))
        if fit is not None and fit.changes:
            found.append(fit.changes[-1])
    labels = experience["quality"].astype(np.float64)
    for model in sorted({expert.model for expert in declared_experts(experience)}):
        own = experience["model"] == experience.code("model", model)
        rows = np.flatnonzero(own & np.isfinite(labels))
        newest = newest_level(rows, labels, LEAST_QUALITY_SHIFT)
        if len(newest) < len(rows):
            found.append(float(experience["decided_at"][newest[0]]))
    return max(found, default=None)
