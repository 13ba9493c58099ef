"""Each condition says what is the case, why, and what to do."""

import pytest
from tests.unit.control.subjects import LATER, NOW, WHERE, discovered_experts, report, subject

from pointsman_operator.control.conditions import (
    Finding,
    accepted,
    experts_discovered,
    metrics_fresh,
    not_accepted_programmed,
    programmed,
    with_times,
)
from pointsman_operator.control.reports import PolicyReport, RouterReport
from pointsman_operator.control.status_document import LONGEST_MESSAGE, Condition
from pointsman_operator.discovery.pods import Discovered
from pointsman_operator.routerpolicy import Experts, InferencePoolRef, Selector

EXPERTS = Experts(selector=Selector(match_labels={"tier": "gpu", "app": "vllm"}))
POOL = Experts(inference_pool_ref=InferencePoolRef(name="llama"))


@pytest.mark.parametrize(
    ("problem", "taken", "expected"),
    [
        ("", "", ("True", "Valid", "The policy is valid.")),
        ("spec.x: wrong", "", ("False", "InvalidSpec", "spec.x: wrong")),
        ("", "the name is taken", ("False", "ModelNameTaken", "the name is taken")),
        ("spec.x: wrong", "the name is taken", ("False", "InvalidSpec", "spec.x: wrong")),
    ],
)
def test_accepted(problem: str, taken: str, expected: tuple[str, str, str]) -> None:
    assert accepted(problem, taken) == Finding("Accepted", *expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("experts", "discovered", "status", "reason", "message"),
    [
        (EXPERTS, discovered_experts("a", "b"), "True", "Found", "2 of 2 experts are ready."),
        (
            EXPERTS,
            discovered_experts("a", waiting=("b",), pending=("c",)),
            "True",
            "Found",
            "1 of 3 experts are ready; not ready b, c.",
        ),
        (
            EXPERTS,
            discovered_experts("a", problems={"z": "has a wrong port", "y": "names no model"}),
            "True",
            "SomePodsInvalid",
            "1 of 3 experts are ready; left out pod y names no model; pod z has a wrong port.",
        ),
        (
            EXPERTS,
            discovered_experts(waiting=("b",), problems={"z": "has a wrong port"}),
            "False",
            "NoneReady",
            "None of 2 pods is ready: left out pod z has a wrong port; not ready b.",
        ),
        (
            EXPERTS,
            discovered_experts(problems={"z": "has a wrong port"}),
            "False",
            "InvalidPods",
            "None of 1 pod is ready: left out pod z has a wrong port.",
        ),
        (
            EXPERTS,
            Discovered(),
            "False",
            "NoPods",
            "No pod of this namespace has the labels app=vllm,tier=gpu; start experts with them, or mend "
            "spec.experts.selector.matchLabels.",
        ),
        (POOL, Discovered(), "False", "NoPods", "The InferencePool selects no pod of this namespace; start pods with"),
        (
            POOL,
            Discovered(problems={"": "InferencePool llama does not exist"}),
            "False",
            "InferencePoolUnusable",
            "Inf",
        ),
        (None, Discovered(), "Unknown", "NotAccepted", "The policy is not valid; see condition Accepted."),
        (
            EXPERTS,
            discovered_experts("a", waiting=tuple("bcdefgh")),
            "True",
            "Found",
            "1 of 8 experts are ready; not ready b, c, d, e, f, and 2 more.",
        ),
    ],
)
def test_experts_discovered(
    experts: Experts | None, discovered: Discovered, status: str, reason: str, message: str
) -> None:
    found = experts_discovered(experts, discovered)
    assert (found.type, found.status, found.reason) == ("ExpertsDiscovered", status, reason)
    assert found.message.startswith(message)


def _fresh(ready: int, fresh: int, problem: str = "") -> PolicyReport:
    return PolicyReport(
        "u1", 2, "ImpactGreedy", ready_expert_count=ready, fresh_expert_count=fresh, telemetry_problem=problem
    )


@pytest.mark.parametrize(
    ("reports", "status", "reason", "message"),
    [
        ([], "Unknown", "NoRouterReports", "No router has reported; see condition Programmed."),
        ([("r0", _fresh(0, 0))], "Unknown", "NoExperts", "No expert is ready; see condition ExpertsDiscovered."),
        ([("r0", _fresh(2, 2)), ("r1", _fresh(2, 2))], "True", "Fresh", "The load of every ready expert is known."),
        (
            [("r0", _fresh(2, 2)), ("r1", _fresh(2, 1))],
            "False",
            "Stale",
            "The load of some experts is not known, or too old, on r1; check spec.telemetry.prometheusUrl",
        ),
        (
            [("r0", _fresh(2, 0, "Prometheus refuses the connection"))],
            "False",
            "TelemetryUnavailable",
            "The load of some experts is not known, or too old, on r0: Prometheus refuses the connection; check spec.",
        ),
        (
            [("r0", _fresh(2, 2, "Prometheus is down, so experts are read directly"))],
            "True",
            "ReadAnotherWay",
            "The load is known, but Prometheus is down, so experts are read directly.",
        ),
    ],
)
def test_metrics_fresh(reports: list[tuple[str, PolicyReport]], status: str, reason: str, message: str) -> None:
    found = metrics_fresh(reports)
    assert (found.type, found.status, found.reason) == ("MetricsFresh", status, reason)
    assert found.message.startswith(message)


@pytest.mark.parametrize(
    ("routers", "status", "reason", "message"),
    [
        ([], "False", "NoRouters", f"No router is ready ({WHERE}); check the router Deployment and its pods."),
        ([report("r0")], "True", "AllRouters", "The only router runs this generation."),
        ([report("r0"), report("r1", generation=3)], "True", "AllRouters", "All 2 routers run this generation."),
        ([report("r0"), report("r1", generation=1)], "False", "Pending", "Not yet run by r1 (runs generation 1 of 2)."),
        ([report("r0"), RouterReport("r1")], "False", "Pending", "Not yet run by r1 (does not know the policy yet)."),
        ([report("r0", uid="other")], "False", "Pending", "Not yet run by r0 (does not know the policy yet)."),
        (
            [report("r0"), report("r1", problem="spec.picker.name: no picker is called 'X'")],
            "False",
            "Refused",
            "Refused by r1: spec.picker.name: no picker is called 'X'.",
        ),
        (
            [report("r0"), RouterReport("r1", problem="no answer within 2 s")],
            "False",
            "RoutersNotAnswering",
            "No answer from r1 (no answer within 2 s).",
        ),
        (
            [report("r0", generation=1), report("r1", problem="bad"), RouterReport("r2", problem="refused")],
            "False",
            "Refused",
            "Refused by r1: bad; not yet run by r0 (runs generation 1 of 2); no answer from r2 (refused).",
        ),
    ],
)
def test_programmed(routers: list[RouterReport], status: str, reason: str, message: str) -> None:
    assert programmed("edge/chat", "u1", 2, routers, WHERE) == Finding(
        "Programmed",
        status,  # type: ignore[arg-type]
        reason,
        message,
    )


@pytest.mark.parametrize(
    ("routers", "end"),
    [
        ([report("r0", generation=1)], "Routers go on with the last generation that was."),
        ([report("r0", picker="")], "No router serves it."),
        ([report("r0", uid="other")], "No router serves it."),
        ([], "No router serves it."),
    ],
)
def test_a_policy_that_is_not_valid_is_never_programmed(routers: list[RouterReport], end: str) -> None:
    found = not_accepted_programmed(routers, "edge/chat", "u1")
    assert (found.status, found.reason) == ("False", "NotAccepted")
    assert found.message.endswith(end)


def _condition(kind: str, status: str, when: str) -> Condition:
    return Condition.model_validate(
        {
            "type": kind,
            "status": status,
            "observedGeneration": 1,
            "lastTransitionTime": when,
            "reason": "Old",
            "message": "",
        }
    )


def test_the_transition_time_changes_with_the_status_only() -> None:
    before = [_condition("Accepted", "True", NOW), _condition("Programmed", "False", NOW)]
    findings = [Finding("Accepted", "True", "Valid", "new text"), Finding("Programmed", "True", "AllRouters", "")]
    same, flipped = with_times(findings, before, 2, LATER)
    assert (same.last_transition_time, same.reason, same.message, same.observed_generation) == (
        NOW,
        "Valid",
        "new text",
        2,
    )
    assert flipped.last_transition_time == LATER


def test_conditions_of_others_are_kept_as_they_are() -> None:
    promoted = _condition("PolicyPromoted", "True", NOW)
    assert with_times([Finding("Accepted", "True", "Valid", "")], [promoted], 2, LATER)[1] == promoted


def test_long_messages_are_cut() -> None:
    (condition,) = with_times([Finding("Accepted", "False", "InvalidSpec", "x" * 5_000)], [], 1, NOW)
    assert len(condition.message) == LONGEST_MESSAGE
    assert condition.message.endswith("x ...")


def test_reasons_are_one_camel_case_word() -> None:
    found = [
        accepted("", ""),
        experts_discovered(EXPERTS, Discovered()),
        metrics_fresh([]),
        programmed("edge/chat", "u1", 1, [], WHERE),
    ]
    assert all(one.reason.isalnum() and one.reason[0].isupper() for one in found)
    assert subject().checked.policy is not None
