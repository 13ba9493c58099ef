"""The status document: what it says, and when it is worth a write."""

from typing import Any

import pytest
from tests.unit.control.subjects import LATER, NOW, WHERE, discovered_experts, manifest, report, subject

from pointsman_operator.control.reports import RouterReport
from pointsman_operator.control.status import Change, change, make_status, merge_patch, read_status
from pointsman_operator.control.status_document import Status

EMPTY = Status(observed_generation=0)


def _made(**changes: Any) -> Status:
    values: dict[str, Any] = {
        "subject": subject(),
        "routers": [report()],
        "where": WHERE,
        "before": EMPTY,
        "slo_attainment_percent": None,
        "now": NOW,
    }
    return make_status(**values | changes)


def test_a_policy_on_which_all_is_well() -> None:
    assert _made(slo_attainment_percent=98).document() == {
        "observedGeneration": 2,
        "conditions": [
            _condition("Accepted", "Valid", "The policy is valid."),
            _condition("ExpertsDiscovered", "Found", "2 of 2 experts are ready."),
            _condition("MetricsFresh", "Fresh", "The load of every ready expert is known."),
            _condition("Programmed", "AllRouters", "The only router runs this generation."),
        ],
        "experts": {"ready": 2, "total": 2, "summary": "2/2"},
        "routers": {"programmed": 1, "ready": 1},
        "activePolicy": {"version": "built-in", "stage": "Active"},
        "sloAttainmentPercent": 98,
    }


def _condition(kind: str, reason: str, message: str) -> dict[str, Any]:
    return {
        "type": kind,
        "status": "True",
        "observedGeneration": 2,
        "lastTransitionTime": NOW,
        "reason": reason,
        "message": message,
    }


def test_a_policy_that_is_not_valid_has_no_experts_and_keeps_what_serves() -> None:
    wrong = subject(metadata__generation=3, spec__picker={"name": "Unheard"})
    made = _made(subject=wrong, routers=[report(policy_version="0a1b")])
    assert [(one.type, one.status) for one in made.conditions] == [
        ("Accepted", "False"),
        ("ExpertsDiscovered", "Unknown"),
        ("MetricsFresh", "True"),
        ("Programmed", "False"),
    ]
    assert made.experts is None
    assert made.active_policy is not None
    assert made.active_policy.version == "0a1b"
    assert made.routers is not None
    assert (made.routers.programmed, made.routers.ready) == (0, 1)


@pytest.mark.parametrize(
    ("versions", "version", "stage"),
    [
        (["a", "a"], "a", "Active"),
        (["a", "b", "b"], "b", "Mixed"),
        (["b", "a"], "a", "Mixed"),
        ([""], "built-in", "Active"),
    ],
)
def test_the_active_policy_is_the_most_frequent_version(versions: list[str], version: str, stage: str) -> None:
    routers = [report(f"r{number}", policy_version=one) for number, one in enumerate(versions)]
    active = _made(routers=routers).active_policy
    assert active is not None
    assert (active.version, active.stage) == (version, stage)


def test_the_active_policy_is_remembered_while_no_router_answers_and_forgotten_when_there_is_none() -> None:
    before = _made()
    assert _made(before=before, routers=[RouterReport("r0", problem="refused")]).active_policy == before.active_policy
    assert _made(before=before, routers=[]).active_policy is None
    assert _made(before=before, routers=[RouterReport("r0")]).active_policy is None


def test_what_is_stored_reads_back_and_needs_no_write() -> None:
    made = _made()
    stored = manifest(status=made.document())
    assert read_status(stored) == made
    again = _made(before=read_status(stored), now=LATER)
    assert again == made
    assert change(stored["status"], again) is Change.NONE


def test_order_and_times_are_no_reason_to_write() -> None:
    made = _made()
    stored = made.document()
    stored["conditions"] = [{**one, "lastTransitionTime": LATER} for one in reversed(stored["conditions"])]
    assert change(stored, made) is Change.NONE


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (None, Change.NOW),
        ({}, Change.NOW),
        ({**_made(slo_attainment_percent=97).document()}, Change.SLOW),
        ({**_made().document()}, Change.NOW),
        (
            {**_made(slo_attainment_percent=98, subject=subject(discovered=discovered_experts("a"))).document()},
            Change.NOW,
        ),
        ({**_made(slo_attainment_percent=98).document(), "foreign": 1}, Change.NOW),
        ({**_made(slo_attainment_percent=98).document(), "conditions": None}, Change.NOW),
    ],
)
def test_how_urgent_a_change_is(stored: dict[str, Any] | None, expected: Change) -> None:
    assert change(stored, _made(slo_attainment_percent=98)) is expected


def test_what_is_gone_is_removed_by_the_patch() -> None:
    stored = {**_made(slo_attainment_percent=98).document(), "foreign": 1}
    made = _made(routers=[])
    patch = merge_patch(stored, made)
    assert patch["status"]["sloAttainmentPercent"] is None
    assert patch["status"]["activePolicy"] is None
    assert patch["status"]["foreign"] is None
    assert merge_patch(None, made) == {"status": made.document()}


@pytest.mark.parametrize("stored", [None, [], "x", {"conditions": "x"}, {"conditions": [1, {"type": "Accepted"}]}])
def test_a_stored_status_that_makes_no_sense_counts_as_none(stored: object) -> None:
    assert read_status(manifest(status=stored)) == EMPTY


def test_what_makes_sense_in_a_stored_status_is_used() -> None:
    stored = _made().document()
    stored["conditions"][1]["status"] = "Perhaps"
    assert [one.type for one in read_status(manifest(status=stored)).conditions] == [
        "Accepted",
        "MetricsFresh",
        "Programmed",
    ]
