"""From outcomes to a Calibration: how fast each expert is, and how good and how long each model's answers are."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pointsman_policy.experience.dataset import Experience
from pointsman_policy.experience.fleet import FleetExpert
from pointsman_policy.registry.calibration import Calibration, ExpertCalibration, ModelCalibration, kind_of
from pointsman_policy.twin.fitting import fit_expert
from pointsman_policy.twin.served import Served
from pointsman_policy.twin.shifts import LEAST_LENGTH_SHIFT, LEAST_QUALITY_SHIFT, newest_level

Floats = npt.NDArray[np.float64]

_PRIOR_LABELS = 10.0
"""The declared quality counts as so many labels."""
_PRIOR_ANSWERS = 20.0
_MOST_SERVED = 20_000
"""Newest outcomes of each expert that are looked at."""
_AT_ONCE_SHARE = 0.98
"""A first token that took such a share of the whole answer came with all others."""
_LEAST_STREAMED_TOKENS = 4
_GUESSED_TTFT_SHARE = 0.5
"""Of the answer's time, at most, where the first token was not seen."""


def calibrate(experience: Experience) -> Calibration:
    """Return what outcomes teach of a policy's experts; what they say nothing of is left out.

    Args:
        experience: Outcomes, and the fleet as it is declared.

    Raises:
        ValueError: If no fleet is known.
    """
    experts = declared_experts(experience)
    fitted = {one.name: found for one in experts if (found := _expert(experience, one)) is not None}
    return Calibration(experts=fitted, kinds=_kinds(experts, fitted), models=_models(experience, experts))


def declared_experts(experience: Experience) -> tuple[FleetExpert, ...]:
    """Return a policy's experts as they are declared; those without a declared iteration time are left out.

    Raises:
        ValueError: If routers never told of any.
    """
    experts = () if experience.fleet is None else experience.fleet.experts
    known = tuple(expert for expert in experts if expert.base_seconds > 0.0)
    if not known:
        raise ValueError(f"routers never told which experts {experience.policy} has; start one with --policy-service")
    return known


def declared_coefficients(expert: FleetExpert) -> Floats:
    """Return (c0, c_seq, c_ctx, c_prefill) as declared, seconds, [4]."""
    return np.array(
        [
            expert.base_seconds,
            expert.per_sequence_seconds,
            expert.per_context_token_seconds,
            expert.per_prefill_token_seconds,
        ]
    )


def believed_coefficients(expert: FleetExpert, calibration: Calibration) -> Floats:
    """Return (c0, c_seq, c_ctx, c_prefill) of an expert as a calibration has them, else as declared, seconds, [4]."""
    known = calibration.experts.get(expert.name) or calibration.kinds.get(kind_of(expert.model, expert.gpu))
    if known is None:
        return declared_coefficients(expert)
    return np.array(
        [
            known.base_seconds,
            known.per_sequence_seconds,
            known.per_context_token_seconds,
            known.per_prefill_token_seconds,
        ]
    )


def served_by(experience: Experience, expert: FleetExpert) -> Served:
    """Return what an expert served and was measured on, the newest of it.

    Args:
        experience: Outcomes.
        expert: As declared; what an expert of this name did with another model or GPU is left out.
    """
    own = experience["expert"] == experience.code("expert", expert.name)
    own &= experience["model"] == experience.code("model", expert.model)
    own &= experience["gpu"] == experience.code("gpu", expert.gpu)
    seconds, tokens = experience["duration_seconds"], experience["output_tokens"]
    own &= np.isfinite(seconds) & (seconds > 0.0) & (tokens >= 1.0) & ~experience["retimed"]
    rows = np.flatnonzero(own)[-_MOST_SERVED:]
    arrival = experience["decided_at"][rows]
    duration = seconds[rows].astype(np.float64)
    output = tokens[rows].astype(np.float64)
    prompt = experience["prompt_tokens"][rows].astype(np.float64)
    ttft = experience["ttft_seconds"][rows].astype(np.float64)
    streamed = (ttft > 0.0) & ((ttft < _AT_ONCE_SHARE * duration) | (output < _LEAST_STREAMED_TOKENS))
    base, per_sequence, per_context, per_prefill = declared_coefficients(expert)
    guess = np.minimum(base + per_sequence + (per_context + per_prefill) * prompt, _GUESSED_TTFT_SHARE * duration)
    first = arrival + np.where(streamed, np.minimum(ttft, duration), guess)
    return Served(arrival, first, arrival + duration, prompt, output, streamed)


def _expert(experience: Experience, expert: FleetExpert) -> ExpertCalibration | None:
    fit = fit_expert(served_by(experience, expert), declared_coefficients(expert))
    if fit is None:
        return None
    base, per_sequence, per_context, per_prefill = fit.coefficients.tolist()
    return ExpertCalibration(
        base_seconds=base,
        per_sequence_seconds=per_sequence,
        per_context_token_seconds=per_context,
        per_prefill_token_seconds=per_prefill,
        outcomes=fit.outcomes,
    )


def _kinds(experts: Sequence[FleetExpert], fitted: Mapping[str, ExpertCalibration]) -> dict[str, ExpertCalibration]:
    """Return the median of each kind's experts: one that is throttled says little of the others."""
    by_kind: dict[str, list[ExpertCalibration]] = {}
    for expert in experts:
        if expert.name in fitted:
            by_kind.setdefault(kind_of(expert.model, expert.gpu), []).append(fitted[expert.name])
    return {kind: _median(parts) for kind, parts in sorted(by_kind.items())}


def _median(parts: Sequence[ExpertCalibration]) -> ExpertCalibration:
    def middle(name: str) -> float:
        return float(np.median([getattr(part, name) for part in parts]))

    return ExpertCalibration(
        base_seconds=middle("base_seconds"),
        per_sequence_seconds=middle("per_sequence_seconds"),
        per_context_token_seconds=middle("per_context_token_seconds"),
        per_prefill_token_seconds=middle("per_prefill_token_seconds"),
        outcomes=sum(part.outcomes for part in parts),
    )


def _models(experience: Experience, experts: Sequence[FleetExpert]) -> dict[str, ModelCalibration]:
    completed = experience["status"] == experience.code("status", "completed")
    models = {}
    for model in sorted({expert.model for expert in experts}):
        own = completed & (experience["model"] == experience.code("model", model))
        declared = [expert for expert in experts if expert.model == model]
        quality, length = experience["quality"].astype(np.float64), experience["output_tokens"].astype(np.float64)
        labelled = newest_level(np.flatnonzero(own & np.isfinite(quality)), quality, LEAST_QUALITY_SHIFT)
        logarithm = np.log(np.where(length >= 1.0, length, 1.0))
        answered = newest_level(np.flatnonzero(own & (length >= 1.0)), logarithm, LEAST_LENGTH_SHIFT)
        prior_quality = float(np.mean([expert.quality_prior for expert in declared]))
        prior_length = max(float(np.mean([expert.output_tokens_prior for expert in declared])), 1.0)
        models[model] = ModelCalibration(
            quality=_shrunk(quality[labelled], prior_quality, _PRIOR_LABELS),
            output_tokens=_shrunk(length[answered], prior_length, _PRIOR_ANSWERS),
            labels=len(labelled),
            outcomes=len(answered),
        )
    return models


def _shrunk(values: Floats, prior: float, strength: float) -> float | None:
    """Return the mean with the prior as so many values more; None if there are none."""
    if not len(values):
        return None
    return float((values.sum() + strength * prior) / (len(values) + strength))
