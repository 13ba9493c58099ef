"""What a network sees of a RoutingState: bounded, scale-free numbers, the same in training and in serving.

Times are taken relative to the objective that they count against, lengths and counts as logarithms, qualities and work
relative to their mean over the allowed experts, so that one network serves fleets and objectives it has not seen. The
analytic predictions (`pointsman_policy.latency.estimator`) are features too. An expert that is not allowed is no part
of the graph: its rows are zero and it changes nothing elsewhere, as if it were padding.

Every feature is finite and bounded whatever the state holds; an unknown quantity is 0 with a flag of its own where the
difference matters.
"""

import hashlib
import json
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.compiled import compiled
from pointsman_policy.latency.estimator import (
    DEFAULT_LENGTH_SPREAD,
    DEFAULT_PESSIMISM,
    DEFAULT_SPREAD,
    ESTIMATE,
    estimate,
    tightest,
)
from pointsman_policy.state import Record, RoutingState

FEATURES_VERSION = 1
"""Raised when a feature changes its meaning under the same name."""

EXPERT_FEATURES = np.dtype(
    [
        ("running_requests", np.float32),  # logarithms of counts
        ("waiting_requests", np.float32),
        ("in_flight_requests", np.float32),
        ("batch_fullness", np.float32),  # running over the most that the batch holds
        ("kv_used", np.float32),
        ("kv_unknown", np.float32),
        ("kv_demand", np.float32),  # context running and prompts waiting, over the capacity; 0 = unknown
        ("running_context", np.float32),  # logarithms of tokens
        ("running_remaining", np.float32),
        ("waiting_prompts", np.float32),
        ("waiting_outputs", np.float32),
        ("prefill_share", np.float32),  # of the expert's time, at the recent rate of prompts
        ("telemetry_age", np.float32),
        ("pace", np.float32),  # logarithm of observed over believed iteration time, which all times below include
        ("pace_known", np.float32),  # how much that rests on, up to 1
        ("iteration", np.float32),  # logarithms of times over the per-token objective: of the batch as it is,
        ("base", np.float32),  # ... of an empty iteration,
        ("sequences", np.float32),  # ... added by 32 sequences,
        ("context", np.float32),  # ... added by 8,192 tokens of context,
        ("prompt", np.float32),  # ... added by this request's prompt
        ("quality", np.float32),
        ("quality_difference", np.float32),  # from the mean
        ("quality_relative", np.float32),  # over the mean, less 1
        ("output_tokens", np.float32),
        ("output_relative", np.float32),  # logarithms of ratios to a mean: of output tokens to that of the experts,
        ("work_relative", np.float32),  # ... of work to that of the experts,
        ("work_scale", np.float32),  # ... of work to that of requests
        ("ttft", np.float32),  # logarithms of predicted times over their objectives
        ("tpot", np.float32),
        ("ntpot", np.float32),
        ("slo_logit", np.float32),
        ("impact", np.float32),  # over the mean quality
        ("health", np.float32),
        ("expected", np.float32),  # own expected QoS less the impact, over the mean quality
        ("advantage", np.float32),  # of `expected` over the best expert's
    ]
)

SLOT_FEATURES = np.dtype(
    [
        ("prompt_tokens", np.float32),
        ("quality", np.float32),
        ("output_tokens", np.float32),
        ("progress", np.float32),  # tokens generated over those predicted
        ("started", np.float32),
        ("kv_share", np.float32),
        ("age_share", np.float32),  # age over the time that its per-token objective gives the whole answer
        ("ttft_share", np.float32),  # age over the TTFT objective, before the first token
        ("latency", np.float32),  # logarithm of NTPOT so far over its objective
        ("predicted_latency", np.float32),  # ... of the predicted final latency over the tightest objective
        ("objective", np.float32),  # logarithm of the per-token objective
        ("objective_unset", np.float32),
    ]
)

REQUEST_FEATURES = np.dtype(
    [
        ("prompt_tokens", np.float32),
        ("ttft_set", np.float32),
        ("ttft_objective", np.float32),
        ("tpot_set", np.float32),
        ("tpot_objective", np.float32),
        ("ntpot_set", np.float32),
        ("ntpot_objective", np.float32),
        ("may_drop", np.float32),
        ("load_ratio", np.float32),
        ("experts", np.float32),  # logarithm of the allowed ones
        ("mean_work", np.float32),
        ("mean_quality", np.float32),
        ("mean_output_tokens", np.float32),
        ("best_expected", np.float32),
    ]
)

FEATURES = {
    table: tuple(rows.names or ())
    for table, rows in (("expert", EXPERT_FEATURES), ("slot", SLOT_FEATURES), ("request", REQUEST_FEATURES))
}
"""Names of the features by table, in their order."""

_EXPERT_WIDTH, _SLOT_WIDTH, _REQUEST_WIDTH = (len(FEATURES[table]) for table in ("expert", "slot", "request"))
_REFERENCE_TOKEN_SECONDS = 0.03  # stands in for a per-token objective that is not set
_REFERENCE_TTFT_SECONDS = 1.0
_SEQUENCES = 32.0
_CONTEXT_TOKENS = 8192.0
_LARGEST_LOGIT = 6.0
LOGIT_SCALE = 3.0
"""The feature `slo_logit` times this is the logit of the analytic P(meets its objectives)."""

_PACE_SECONDS = 3.0


class Features(NamedTuple):
    """Inputs of a network for one request; a leading axis [B] on every array makes a batch."""

    expert: npt.NDArray[np.float32]
    """[E, FE], columns as in FEATURES["expert"]; 0 where not allowed."""
    running: npt.NDArray[np.float32]
    """[E, R, FS], columns as in FEATURES["slot"]; 0 where masked."""
    running_mask: npt.NDArray[np.bool_]
    """[E, R]; slots in use are at the front."""
    waiting: npt.NDArray[np.float32]
    """[E, W, FS]."""
    waiting_mask: npt.NDArray[np.bool_]
    """[E, W]."""
    request: npt.NDArray[np.float32]
    """[FR], columns as in FEATURES["request"]."""
    allowed: npt.NDArray[np.bool_]
    """[E]; False also for padding."""


def feature_digest() -> str:
    """Return a digest of the feature table; a network runs only on the table that it was trained with."""
    text = json.dumps({"version": FEATURES_VERSION, "features": FEATURES})
    return hashlib.sha256(text.encode()).hexdigest()


def empty_features(batch: tuple[int, ...], experts: int, running_slots: int, waiting_slots: int) -> Features:
    """Return zeroed features; `batch` is () for one request or (B,)."""
    slot_width = len(FEATURES["slot"])
    return Features(
        expert=np.zeros((*batch, experts, len(FEATURES["expert"])), np.float32),
        running=np.zeros((*batch, experts, running_slots, slot_width), np.float32),
        running_mask=np.zeros((*batch, experts, running_slots), np.bool_),
        waiting=np.zeros((*batch, experts, waiting_slots, slot_width), np.float32),
        waiting_mask=np.zeros((*batch, experts, waiting_slots), np.bool_),
        request=np.zeros((*batch, len(FEATURES["request"])), np.float32),
        allowed=np.zeros((*batch, experts), np.bool_),
    )


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
def _or_reference(objective: float, reference: float) -> float:
    """Return an objective, or what stands in for one that is not set."""
    return objective if 0.0 < objective < np.inf else reference


@compiled
def _iteration_seconds(expert: Record) -> float:
    """Return how long an iteration of the batch as it is now is believed to last."""
    seconds = expert.base_seconds + expert.per_sequence_seconds * expert.running_request_count
    return float(seconds + expert.per_context_token_seconds * expert.running_context_tokens)


@compiled
def _encode_load(expert: Record, row: Record) -> None:
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
def _encode_speed(expert: Record, prompt_tokens: float, limit: float, row: Record) -> None:
    row.iteration = _log_ratio(_iteration_seconds(expert), limit)
    row.base = _log_ratio(expert.base_seconds, limit)
    row.sequences = _log_ratio(expert.per_sequence_seconds * _SEQUENCES, limit)
    row.context = _log_ratio(expert.per_context_token_seconds * _CONTEXT_TOKENS, limit)
    row.prompt = _log_ratio(expert.per_prefill_token_seconds * prompt_tokens, limit)


@compiled
def _encode_slots(
    slots: npt.NDArray[np.void],
    mask: npt.NDArray[np.bool_],
    iteration: float,
    out: npt.NDArray[np.float32],
    out_mask: npt.NDArray[np.bool_],
) -> None:
    rows = out.view(SLOT_FEATURES)
    for k in range(mask.shape[0]):
        out_mask[k] = mask[k]
        if not mask[k]:
            out[k] = 0.0
            continue
        slot = slots[k]
        row = rows[k, 0]
        generated = _within(slot.generated_tokens, 0.0, 1e8)
        total = max(_within(slot.predicted_output_tokens, 1.0, 1e8), generated)
        ahead = (total - generated) * iteration
        limit = tightest(slot.tpot_objective_seconds, slot.ntpot_objective_seconds)
        limit_or_reference = _or_reference(limit, _REFERENCE_TOKEN_SECONDS)
        row.prompt_tokens = _log_tokens(slot.prompt_tokens)
        row.quality = _within(slot.predicted_quality, 0.0, 1.0)
        row.output_tokens = _log_tokens(slot.predicted_output_tokens)
        row.progress = generated / total
        row.started = 1.0 if generated > 0.0 else 0.0
        row.kv_share = _within(slot.kv_share, 0.0, 1.0)
        row.age_share = _within(slot.age_seconds / (limit_or_reference * total), 0.0, 4.0)
        row.ttft_share = 0.0
        if generated < 1.0 and slot.ttft_objective_seconds > 0.0:
            row.ttft_share = _within(slot.age_seconds / slot.ttft_objective_seconds, 0.0, 4.0)
        row.latency = 0.0
        if generated > 0.0:
            row.latency = _log_ratio(
                slot.ntpot_seconds, _or_reference(slot.ntpot_objective_seconds, _REFERENCE_TOKEN_SECONDS)
            )
        latency = 0.0
        if slot.ntpot_objective_seconds > 0.0:
            latency = (slot.age_seconds + ahead) / (total * slot.ntpot_objective_seconds)
        if slot.tpot_objective_seconds > 0.0:
            decode = (slot.decode_age_seconds + ahead) / (max(total - 1.0, 1.0) * slot.tpot_objective_seconds)
            latency = max(latency, decode)
        row.predicted_latency = _log_ratio(latency, 1.0) if limit < np.inf else 0.0
        row.objective = _log_ratio(limit_or_reference, _REFERENCE_TOKEN_SECONDS)
        row.objective_unset = 0.0 if limit < np.inf else 1.0


class _Means(NamedTuple):
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
def _estimate_allowed(state: RoutingState, estimates: npt.NDArray[np.void]) -> _Means:
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
    return _Means(experts, quality / count, output / count, work / count, best)


@compiled
def _encode_prediction(
    state: RoutingState, estimates: npt.NDArray[np.void], e: int, means: _Means, row: Record
) -> None:
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
    row.ttft = _log_ratio(one.ttft_seconds, _or_reference(request.ttft_objective_seconds, _REFERENCE_TTFT_SECONDS))
    row.tpot = _log_ratio(one.tpot_seconds, _or_reference(request.tpot_objective_seconds, _REFERENCE_TOKEN_SECONDS))
    row.ntpot = _log_ratio(one.ntpot_seconds, _or_reference(request.ntpot_objective_seconds, _REFERENCE_TOKEN_SECONDS))
    row.slo_logit = _logit(one.slo_probability)
    row.impact = _within(one.impact / scale, 0.0, 4.0)
    row.health = _within(one.health, 0.0, 1.0)
    expected = _expected(state, estimates, e)
    row.expected = _within(expected / scale, -4.0, 4.0)
    row.advantage = _within((expected - means.best_expected) / scale, -4.0, 0.0)


@compiled
def _encode_request(request: Record, means: _Means, row: Record) -> None:
    row.prompt_tokens = _log_tokens(request.prompt_tokens)
    row.ttft_set = 1.0 if request.ttft_objective_seconds > 0.0 else 0.0
    row.ttft_objective = _log_ratio(
        _or_reference(request.ttft_objective_seconds, _REFERENCE_TTFT_SECONDS), _REFERENCE_TTFT_SECONDS
    )
    row.tpot_set = 1.0 if request.tpot_objective_seconds > 0.0 else 0.0
    row.tpot_objective = _log_ratio(
        _or_reference(request.tpot_objective_seconds, _REFERENCE_TOKEN_SECONDS), _REFERENCE_TOKEN_SECONDS
    )
    row.ntpot_set = 1.0 if request.ntpot_objective_seconds > 0.0 else 0.0
    row.ntpot_objective = _log_ratio(
        _or_reference(request.ntpot_objective_seconds, _REFERENCE_TOKEN_SECONDS), _REFERENCE_TOKEN_SECONDS
    )
    row.may_drop = 1.0 if request.may_drop > 0.0 else 0.0
    row.load_ratio = _within(request.load_ratio, 0.0, 4.0)
    row.experts = _log_count(means.experts)
    row.mean_work = _log_ratio(request.mean_work_seconds, 1.0)
    row.mean_quality = _within(means.quality, 0.0, 1.0)
    row.mean_output_tokens = _log_tokens(means.output_tokens)
    row.best_expected = _within(means.best_expected / max(means.quality, 1e-3), -4.0, 4.0)


@compiled
def encode(state: RoutingState, features: Features) -> None:
    """Write the features of a state.

    Args:
        state: E experts, R running and W waiting slots.
        features: Of the same sizes, from `empty_features`; every element is written.
    """
    estimates = np.zeros(state.expert.shape[0], ESTIMATE)
    means = _estimate_allowed(state, estimates)
    request = state.request[0]
    limit = _or_reference(
        tightest(request.tpot_objective_seconds, request.ntpot_objective_seconds), _REFERENCE_TOKEN_SECONDS
    )
    rows = features.expert.view(EXPERT_FEATURES)
    for e in range(state.expert.shape[0]):
        features.allowed[e] = state.allowed[e]
        if not state.allowed[e]:
            features.expert[e] = 0.0
            features.running[e] = 0.0
            features.waiting[e] = 0.0
            features.running_mask[e] = False
            features.waiting_mask[e] = False
            continue
        _encode_load(state.expert[e], rows[e, 0])
        _encode_speed(state.expert[e], request.prompt_tokens, limit, rows[e, 0])
        _encode_prediction(state, estimates, e, means, rows[e, 0])
        iteration = _iteration_seconds(state.expert[e])
        _encode_slots(state.running[e], state.running_mask[e], iteration, features.running[e], features.running_mask[e])
        _encode_slots(state.waiting[e], state.waiting_mask[e], iteration, features.waiting[e], features.waiting_mask[e])
    _encode_request(request, means, features.request.view(REQUEST_FEATURES)[0])


@compiled
def features_of(state: RoutingState) -> Features:
    """Return the features of one state."""
    experts, running = state.running_mask.shape
    waiting = state.waiting_mask.shape[1]
    features = Features(
        np.zeros((experts, _EXPERT_WIDTH), np.float32),
        np.zeros((experts, running, _SLOT_WIDTH), np.float32),
        np.zeros((experts, running), np.bool_),
        np.zeros((experts, waiting, _SLOT_WIDTH), np.float32),
        np.zeros((experts, waiting), np.bool_),
        np.zeros(_REQUEST_WIDTH, np.float32),
        np.zeros(experts, np.bool_),
    )
    encode(state, features)
    return features


@compiled
def encode_batch(states: RoutingState, features: Features) -> None:
    """Write the features of B states: every array of both has a leading axis [B]; see `encode`."""
    for b in range(states.expert.shape[0]):
        state = RoutingState(
            states.expert[b],
            states.running[b],
            states.running_mask[b],
            states.waiting[b],
            states.waiting_mask[b],
            states.request[b],
            states.candidate[b],
            states.allowed[b],
        )
        one = Features(
            features.expert[b],
            features.running[b],
            features.running_mask[b],
            features.waiting[b],
            features.waiting_mask[b],
            features.request[b],
            features.allowed[b],
        )
        encode(state, one)
