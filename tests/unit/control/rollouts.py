"""What a policy service says, for the tests of the control plane."""

from pointsman.policy.v1 import policy_pb2

BEGAN = 1_800_000_000.0  # 2027-01-15T08:00:00Z


def sent_report(
    *,
    active: str = "",
    candidate: policy_pb2.Candidate | None = None,
    history: tuple[tuple[str, "policy_pb2.Stage", str], ...] = (),
    phase: str = "",
    drifts: tuple[tuple[str, float, bool], ...] = (),
    problem: str = "",
) -> policy_pb2.RolloutReport:
    """Return a report on policy edge/chat; history is version, stage and reason, newest first."""
    count = len(history)
    return policy_pb2.RolloutReport(
        policy="edge/chat",
        active=policy_pb2.VersionId(version=active, digest="d" * 64) if active else None,
        candidate=candidate,
        history=[
            policy_pb2.HistoryEntry(at=BEGAN + count - number, version=version, stage=stage, reason=reason)
            for number, (version, stage, reason) in enumerate(history)
        ],
        training=policy_pb2.TrainingProgress(phase=phase) if phase else None,
        drifts=[policy_pb2.Drift(expert=name, ratio=ratio, drifted=drifted) for name, ratio, drifted in drifts],
        problem=problem,
    )


def sent_candidate(
    stage: "policy_pb2.Stage" = policy_pb2.CANARY_STAGE, *, requests: int = 120, percent: int = 25
) -> policy_pb2.Candidate:
    """Return a candidate that is as far as its canary."""
    return policy_pb2.Candidate(
        id=policy_pb2.VersionId(version="0a1b2c3d4e5f", digest="e" * 64),
        stage=stage,
        since=BEGAN,
        gate=policy_pb2.Gate(
            passed=True,
            summary="beats both",
            candidate_qos=0.7311,
            active_qos=0.61,
            rule_qos=0.65,
            gain_lower_bound=0.04,
            replay_agreement=0.87,
        ),
        shadow=policy_pb2.ShadowReport(decisions=900, agreement=0.8, predicted_gain=0.05),
        canary=policy_pb2.Canary(
            percent=percent,
            control=policy_pb2.ArmReport(requests=360, mean_qos=0.6, slo_attainment=0.9),
            candidate=policy_pb2.ArmReport(requests=requests, mean_qos=0.7, slo_attainment=0.95),
            qos_difference_low=-0.02,
            qos_difference_high=0.2,
            slo_difference_low=-0.05,
            slo_difference_high=0.15,
        ),
        waiting_for="300 requests at 25 %",
    )
