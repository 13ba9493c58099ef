"""The parts of a RoutingState as features: a function for each kind of row, which `runtime.features` puts together."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.compiled import compiled
from pointsman_policy.latency.estimator import (
    DEFAULT_LENGTH_SPREAD,
    DEFAULT_PESSIMISM,
    DEFAULT_SPREAD,
    estimate,
    tightest,
)
from pointsman_policy.state import Record, RoutingState

REFERENCE_TOKEN_SECONDS = 0.03
"""Stands in for a per-token objective that is not set."""

_REFERENCE_TTFT_SECONDS = 1.0
_SEQUENCES = 32.0
_CONTEXT_TOKENS = 8192.0
_LARGEST_LOGIT = 6.0
LOGIT_SCALE = 3.0
"""The feature `slo_logit` times this is the logit of the analytic P(meets its objectives)."""

_PACE_SECONDS = 3.0


@compiled
def _within(value: float, low: float, high: float) -> float:
    """Return a value within bounds; what is not a number counts as 0."""
    if math.isnan(value):
        value = 0.0
    return min(max(value, low), high)


@compiled
def _log_ratio(value: float, scale: float) -> float:
    """Return half the logarithm of a ratio, from -2 to 2."""
    return 0.5 * _within(math.log(max(value, 1e-9) / max(scale, 1e-9)), -4.0, 4.0)


@compiled
def _log_count(count: float) -> float:
    return 0.25 * math.log1p(_within(count, 0.0, 1e5))


@compiled
def _log_tokens(tokens: float) -> float:
    return 0.125 * math.log1p(_within(tokens, 0.0, 1e8))


@compiled
def _logit(chance: float) -> float:
    chance = _within(chance, 1e-9, 1.0 - 1e-9)
    return _within(math.log(chance / (1.0 - chance)), -_LARGEST_LOGIT, _LARGEST_LOGIT) / LOGIT_SCALE


@compiled
def or_reference(objective: float, reference: float) -> float:
    """Return an objective, or what stands in for one that is not set."""
    return objective if 0.0 < objective < np.inf else reference


@compiled
def iteration_seconds(expert: Record) -> float:
    """Return how long an iteration of the batch as it is now is believed to last."""
    seconds = expert.base_seconds + expert.per_sequence_seconds * expert.running_request_count
    return float(seconds + expert.per_context_token_seconds * expert.running_context_tokens)


@compiled
def encode_load(expert: Record, row: Record) -> None:
    """Write what is on an expert."""
    row.running_requests = _log_count(expert.running_request_count)
    row.waiting_requests = _log_count(expert.waiting_request_count)
    row.in_flight_requests = _log_count(expert.in_flight_count)
    row.batch_fullness = _within(expert.running_request_count / max(expert.maximum_running_count, 1.0), 0.0, 2.0)
    row.kv_used = _within(expert.kv_cache_utilization_ratio, 0.0, 1.0)
    row.kv_unknown = 1.0 if math.isnan(expert.kv_cache_utilization_ratio) else 0.0
    row.kv_demand = 0.0
    if expert.kv_capacity_tokens > 0.0:
        demand = expert.running_context_tokens + expert.waiting_prompt_tokens
        row.kv_demand = _within(demand / expert.kv_capacity_tokens, 0.0, 4.0)
    row.running_context = _log_tokens(expert.running_context_tokens)
    row.running_remaining = _log_tokens(expert.running_remaining_tokens)
    row.waiting_prompts = _log_tokens(expert.waiting_prompt_tokens)
    row.waiting_outputs = _log_tokens(expert.waiting_output_tokens)
    row.prefill_share = _within(expert.prefill_tokens_per_second * expert.per_prefill_token_seconds, 0.0, 2.0)
    row.telemetry_age = 0.25 * math.log1p(_within(expert.telemetry_age_seconds, 0.0, 60.0))
    row.pace = 0.0
    if expert.pace_ratio > 0.0:
        row.pace = _within(math.log(expert.pace_ratio), -2.0, 2.0)
    seconds = _within(expert.pace_seconds, 0.0, 1e6)
    row.pace_known = seconds / (seconds + _PACE_SECONDS)


@compiled
def encode_speed(expert: Record, prompt_tokens: float, limit: float, row: Record) -> None:
    """Write how fast an expert is; `limit` is the time per token that all is relative to, seconds."""
    row.iteration = _log_ratio(iteration_seconds(expert), limit)
    row.base = _log_ratio(expert.base_seconds, limit)
    row.sequences = _log_ratio(expert.per_sequence_seconds * _SEQUENCES, limit)
    row.context = _log_ratio(expert.per_context_token_seconds * _CONTEXT_TOKENS, limit)
    row.prompt = _log_ratio(expert.per_prefill_token_seconds * prompt_tokens, limit)


@compiled
def encode_slots(
    slots: npt.NDArray[np.void], mask: npt.NDArray[np.bool_], iteration: float, rows: npt.NDArray[np.void]
) -> None:
    """Write the features of the slots in use, [N, 1]; `iteration` is how long one of the expert's lasts, seconds."""
    for k in range(mask.shape[0]):
        if not mask[k]:
            continue
        slot = slots[k]
        row = rows[k, 0]
        generated = _within(slot.generated_tokens, 0.0, 1e8)
        total = max(_within(slot.predicted_output_tokens, 1.0, 1e8), generated)
        ahead = (total - generated) * iteration
        limit = tightest(slot.tpot_objective_seconds, slot.ntpot_objective_seconds)
        limitor_reference = or_reference(limit, REFERENCE_TOKEN_SECONDS)
        row.prompt_tokens = _log_tokens(slot.prompt_tokens)
        row.quality = _within(slot.predicted_quality, 0.0, 1.0)
        row.output_tokens = _log_tokens(slot.predicted_output_tokens)
        row.progress = generated / total
        row.started = 1.0 if generated > 0.0 else 0.0
        row.kv_share = _within(slot.kv_share, 0.0, 1.0)
        row.age_share = _within(slot.age_seconds / (limitor_reference * total), 0.0, 4.0)
        row.ttft_share = 0.0
        if generated < 1.0 and slot.ttft_objective_seconds > 0.0:
            row.ttft_share = _within(slot.age_seconds / slot.ttft_objective_seconds, 0.0, 4.0)
        row.latency = 0.0
        if generated > 0.0:
            row.latency = _log_ratio(
                slot.ntpot_seconds, or_reference(slot.ntpot_objective_seconds, REFERENCE_TOKEN_SECONDS)
            )
        latency = 0.0
        if slot.ntpot_objective_seconds > 0.0:
            latency = (slot.age_seconds + ahead) / (total * slot.ntpot_objective_seconds)
        if slot.tpot_objective_seconds > 0.0:
            decode = (slot.decode_age_seconds + ahead) / (max(total - 1.0, 1.0) * slot.tpot_objective_seconds)
            latency = max(latency, decode)
        row.predicted_latency = _log_ratio(latency, 1.0) if limit < np.inf else 0.0
        row.objective = _log_ratio(limitor_reference, REFERENCE_TOKEN_SECONDS)
        row.objective_unset = 0.0 if limit < np.inf else 1.0


class Means(NamedTuple):
    """Over the allowed experts."""

    experts: float
    quality: float
    output_tokens: float
    work_seconds: float
    best_expected: float
    """Best own expected QoS less the impact."""


@compiled
def _expected(state: RoutingState, estimates: npt.NDArray[np.void], e: int) -> float:
    one = estimates[e]
    return float(state.candidate[e].predicted_quality * one.slo_probability - one.impact)


@compiled
def estimate_allowed(state: RoutingState, estimates: npt.NDArray[np.void]) -> Means:
    """Write the ESTIMATE rows, [E], of the allowed experts and return means over them."""
    experts, quality, output, work, best = 0.0, 0.0, 0.0, 0.0, -np.inf
    for e in range(state.expert.shape[0]):
        if state.allowed[e]:
            estimate(state, e, DEFAULT_PESSIMISM, DEFAULT_SPREAD, DEFAULT_LENGTH_SPREAD, estimates)
            experts += 1.0
            quality += state.candidate[e].predicted_quality
            output += state.candidate[e].predicted_output_tokens
            work += estimates[e].work_seconds
            best = max(best, _expected(state, estimates, e))
    count = max(experts, 1.0)
    return Means(experts, quality / count, output / count, work / count, best)


@compiled
def encode_prediction(state: RoutingState, estimates: npt.NDArray[np.void], e: int, means: Means, row: Record) -> None:
    """Write what is predicted of the request on expert e."""
    request = state.request[0]
    candidate = state.candidate[e]
    one = estimates[e]
    scale = max(means.quality, 1e-3)
    row.quality = _within(candidate.predicted_quality, 0.0, 1.0)
    row.quality_difference = 4.0 * _within(candidate.predicted_quality - means.quality, -1.0, 1.0)
    row.quality_relative = _within(candidate.predicted_quality / scale - 1.0, -2.0, 2.0)
    row.output_tokens = _log_tokens(candidate.predicted_output_tokens)
    row.output_relative = _log_ratio(candidate.predicted_output_tokens, means.output_tokens)
    row.work_relative = _log_ratio(one.work_seconds, means.work_seconds)
    row.work_scale = _log_ratio(one.work_seconds, request.mean_work_seconds)
    row.ttft = _log_ratio(one.ttft_seconds, or_reference(request.ttft_objective_seconds, _REFERENCE_TTFT_SECONDS))
    row.tpot = _log_ratio(one.tpot_seconds, or_reference(request.tpot_objective_seconds, REFERENCE_TOKEN_SECONDS))
    row.ntpot = _log_ratio(one.ntpot_seconds, or_reference(request.ntpot_objective_seconds, REFERENCE_TOKEN_SECONDS))
    row.slo_logit = _logit(one.slo_probability)
    row.impact = _within(one.impact / scale, 0.0, 4.0)
    row.health = _within(one.health, 0.0, 1.0)
    expected = _expected(state, estimates, e)
    row.expected = _within(expected / scale, -4.0, 4.0)
    row.advantage = _within((expected - means.best_expected) / scale, -4.0, 0.0)


@compiled
def encode_request(request: Record, means: Means, row: Record) -> None:
    """Write the request."""
    row.prompt_tokens = _log_tokens(request.prompt_tokens)
    row.ttft_set = 1.0 if request.ttft_objective_seconds > 0.0 else 0.0
    row.ttft_objective = _log_ratio(
        or_reference(request.ttft_objective_seconds, _REFERENCE_TTFT_SECONDS), _REFERENCE_TTFT_SECONDS
    )
    row.tpot_set = 1.0 if request.tpot_objective_seconds > 0.0 else 0.0
    row.tpot_objective = _log_ratio(
        or_reference(request.tpot_objective_seconds, REFERENCE_TOKEN_SECONDS), REFERENCE_TOKEN_SECONDS
    )
    row.ntpot_set = 1.0 if request.ntpot_objective_seconds > 0.0 else 0.0
    row.ntpot_objective = _log_ratio(
        or_reference(request.ntpot_objective_seconds, REFERENCE_TOKEN_SECONDS), REFERENCE_TOKEN_SECONDS
    )
    row.may_drop = 1.0 if request.may_drop > 0.0 else 0.0
    row.load_ratio = _within(request.load_ratio, 0.0, 4.0)
    row.experts = _log_count(means.experts)
    row.mean_work = _log_ratio(request.mean_work_seconds, 1.0)
    row.mean_quality = _within(means.quality, 0.0, 1.0)
    row.mean_output_tokens = _log_tokens(means.output_tokens)
    row.best_expected = _within(means.best_expected / max(means.quality, 1e-3), -4.0, 4.0)
