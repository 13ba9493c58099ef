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
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.compiled import allocating
from pointsman_policy.latency.estimator import ESTIMATE, tightest
from pointsman_policy.runtime.encoding import LOGIT_SCALE as LOGIT_SCALE
from pointsman_policy.runtime.encoding import (
    REFERENCE_TOKEN_SECONDS,
    encode_load,
    encode_prediction,
    encode_request,
    encode_slots,
    encode_speed,
    estimate_allowed,
    iteration_seconds,
    or_reference,
)
from pointsman_policy.state import RoutingState

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


@allocating
def encode(state: RoutingState, features: Features) -> None:
    """Write the features of a state.

    Args:
        state: E experts, R running and W waiting slots.
        features: Of the same sizes, from `empty_features`; every element is written.
    """
    estimates = np.zeros(state.expert.shape[0], ESTIMATE)
    means = estimate_allowed(state, estimates)
    request = state.request[0]
    limit = or_reference(
        tightest(request.tpot_objective_seconds, request.ntpot_objective_seconds), REFERENCE_TOKEN_SECONDS
    )
    rows = features.expert.view(EXPERT_FEATURES)
    running = features.running.view(SLOT_FEATURES)
    waiting = features.waiting.view(SLOT_FEATURES)
    for e in range(state.expert.shape[0]):
        features.allowed[e] = state.allowed[e]
        features.running[e] = 0.0
        features.waiting[e] = 0.0
        if not state.allowed[e]:
            features.expert[e] = 0.0
            features.running_mask[e] = False
            features.waiting_mask[e] = False
            continue
        encode_load(state.expert[e], rows[e, 0])
        encode_speed(state.expert[e], request.prompt_tokens, limit, rows[e, 0])
        encode_prediction(state, estimates, e, means, rows[e, 0])
        iteration = iteration_seconds(state.expert[e])
        features.running_mask[e] = state.running_mask[e]
        features.waiting_mask[e] = state.waiting_mask[e]
        encode_slots(state.running[e], state.running_mask[e], iteration, running[e])
        encode_slots(state.waiting[e], state.waiting_mask[e], iteration, waiting[e])
    encode_request(request, means, features.request.view(REQUEST_FEATURES)[0])


@allocating
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


@allocating
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
