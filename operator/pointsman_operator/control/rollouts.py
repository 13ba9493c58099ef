"""What the policy service says of rollouts."""

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pointsman.policy.v1 import policy_pb2
from pointsman_operator.control.rollout_document import (
    MOST_REQUESTS,
    Arm,
    Canary,
    Candidate,
    Gate,
    HistoryEntry,
    Shadow,
)

PACKAGED = "packaged"
"""Shown as the version of the policy that comes with Pointsman."""

_STAGES = {
    policy_pb2.GATING: "Gating",
    policy_pb2.REJECTED: "Rejected",
    policy_pb2.WAITING: "Waiting",
    policy_pb2.SHADOW: "Shadow",
    policy_pb2.CANARY_STAGE: "Canary",
    policy_pb2.ACTIVE: "Active",
    policy_pb2.RETIRED: "Retired",
    policy_pb2.ROLLED_BACK: "RolledBack",
}
_UNKNOWN_STAGE = "Unknown"
_LONGEST_TEXT = 1_024
_LONGEST_SUMMARY = 2_048
_LATEST = 253_402_300_799.0
"""The last second of the year 9999, which is as far as dates go."""


@dataclass(frozen=True, slots=True)
class Drift:
    """An expert that is not what the active version believes."""

    expert: str
    slower: bool


@dataclass(frozen=True, slots=True)
class RolloutReport:
    """Where one policy stands."""

    active_version: str
    """`PACKAGED` where nothing that was trained is active."""
    active_digest: str = ""
    candidate: Candidate | None = None
    history: tuple[HistoryEntry, ...] = ()
    """Newest first."""
    training_phase: str = ""
    """Empty = no training runs."""
    judged_experts: int = 0
    """Experts of which it is known how fast they are."""
    drifts: tuple[Drift, ...] = ()
    """Those of them that have changed."""
    problem: str = ""
    """What keeps the service from its work; empty = nothing."""


@dataclass(frozen=True, slots=True)
class PolicyRollout:
    """What is known of one policy's rollout."""

    report: RolloutReport | None = None
    """None = the service does not know the policy, or does not answer."""
    refusal: str = ""
    """Why the service does not take the policy's settings; empty = it does."""
    unreachable: str = ""
    """Why the service does not answer; empty = it does."""


@dataclass(frozen=True, slots=True)
class Rollouts:
    """One answer of the policy service."""

    reports: Mapping[str, RolloutReport] = field(default_factory=dict)
    """By "namespace/name"."""
    refusals: Mapping[str, str] = field(default_factory=dict)
    """Why it does not take the settings of a policy, by "namespace/name"."""
    unreachable: str = ""
    """Why it did not answer; empty = it did."""

    def of(self, key: str) -> PolicyRollout:
        """Return what is known of a policy."""
        return PolicyRollout(self.reports.get(key), self.refusals.get(key, ""), self.unreachable)


def read_report(sent: policy_pb2.RolloutReport) -> RolloutReport:
    """Return a report as statuses show it; figures that make no sense become 0."""
    return RolloutReport(
        active_version=_version(sent.active.version),
        active_digest=sent.active.digest[:128],
        candidate=_candidate(sent.candidate) if sent.HasField("candidate") else None,
        history=tuple(_entry(one) for one in sent.history[:10]),
        training_phase=sent.training.phase if sent.HasField("training") else "",
        judged_experts=len(sent.drifts),
        drifts=tuple(Drift(one.expert, one.ratio > 1.0) for one in sent.drifts if one.drifted),
        problem=sent.problem[:_LONGEST_TEXT],
    )


def _candidate(sent: policy_pb2.Candidate) -> Candidate:
    return Candidate(
        version=_version(sent.id.version),
        digest=sent.id.digest[:128],
        stage=_STAGES.get(sent.stage, _UNKNOWN_STAGE),
        since=_time(sent.since),
        waiting_for=sent.waiting_for[:_LONGEST_TEXT],
        gate=_gate(sent.gate) if sent.HasField("gate") else None,
        shadow=_shadow(sent.shadow) if sent.HasField("shadow") else None,
        canary=_canary(sent.canary) if sent.HasField("canary") else None,
    )


def _gate(sent: policy_pb2.Gate) -> Gate:
    return Gate(
        passed=sent.passed,
        summary=sent.summary[:_LONGEST_SUMMARY],
        candidate_qos_permille=_share(sent.candidate_qos),
        active_qos_permille=_share(sent.active_qos),
        rule_qos_permille=_share(sent.rule_qos),
        gain_lower_bound_permille=_difference(sent.gain_lower_bound),
        replay_agreement_percent=_share(sent.replay_agreement) // 10,
    )


def _shadow(sent: policy_pb2.ShadowReport) -> Shadow:
    return Shadow(
        decisions=_count(sent.decisions),
        agreement_percent=_share(sent.agreement) // 10,
        predicted_gain_permille=_difference(sent.predicted_gain),
    )


def _canary(sent: policy_pb2.Canary) -> Canary:
    return Canary(
        percent=min(max(sent.percent, 0), 100),
        candidate=_arm(sent.candidate),
        control=_arm(sent.control),
        qos_difference_low_permille=_difference(sent.qos_difference_low),
        qos_difference_high_permille=_difference(sent.qos_difference_high),
        slo_difference_low_permille=_difference(sent.slo_difference_low),
        slo_difference_high_permille=_difference(sent.slo_difference_high),
    )


def _arm(sent: policy_pb2.ArmReport) -> Arm:
    return Arm(
        requests=_count(sent.requests),
        qos_permille=_share(sent.mean_qos),
        slo_attainment_permille=_share(sent.slo_attainment),
    )


def _entry(sent: policy_pb2.HistoryEntry) -> HistoryEntry:
    return HistoryEntry(
        at=_time(sent.at),
        version=_version(sent.version),
        stage=_STAGES.get(sent.stage, _UNKNOWN_STAGE),
        reason=sent.reason[:_LONGEST_TEXT],
    )


def _version(name: str) -> str:
    return name[:63] or PACKAGED


def _count(value: int) -> int:
    return min(max(value, 0), MOST_REQUESTS)


def _share(value: float) -> int:
    return round(1_000 * min(max(value, 0.0), 1.0)) if math.isfinite(value) else 0


def _difference(value: float) -> int:
    return round(1_000 * min(max(value, -1.0), 1.0)) if math.isfinite(value) else 0


def _time(seconds: float) -> str:
    known = min(max(seconds, 0.0), _LATEST) if math.isfinite(seconds) else 0.0
    return datetime.datetime.fromtimestamp(known, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
