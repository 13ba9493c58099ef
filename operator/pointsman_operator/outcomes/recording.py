"""Puts what happened into the records of the policy service's API. Pure: times and ids are passed in."""

import math
from collections.abc import Iterable, Sequence

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman_operator.decision import Outcome, OutcomeStatus
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.learning import Learning
from pointsman_operator.state.policy_view import Objectives
from pointsman_operator.trace import LATENCIES, Trace
from pointsman_policy.latency.profiles import ProfileTable, beliefs
from pointsman_policy.state import RoutingState

MOST_PROMPT_CHARACTERS = 32_768
"""Of a prompt that is stored; the rest is cut off."""
_MOST_STATE_BYTES = 262_144
_MOST_TOKENS = 100_000_000
_MOST_LOAD_RATIO = 1e6

_ARMS = {"control": pb.CONTROL, "canary": pb.CANARY}
_STATUSES = {
    OutcomeStatus.COMPLETED: pb.COMPLETED,
    OutcomeStatus.CANCELLED: pb.CANCELLED,
    OutcomeStatus.FAILED: pb.FAILED,
}


def outcome_record(trace: Trace, outcome: Outcome | None, decided_at: float) -> pb.Record:
    """Return the record of a decision whose request has ended.

    Predictions and propensity are those of the pick, and left out if another expert served in its place.

    Args:
        trace: The decision.
        outcome: How it ended, None = nothing was heard of it any more. The policy service knows decisions by id, so an
            end that comes after that is not learnt from.
        decided_at: When it was made, Unix seconds.
    """
    endpoints = trace.view.endpoints
    picked = endpoints[trace.chosen].address
    served = outcome.endpoint if outcome is not None and outcome.endpoint else picked
    decision = trace.decision
    experts = [endpoint.name for endpoint in endpoints]
    into = _decided(decision.id, decision.policy, decision.picker, experts, trace.learning, decided_at)
    _set_objectives(into, trace.objectives)
    into.expert = _name_of(served, endpoints)
    into.prompt_tokens = min(trace.prompt_tokens, _MOST_TOKENS)
    into.load_ratio = _load_ratio(trace.load_ratio)
    if served == picked:
        _set_prediction(into, trace)
    else:
        into.propensity = 0.0
    into.status = pb.EXPIRED if outcome is None else _STATUSES[outcome.status]
    if outcome is not None:
        _set_measured(into, outcome)
    return pb.Record(outcome=into)


def dropped_record(
    decision_id: str,
    policy: str,
    picker: str,
    experts: Sequence[str],
    state: RoutingState,
    learning: Learning,
    decided_at: float,
) -> pb.Record:
    """Return the record of a request that admission dropped.

    Args:
        decision_id: Unique, as that of any decision.
        policy: "namespace/name".
        picker: The one that dropped it.
        experts: Names of the state's experts, in its order.
        state: What the decision rested on.
        learning: How the decision came about.
        decided_at: Unix seconds.
    """
    request = state.request[0]
    into = _decided(decision_id, policy, picker, experts, learning, decided_at)
    _set_objectives(into, Objectives(*(float(request[f"{kind}_objective_seconds"]) for kind in LATENCIES)))
    into.status = pb.DROPPED
    into.may_drop = True
    into.prompt_tokens = int(request["prompt_tokens"])
    into.load_ratio = _load_ratio(float(request["load_ratio"]))
    return pb.Record(outcome=into)


def label_record(decision_id: str, policy: str, quality: float) -> pb.Record:
    """Return the record of a quality, 0 to 1, that was reported after the outcome."""
    return pb.Record(label=pb.QualityLabel(id=decision_id, policy=policy, quality=quality))


def fleet_record(policy: str, endpoints: Iterable[Endpoint], profiles: ProfileTable | None, at: float) -> pb.Record:
    """Return the record of the experts that a policy has from a moment on.

    Args:
        policy: "namespace/name".
        endpoints: As they are declared, before any calibration.
        profiles: Where experts without coefficients of their own are looked up.
        at: Unix seconds.
    """
    experts = [_expert(endpoint, profiles) for endpoint in endpoints]
    return pb.Record(fleet=pb.Fleet(policy=policy, at=at, experts=experts))


def _decided(
    decision_id: str,
    policy: str,
    picker: str,
    experts: Sequence[str],
    learning: Learning,
    decided_at: float,
) -> pb.Outcome:
    """Return an outcome with what is known of every decision."""
    sample = learning.sample
    outcome = pb.Outcome(
        id=decision_id,
        policy=policy,
        decided_at=decided_at,
        version=learning.version,
        arm=_ARMS[learning.arm],
        picker=picker,
        may_drop=sample.may_drop,
        propensity=learning.propensity,
        explored=learning.explored,
        prompt_features=sample.prompt_features,
        prompt=_text(sample.prompt),
    )
    if 0 < len(sample.packed_state) <= _MOST_STATE_BYTES:
        outcome.state = sample.packed_state
        outcome.experts.extend(experts)
    if learning.shadow is not None:
        version, expert, gain = learning.shadow
        outcome.shadow.CopyFrom(pb.Shadow(version=version, expert=expert, predicted_gain=_finite(gain)))
    return outcome


def _text(prompt: str) -> str:
    """Return the start of a prompt as protobuf takes it: lone surrogates, which JSON may hold, are no text."""
    return prompt[:MOST_PROMPT_CHARACTERS].encode("utf-8", "replace").decode("utf-8")


def _set_objectives(into: pb.Outcome, objectives: Objectives) -> None:
    into.ttft_objective_seconds = objectives.ttft_seconds
    into.tpot_objective_seconds = objectives.tpot_seconds
    into.ntpot_objective_seconds = objectives.ntpot_seconds


def _set_prediction(into: pb.Outcome, trace: Trace) -> None:
    """Write what was predicted of the pick; latencies are infinite where it was expected never to answer."""
    estimate, prediction = trace.estimates[trace.chosen], trace.predictions[trace.chosen]
    into.prediction.CopyFrom(
        pb.Prediction(
            quality=float(prediction["predicted_quality"]),
            output_tokens=float(prediction["predicted_output_tokens"]),
            ttft_seconds=float(estimate["ttft_seconds"]),
            tpot_seconds=float(estimate["tpot_seconds"]),
            ntpot_seconds=float(estimate["ntpot_seconds"]),
            slo_probability=float(estimate["slo_probability"]),
        )
    )


def _set_measured(into: pb.Outcome, outcome: Outcome) -> None:
    if outcome.prompt_tokens:
        into.prompt_tokens = min(outcome.prompt_tokens, _MOST_TOKENS)
    if outcome.output_tokens:
        into.output_tokens = min(outcome.output_tokens, _MOST_TOKENS)
    for name in ("ttft_seconds", "duration_seconds", "quality"):
        value = getattr(outcome, name)
        if value is not None and math.isfinite(value):
            setattr(into, name, value)


def _name_of(address: str, endpoints: Iterable[Endpoint]) -> str:
    """Return the name of the expert at an address, of one that the policy did not know its address."""
    return next((endpoint.name for endpoint in endpoints if endpoint.address == address), address)


def _expert(endpoint: Endpoint, profiles: ProfileTable | None) -> pb.Expert:
    expert = endpoint.expert
    profile = beliefs(expert, profiles)
    return pb.Expert(
        name=expert.name,
        model=expert.model,
        gpu=expert.gpu,
        base_seconds=profile.coefficients.base_seconds,
        per_sequence_seconds=profile.coefficients.per_sequence_seconds,
        per_context_token_seconds=profile.coefficients.per_context_token_seconds,
        per_prefill_token_seconds=profile.coefficients.per_prefill_token_seconds,
        kv_capacity_tokens=profile.kv_capacity_tokens,
        maximum_running=expert.maximum_running,
        quality_prior=expert.quality_prior_percent / 100,
        output_tokens_prior=expert.output_tokens_prior,
    )


def _load_ratio(value: float) -> float:
    return min(_finite(value), _MOST_LOAD_RATIO)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0
