"""What outcomes taught of the experts: how fast each one is, and how good and how long each model's answers are."""

from typing import Annotated

from pydantic import Field

from pointsman_policy.documents import Document
from pointsman_policy.experts import Expert, IterationTime

_Count = Annotated[int, Field(ge=0)]
_Name = Annotated[str, Field(min_length=1, max_length=512)]


class ExpertCalibration(Document):
    """Coefficients of the iteration-time model, seconds (see ``pointsman_policy.latency``)."""

    base_seconds: float = Field(gt=0, le=10, allow_inf_nan=False)
    """c0."""
    per_sequence_seconds: float = Field(ge=0, le=1, allow_inf_nan=False)
    """c_seq."""
    per_context_token_seconds: float = Field(ge=0, le=0.01, allow_inf_nan=False)
    """c_ctx."""
    per_prefill_token_seconds: float = Field(ge=0, le=0.1, allow_inf_nan=False)
    """c_prefill."""
    outcomes: _Count
    """Requests that it rests on."""


class ModelCalibration(Document):
    """What a model's answers were like."""

    quality: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    """Mean quality, 0 to 1; None = there were no labels."""
    output_tokens: Annotated[float, Field(ge=1, le=1_000_000, allow_inf_nan=False)] | None = None
    """Mean length; None = there were no answers."""
    labels: _Count
    """Quality labels that it rests on."""
    outcomes: _Count
    """Answers that it rests on."""


class Calibration(Document):
    """What is known of the experts of one RouterPolicy; of what is not listed the declared beliefs hold."""

    experts: dict[_Name, ExpertCalibration] = Field(default_factory=dict)
    """By the expert's name."""
    kinds: dict[_Name, ExpertCalibration] = Field(default_factory=dict)
    """By `kind_of`, for experts that were not there when it was made."""
    models: dict[_Name, ModelCalibration] = Field(default_factory=dict)
    """By the model's name."""


def kind_of(model: str, gpu: str) -> str:
    """Return what experts of one model on one type of GPU have in common, as "model@gpu"."""
    return f"{model}@{gpu}"


def calibrated(expert: Expert, calibration: Calibration) -> Expert:
    """Return an expert as a calibration knows it; what it does not know stays as declared."""
    updates: dict[str, object] = {}
    known = calibration.experts.get(expert.name) or calibration.kinds.get(kind_of(expert.model, expert.gpu))
    if known is not None:
        updates["iteration_time"] = IterationTime(
            base_milliseconds=known.base_seconds * 1e3,
            per_sequence_milliseconds=known.per_sequence_seconds * 1e3,
            per_context_token_milliseconds=known.per_context_token_seconds * 1e3,
            per_prefill_token_milliseconds=known.per_prefill_token_seconds * 1e3,
        )
    model = calibration.models.get(expert.model)
    if model is not None and model.quality is not None:
        updates["quality_prior_percent"] = round(100 * model.quality)
    if model is not None and model.output_tokens is not None:
        updates["output_tokens_prior"] = round(model.output_tokens)
    return expert.model_copy(update=updates)
