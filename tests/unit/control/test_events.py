"""Events tell what changed, in few words and few events."""

import datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tests.unit.control.rollouts import sent_report
from tests.unit.control.subjects import NOW, WHERE, discovered_experts, report, subject

from pointsman.policy.v1 import policy_pb2
from pointsman_operator.control.events import Announcer, Event, document, experts_changed, flips
from pointsman_operator.control.metrics import OperatorMetrics
from pointsman_operator.control.rollouts import PolicyRollout, read_report
from pointsman_operator.control.status import make_status
from pointsman_operator.control.status_document import Status
from pointsman_operator.errors import KubernetesError

EMPTY = Status(observed_generation=0)


def _status(**changes: Any) -> Status:
    return make_status(subject(), [report(**changes)], WHERE, EMPTY, None, NOW)


def test_each_condition_that_flips_is_an_event() -> None:
    before, after = _status(), _status(generation=1, fresh_expert_count=0)
    assert [(one.kind, one.reason) for one in flips(before, after)] == [("Warning", "Stale"), ("Warning", "Pending")]
    assert [(one.kind, one.reason) for one in flips(after, before)] == [("Normal", "Fresh"), ("Normal", "AllRouters")]
    assert next(flips(after, before)).message == "MetricsFresh is True: The load of every ready expert is known."


def test_a_new_policy_tells_what_is_known_and_a_new_message_tells_nothing() -> None:
    reasons = [one.reason for one in flips(EMPTY, _status(ready_expert_count=0))]
    assert reasons == ["Valid", "Found", "AllRouters"]
    assert list(flips(_status(generation=1), _status(generation=0))) == []


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("", "", None),
        ("ab", "ab", None),
        ("", "ab", "2 joined (a, b): 2 of 9 experts are ready."),
        ("ab", "bc", "1 joined (c), 1 left (a): 2 of 9 experts are ready."),
        ("", "abcdefg", "7 joined (a, b, c, d, e and 2 more): 7 of 9 experts are ready."),
    ],
)
def test_experts_that_come_and_go_are_summed_up(before: str, after: str, message: str | None) -> None:
    event = experts_changed(frozenset(before), frozenset(after), 9)
    assert (event.message if event else None) == message


class Server:
    def __init__(self) -> None:
        self.events: list[Any] = []
        self.error: KubernetesError | None = None

    async def create(self, path: str, body: Any) -> Any:
        if self.error:
            raise self.error
        self.events.append(body)
        return body


async def test_conditions_that_flap_do_not_hide_the_steps_of_a_rollout() -> None:
    server = Server()
    announcer = Announcer(server, OperatorMetrics(CollectorRegistry()), "replica", lambda: 0.0)  # type: ignore[arg-type]
    for number in range(20):
        await announcer.conditions(subject(), _status(generation=number % 2 + 1), _status(generation=2 - number % 2))
    rollout = PolicyRollout(read_report(sent_report(history=(("aa", policy_pb2.ROLLED_BACK, "QoS is lower"),))))
    after = make_status(subject(), [report()], WHERE, EMPTY, None, NOW, rollout)
    await announcer.conditions(subject(), after.model_copy(update={"history": None}), after)
    assert (server.events[-1]["reason"], server.events[-1]["type"]) == ("VersionRolledBack", "Warning")


async def test_events_are_limited_and_joins_are_told_every_half_minute() -> None:
    server, now = Server(), [0.0]
    metrics = OperatorMetrics(CollectorRegistry())
    announcer = Announcer(server, metrics, "replica", lambda: now[0])  # type: ignore[arg-type]
    await announcer.experts(subject(discovered=discovered_experts("a")))
    assert server.events == []
    for second in range(61):
        now[0] = float(second)
        await announcer.experts(subject(discovered=discovered_experts(*"ab"[: 1 + (second + 1) % 2])))
    assert [one["message"] for one in server.events] == [
        "1 joined (b): 2 of 2 experts are ready.",
        "1 left (b): 1 of 1 experts are ready.",
    ]
    for number in range(20):
        await announcer.conditions(subject(), _status(generation=number % 2 + 1), _status(generation=2 - number % 2))
    posted = metrics.registry.get_sample_value("pointsman_operator_events_total", {"result": "posted"})
    suppressed = metrics.registry.get_sample_value("pointsman_operator_events_total", {"result": "suppressed"})
    assert posted == len(server.events) <= 10
    assert suppressed == 22 - len(server.events)
    announcer.forget(frozenset())
    await announcer.experts(subject(discovered=discovered_experts("z")))
    assert len(server.events) == posted


async def test_an_event_that_cannot_be_posted_is_counted() -> None:
    server = Server()
    server.error = KubernetesError("away")
    metrics = OperatorMetrics(CollectorRegistry())
    announcer = Announcer(server, metrics, "replica", lambda: 0.0)  # type: ignore[arg-type]
    await announcer.conditions(subject(), EMPTY, _status())
    assert metrics.registry.get_sample_value("pointsman_operator_events_total", {"result": "failed"}) == 4.0


def test_an_event_is_about_its_policy_and_keeps_the_limits_of_the_api() -> None:
    now = datetime.datetime(2026, 11, 22, 8, 0, 0, tzinfo=datetime.UTC)
    made = document("u1", "edge", "n" * 253, Event("Warning", "Stale", "x" * 5_000), now, "r" * 300)
    assert made["involvedObject"]["uid"] == "u1"
    assert len(made["metadata"]["generateName"]) < 250
    assert len(made["message"]) <= 1_024
    assert len(made["reportingInstance"]) <= 128
    assert made["lastTimestamp"] == "2026-11-22T08:00:00Z"
