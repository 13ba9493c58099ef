"""Where policies stand, as `ListRollouts` and `ListVersions` tell it."""

import json
from typing import Final

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman_policy.errors import DocumentError
from pointsman_policy.registry.registry import ListedVersion, Registry
from pointsman_policy.registry.version import GateReport
from pointsman_policy.rollout.comparison import Arm, Comparison
from pointsman_policy.rollout.state import PACKAGED, Candidate, RolloutState, Stage, VersionName
from pointsman_policy.service.evidence import LiveEvidence
from pointsman_policy.service.rollouts import Rollouts

STAGES: Final = {
    Stage.REJECTED: pb.REJECTED,
    Stage.WAITING: pb.WAITING,
    Stage.SHADOW: pb.SHADOW,
    Stage.CANARY: pb.CANARY_STAGE,
    Stage.ACTIVE: pb.ACTIVE,
    Stage.RETIRED: pb.RETIRED,
    Stage.ROLLED_BACK: pb.ROLLED_BACK,
}
"""As the wire has them."""


def rollout_report(policy: str, rollouts: Rollouts, registry: Registry) -> pb.RolloutReport:
    """Return where a policy's rollout stands; what trainings and the store tell is left to others."""
    state = rollouts.state(policy)
    report = pb.RolloutReport(policy=policy, active_since=state.active_since, problem=rollouts.problem(policy))
    if state.active != PACKAGED:
        report.active.CopyFrom(version_id(state.active))
    for entry in state.history:
        report.history.add(at=entry.at, version=entry.version, stage=STAGES[entry.stage], reason=entry.reason)
    if state.candidate is not None:
        report.candidate.CopyFrom(_candidate(policy, state.candidate, rollouts, registry))
    return report


def version_report(listed: ListedVersion, state: RolloutState) -> pb.VersionReport:
    """Return what is known of a version."""
    stage = state.stage_of(listed.name)
    report = pb.VersionReport(
        id=pb.VersionId(version=listed.name, digest=listed.digest),
        stage=STAGES[stage] if stage is not None else pb.STAGE_UNSPECIFIED,
        created_at=listed.created_at,
        parent=listed.parent,
        outcomes=listed.outcomes,
        problem=listed.problem,
    )
    if listed.gate is not None:
        report.gate.CopyFrom(gate(listed.gate))
    return report


def version_details(registry: Registry, policy: str, version: str) -> str:
    """Return a version's gate and calibration as JSON; empty = it is damaged."""
    try:
        found, verdict = registry.read(policy, version), registry.gate(policy, version)
    except DocumentError:
        return ""
    return json.dumps(
        {
            "gate": verdict.model_dump(mode="json", by_alias=True) if verdict is not None else None,
            "calibration": found.calibration.model_dump(mode="json", by_alias=True),
            "picker": found.exported.picker,
            "training": dict(found.training),
        }
    )


def gate(report: GateReport) -> pb.Gate:
    """Return the verdict on a version."""
    return pb.Gate(
        passed=report.passed,
        summary=report.summary,
        candidate_qos=report.candidate_qos,
        active_qos=report.active_qos,
        rule_qos=report.rule_qos,
        gain_lower_bound=report.gain_lower_bound,
        replay_agreement=report.replay_agreement,
    )


def version_id(name: VersionName) -> pb.VersionId:
    """Return a version's name and digest."""
    return pb.VersionId(version=name.version, digest=name.digest)


def _candidate(policy: str, candidate: Candidate, rollouts: Rollouts, registry: Registry) -> pb.Candidate:
    result = pb.Candidate(
        id=version_id(candidate.id),
        stage=STAGES[candidate.stage],
        since=candidate.since,
        waiting_for=rollouts.waits_for(policy),
    )
    try:
        verdict = registry.gate(policy, candidate.id.version)
    except DocumentError as error:
        verdict = GateReport(passed=False, summary=str(error))
    if verdict is not None:
        result.gate.CopyFrom(gate(verdict))
    evidence = rollouts.evidence.live(policy)
    if evidence is not None and candidate.stage in (Stage.SHADOW, Stage.CANARY):
        result.shadow.CopyFrom(_shadow(evidence))
    if evidence is not None and candidate.stage is Stage.CANARY:
        result.canary.CopyFrom(_canary(candidate.percent, evidence.comparison))
    return result


def _shadow(evidence: LiveEvidence) -> pb.ShadowReport:
    shadow = evidence.shadow
    count = max(shadow.decisions, 1)
    return pb.ShadowReport(
        decisions=shadow.decisions, agreement=shadow.agreements / count, predicted_gain=shadow.gain / count
    )


def _canary(percent: int, comparison: Comparison) -> pb.Canary:
    return pb.Canary(
        percent=percent,
        control=_arm("control", comparison),
        candidate=_arm("canary", comparison),
        qos_difference_low=comparison.qos.low,
        qos_difference_high=comparison.qos.high,
        slo_difference_low=comparison.slo.low,
        slo_difference_high=comparison.slo.high,
    )


def _arm(arm: Arm, comparison: Comparison) -> pb.ArmReport:
    return pb.ArmReport(
        requests=comparison.requests(arm),
        mean_qos=comparison.qos.mean(arm),
        slo_attainment=comparison.slo.mean(arm),
    )
