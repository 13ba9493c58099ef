"""Answers of one model as they were observed, with what had been predicted of them, drawn anew for other prompts."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.experience.dataset import Experience
from pointsman_policy.experience.qos import LEAST_LABELS
from pointsman_policy.registry.calibration import ModelCalibration
from pointsman_policy.twin.shifts import LEAST_LENGTH_SHIFT, LEAST_QUALITY_SHIFT, newest_level

Floats = npt.NDArray[np.float64]

_MOST = 5_000
"""Newest answers that are drawn from."""
_ALIKE = 32
"""An answer is drawn from so many whose prompts are about as long."""


class Pool(NamedTuple):
    """Observed values, with their predictions, by the length of the prompt."""

    prompt_tokens: Floats
    """Rising, [k]."""
    value: Floats
    """[k]."""
    predicted: Floats
    """[k]."""

    def draw(self, rng: np.random.Generator, prompt_tokens: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Return a value and its prediction for each of n prompts, [n] and [n], from prompts about as long."""
        count = len(self.value)
        reach = min(_ALIKE, count)
        low = np.clip(np.searchsorted(self.prompt_tokens, prompt_tokens) - reach // 2, 0, count - reach)
        rows = low + rng.integers(reach, size=len(prompt_tokens))
        return self.value[rows], self.predicted[rows]


@dataclass(frozen=True, eq=False)
class Answers:
    """What one model's answers are like."""

    quality: Pool
    """0 to 1."""
    output_tokens: Pool
    """At least 1."""

    def predicted_quality(self, drawn: Floats, believed: ModelCalibration | None) -> Floats:
        """Return what a version predicts where such was predicted when it was observed.

        Args:
            drawn: Predictions from the pool, [n].
            believed: What the version knows of the model; predictions have its mean. None = they stay as they were.
        """
        if believed is None or believed.quality is None:
            return drawn
        return np.clip(drawn + believed.quality - float(self.quality.predicted.mean()), 0.0, 1.0)

    def predicted_output_tokens(self, drawn: Floats, believed: ModelCalibration | None) -> Floats:
        """Return what a version predicts, as `predicted_quality` does; lengths are scaled."""
        if believed is None or believed.output_tokens is None:
            return drawn
        factor = believed.output_tokens / max(float(self.output_tokens.predicted.mean()), 1.0)
        return np.maximum(drawn * factor, 1.0)


def knows_answers(experience: Experience, model: str) -> bool:
    """Tell whether an experience has enough labelled answers of a model to draw from."""
    own = experience["model"] == experience.code("model", model)
    own &= experience["status"] == experience.code("status", "completed")
    return int((own & np.isfinite(experience["quality"])).sum()) >= LEAST_LABELS


def observed_answers(experience: Experience, model: str, quality_prior: float, output_tokens_prior: float) -> Answers:
    """Return what is known of a model's answers; where nothing was observed, they are as declared.

    Where a level has shifted, only what came since counts. With few labels, an answer is as good as predicted.

    Args:
        experience: Outcomes, oldest first.
        model: Its name.
        quality_prior: As declared, 0 to 1.
        output_tokens_prior: As declared.
    """
    own = experience["model"] == experience.code("model", model)
    rows = np.flatnonzero(own & (experience["status"] == experience.code("status", "completed")))
    prompts = experience["prompt_tokens"].astype(np.float64)
    labels = experience["quality"].astype(np.float64)
    lengths = experience["output_tokens"].astype(np.float64)
    predicted = _filled(experience["predicted_quality"].astype(np.float64), quality_prior)
    predicted_length = _filled(experience["predicted_output_tokens"].astype(np.float64), output_tokens_prior)

    labelled = newest_level(rows[np.isfinite(labels[rows])], labels, LEAST_QUALITY_SHIFT)
    if len(labelled) < LEAST_LABELS:
        labelled, labels = rows, predicted
    answered = rows[lengths[rows] >= 1.0]
    answered = newest_level(answered, np.log(np.maximum(lengths, 1.0)), LEAST_LENGTH_SHIFT)
    return Answers(
        _pool(prompts, labels, predicted, labelled, quality_prior),
        _pool(prompts, lengths, predicted_length, answered, output_tokens_prior),
    )


def _filled(values: Floats, filling: float) -> Floats:
    return np.where(np.isfinite(values), values, filling)


def _pool(prompts: Floats, values: Floats, predicted: Floats, rows: npt.NDArray[np.intp], prior: float) -> Pool:
    if not len(rows):
        return Pool(np.zeros(1), np.array([prior]), np.array([prior]))
    rows = rows[-_MOST:]
    rows = rows[np.argsort(prompts[rows], kind="stable")]
    return Pool(prompts[rows], values[rows], predicted[rows])
