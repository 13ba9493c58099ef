"""What a status says of a rollout, and when that is worth a write or an event."""

import math

import pytest
from tests.unit.control.rollouts import BEGAN, sent_candidate, sent_report
from tests.unit.control.subjects import NOW, WHERE, report, subject

from pointsman.policy.v1 import policy_pb2
from pointsman_operator.control.events import flips, rollout_steps
from pointsman_operator.control.rollouts import PolicyRollout, read_report
from pointsman_operator.control.status import Change, change, make_status, read_status
from pointsman_operator.control.status_document import Status

EMPTY = Status(observed_generation=0)
HISTORY = (
    ("aa", policy_pb2.SHADOW, "it passed the gate"),
    ("aa", policy_pb2.WAITING, "beats both"),
)


def made(
    sent: policy_pb2.RolloutReport | None, before: Status = EMPTY, *, unreachable: str = "", running: str = ""
) -> Status:
    rollout = PolicyRollout(read_report(sent) if sent is not None else None, unreachable=unreachable)
    return make_status(subject(), [report(policy_version=running)], WHERE, before, None, NOW, rollout)


def test_a_candidate_is_shown_with_its_gate_and_its_canary() -> None:
    document = made(sent_report(candidate=sent_candidate(), history=HISTORY)).document()
    assert document["candidate"] == {
        "version": "0a1b2c3d4e5f",
        "digest": "e" * 64,
        "stage": "Canary",
        "since": "2027-01-15T08:00:00Z",
        "waitingFor": "300 requests at 25 %",
        "gate": {
            "passed": True,
            "summary": "beats both",
            "candidateQosPermille": 731,
            "activeQosPermille": 610,
            "ruleQosPermille": 650,
            "gainLowerBoundPermille": 40,
            "replayAgreementPercent": 87,
        },
        "shadow": {"decisions": 900, "agreementPercent": 80, "predictedGainPermille": 50},
        "canary": {
            "percent": 25,
            "candidate": {"requests": 120, "qosPermille": 700, "sloAttainmentPermille": 950},
            "control": {"requests": 360, "qosPermille": 600, "sloAttainmentPermille": 900},
            "qosDifferenceLowPermille": -20,
            "qosDifferenceHighPermille": 200,
            "sloDifferenceLowPermille": -50,
            "sloDifferenceHighPermille": 150,
        },
    }
    assert document["history"] == [
        {"at": "2027-01-15T08:00:02Z", "version": "aa", "stage": "Shadow", "reason": "it passed the gate"},
        {"at": "2027-01-15T08:00:01Z", "version": "aa", "stage": "Waiting", "reason": "beats both"},
    ]
    assert [one["type"] for one in document["conditions"]][-2:] == ["PolicyPromoted", "LatencyModelFits"]


def test_the_active_version_has_its_digest_where_routers_run_it() -> None:
    sent = sent_report(active="aa")
    assert made(sent, running="aa").document()["activePolicy"]["digest"] == "d" * 64
    assert "digest" not in made(sent, running="bb").document()["activePolicy"]


def test_figures_that_move_are_written_seldom_and_stages_at_once() -> None:
    stored = made(sent_report(candidate=sent_candidate(requests=120))).document()
    assert change(stored, read_status({"status": stored})) is Change.NONE
    assert change(stored, made(sent_report(candidate=sent_candidate(requests=121)))) is Change.SLOW
    assert change(stored, made(sent_report(candidate=sent_candidate(percent=50)))) is Change.NOW
    assert change(stored, made(sent_report(candidate=sent_candidate(policy_pb2.SHADOW)))) is Change.NOW
    assert change(stored, made(sent_report())) is Change.NOW


def test_a_service_that_is_away_leaves_what_is_known() -> None:
    before = made(sent_report(candidate=sent_candidate(), history=HISTORY, active="aa"), running="aa")
    away = made(None, before, unreachable="UNAVAILABLE", running="aa")
    assert (away.candidate, away.history) == (before.candidate, before.history)
    assert {one.type: one.reason for one in away.conditions}["PolicyPromoted"] == "PolicyServiceUnreachable"
    assert [one for one in away.conditions if one.type == "Programmed"] == [
        one for one in before.conditions if one.type == "Programmed"
    ]


def test_without_a_policy_service_nothing_is_left_of_an_earlier_one() -> None:
    before = made(sent_report(candidate=sent_candidate(), history=HISTORY))
    after = make_status(subject(), [report()], WHERE, before, None, NOW)
    assert (after.candidate, after.history) == (None, None)
    assert [one.type for one in after.conditions] == ["Accepted", "ExpertsDiscovered", "MetricsFresh", "Programmed"]


def test_a_policy_that_is_not_valid_is_not_judged() -> None:
    wrong = subject(spec__picker={"name": "Unheard"})
    status = make_status(wrong, [report()], WHERE, EMPTY, None, NOW, PolicyRollout(read_report(sent_report())))
    assert {one.reason for one in status.conditions[-2:]} == {"NotAccepted"}


def test_each_new_entry_of_the_history_is_one_event_and_the_condition_none() -> None:
    before = made(sent_report(history=HISTORY[1:]))
    withdrawn = ("aa", policy_pb2.ROLLED_BACK, "QoS is lower")
    after = made(
        policy_pb2.RolloutReport(
            policy="edge/chat",
            history=[
                policy_pb2.HistoryEntry(at=BEGAN + 3 - number, version=version, stage=stage, reason=reason)
                for number, (version, stage, reason) in enumerate((withdrawn, *HISTORY))
            ],
        ),
        before,
    )
    assert [(one.kind, one.reason, one.message) for one in rollout_steps(before, after)] == [
        ("Normal", "VersionShadow", "Version aa is Shadow: it passed the gate."),
        ("Warning", "VersionRolledBack", "Version aa is RolledBack: QoS is lower."),
    ]
    assert list(flips(before, after)) == []
    assert list(rollout_steps(after, after)) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -5.0, 1e30])
def test_figures_that_make_no_sense_do_not_break_the_status(value: float) -> None:
    candidate = sent_candidate()
    candidate.since = value
    candidate.gate.candidate_qos = value
    candidate.canary.qos_difference_low = value
    candidate.canary.percent = 400
    candidate.canary.control.requests = 2**62
    candidate.stage = 77  # type: ignore[assignment] # of a newer service
    status = made(sent_report(candidate=candidate))
    assert read_status({"status": status.document()}) == status
    assert status.candidate is not None
    assert status.candidate.stage == "Unknown"
