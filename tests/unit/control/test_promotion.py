"""What the conditions PolicyPromoted and LatencyModelFits say."""

import pytest
from tests.unit.control.rollouts import sent_candidate, sent_report

from pointsman.policy.v1 import policy_pb2
from pointsman_operator.control.promotion import latency_model_fits, policy_promoted
from pointsman_operator.control.rollouts import PolicyRollout, read_report

ACTIVE, REJECTED, ROLLED_BACK = policy_pb2.ACTIVE, policy_pb2.REJECTED, policy_pb2.ROLLED_BACK


@pytest.mark.parametrize(
    ("sent", "status", "reason", "message"),
    [
        (sent_report(), "Unknown", "NoCandidate", "No version was trained yet; spec.training says when that happens."),
        (sent_report(phase="training"), "Unknown", "Training", "A version is being trained. Routers run the packaged"),
        (sent_report(phase="gating"), "Unknown", "Gating", "A version is being judged by the gate."),
        (
            sent_report(candidate=sent_candidate(policy_pb2.WAITING)),
            "Unknown",
            "WaitingForPromotion",
            "Version 0a1b2c3d4e5f passed the gate and waits for `pointsman policies promote`.",
        ),
        (
            sent_report(candidate=sent_candidate(policy_pb2.SHADOW)),
            "Unknown",
            "Shadow",
            "Version 0a1b2c3d4e5f is in shadow: it decides beside the active version",
        ),
        (
            sent_report(candidate=sent_candidate()),
            "Unknown",
            "Canary",
            "Version 0a1b2c3d4e5f is in canary: it serves 25 % of requests, which are compared with the others.",
        ),
        (
            sent_report(active="aa", history=(("aa", ACTIVE, "not worse than the control at 50 %"),)),
            "True",
            "Promoted",
            "Version aa is active: not worse than the control at 50 %.",
        ),
        (
            sent_report(active="aa", phase="training", history=(("aa", ACTIVE, "promoted by hand"),)),
            "True",
            "Promoted",
            "Version aa is active: promoted by hand.",
        ),
        (
            sent_report(active="aa", history=(("bb", REJECTED, "loses 0.1 QoS"), ("aa", ACTIVE, "good"))),
            "False",
            "Rejected",
            "Version bb did not pass the gate: loses 0.1 QoS. Routers run version aa.",
        ),
        (
            sent_report(history=(("bb", ROLLED_BACK, "QoS is lower"), ("", ACTIVE, "bb is rolled back"))),
            "False",
            "RolledBack",
            "Version bb was withdrawn: QoS is lower. Routers run the packaged policy.",
        ),
        (
            sent_report(problem="the volume is full"),
            "Unknown",
            "NoCandidate",
            "Routers run the packaged policy. Held up: the volume is full",
        ),
    ],
)
def test_what_a_report_means(sent: policy_pb2.RolloutReport, status: str, reason: str, message: str) -> None:
    found = policy_promoted(PolicyRollout(read_report(sent)))
    assert (found.status, found.reason) == (status, reason)
    assert message in found.message


def test_a_service_that_does_not_answer_refuses_or_does_not_know_the_policy() -> None:
    away = PolicyRollout(unreachable="UNAVAILABLE")
    assert (policy_promoted(away).status, policy_promoted(away).reason) == ("Unknown", "PolicyServiceUnreachable")
    assert "(UNAVAILABLE)" in policy_promoted(away).message
    assert latency_model_fits(away).reason == "PolicyServiceUnreachable"
    refused = policy_promoted(PolicyRollout(refusal="schedule: no such month"))
    assert (refused.status, refused.reason) == ("False", "SettingsRefused")
    assert "schedule: no such month" in refused.message
    assert policy_promoted(PolicyRollout()).reason == "NotConfigured"


def test_experts_that_changed_are_named_by_what_they_did() -> None:
    drifts = (("a", 1.6, True), ("b", 0.7, True), ("c", 1.02, False), ("d", 1.3, True))
    found = latency_model_fits(PolicyRollout(read_report(sent_report(drifts=drifts))))
    assert (found.status, found.reason) == ("False", "Drifted")
    assert found.message.startswith("Experts are slower than believed: a, d; faster than believed: b.")
    moved = (("a", 1.7, True), *drifts[1:])
    assert latency_model_fits(PolicyRollout(read_report(sent_report(drifts=moved)))) == found


def test_experts_that_are_as_believed_and_those_of_which_nothing_is_known() -> None:
    known = read_report(sent_report(drifts=(("a", 1.02, False),)))
    assert latency_model_fits(PolicyRollout(known)).status == "True"
    assert latency_model_fits(PolicyRollout(read_report(sent_report()))).reason == "TooFewOutcomes"
