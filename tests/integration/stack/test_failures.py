import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import requests
from tests.integration.stack.conftest import Load
from tests.integration.stack.processes import eventually

if TYPE_CHECKING:
    from tests.integration.stack.conftest import Stack


def served_by(stack: "Stack", decision_id: str) -> str:
    address: str = stack.outcome(decision_id)["outcome"]["endpoint"]
    return address


def pickers(stack: "Stack", load: Load) -> set[str]:
    return {stack.explain(answer.decision_id)["decision"]["picker"] for answer in load.answers[-8:]}


def drains(stack: "Stack") -> None:
    eventually(lambda: stack.metric("open_decisions") == 0, "decisions stay open")


def test_an_expert_that_is_removed_is_not_picked_again_and_ends_its_answers(stack: "Stack") -> None:
    gone = stack.address("large")
    with stack.stream(tokens=100) as stream, Load(stack, "edge-chat", clients=2) as load:
        load.proceed(4)
        stack.write_experts("large")
        eventually(lambda: "large" not in stack.views(), "the router does not take the change over")
        begun = len(load.answers) + 2  # two were under way
        load.proceed(10)
        events = stream.read_all()
    assert events[-1] == b"data: [DONE]"
    assert len(events) == 101
    assert not load.failures()
    later = [stack.explain(answer.decision_id)["decision"]["endpoints"] for answer in load.answers[begun:]]
    assert later
    assert all(gone != one["expert"]["endpoint"] for endpoints in later for one in endpoints)
    assert served_by(stack, stream.decision_id) == gone

    stack.write_experts()
    eventually(lambda: "large" in stack.views(), "the expert does not come back")
    answer = stack.post()
    assert served_by(stack, answer.decision_id) == gone


def test_an_expert_that_is_not_ready_is_left_alone(stack: "Stack") -> None:
    (large,) = [one for one in stack.experts if one["name"] == "large"]
    large["ready"] = False
    try:
        stack.write_experts()
        eventually(lambda: stack.readiness("large") is False, "the router does not take the change over")
        assert served_by(stack, stack.post().decision_id) == stack.address("medium")
    finally:
        del large["ready"]
        stack.write_experts()
    eventually(lambda: stack.readiness("large") is True, "it does not become ready")


def test_a_changed_policy_takes_effect_without_losing_a_request(stack: "Stack") -> None:
    (turns,) = [one for one in stack.policies if one["metadata"]["name"] == "turns"]
    with Load(stack, "edge-turns") as load:
        load.proceed()
        assert pickers(stack, load) == {"RoundRobin"}
        turns["spec"]["picker"]["name"] = "ImpactGreedy"
        stack.write_policies()
        eventually(lambda: pickers(stack, load) == {"ImpactGreedy"}, "the new picker is not used")
        load.proceed()
        turns["spec"]["picker"]["name"] = "RoundRobin"
        stack.write_policies()
        eventually(lambda: pickers(stack, load) == {"RoundRobin"}, "the old picker is not used again")
    assert not load.failures()
    drains(stack)


@pytest.mark.parametrize(
    ("file", "source", "restore"),
    [
        ("policies.yaml", "policies", lambda stack: stack.write_policies()),
        ("experts.yaml", "experts", lambda stack: stack.write_experts()),
    ],
)
def test_an_unusable_file_changes_nothing_and_is_visible(
    stack: "Stack", file: str, source: str, restore: Callable[["Stack"], None]
) -> None:
    def problem() -> float:
        return stack.metric("configuration_problem", source=source)

    assert problem() == 0
    (stack.folder / file).write_text("kind: Nonsense\n")
    eventually(problem, "the problem is not counted")
    assert file in stack.state()["problems"]["configuration"][source]
    assert stack.post().status == 200
    restore(stack)
    eventually(lambda: problem() == 0, "the problem does not go away")


def test_without_prometheus_routing_goes_on_with_fresh_samples(stack: "Stack") -> None:
    def problem() -> float:
        return stack.metric("telemetry_problem", policy="edge/chat")

    def ages() -> list[float]:
        return [one["telemetry_age_seconds"] for one in stack.views().values()]

    eventually(lambda: problem() == 0, "Prometheus is no good from the start")
    stack.parts["prometheus"].kill()
    try:
        eventually(problem, "the problem is not counted")
        text = stack.state()["problems"]["telemetry"]["edge/chat"]
        assert "Prometheus" in text
        assert "the experts are read directly meanwhile" in text
        eventually(lambda: max(ages()) < 1.0, "samples are stale")
        with stack.stream("edge-chat", tokens=200):
            eventually(lambda: stack.views()["large"]["running_requests"] >= 1, "load is not seen")
            assert stack.post().status == 200
        samples = stack.metric("telemetry_samples_total", endpoint=stack.address("large"))
        eventually(
            lambda: stack.metric("telemetry_samples_total", endpoint=stack.address("large")) > samples,
            "no samples come any more",
        )
    finally:
        stack.parts["prometheus"].start()
    eventually(lambda: problem() == 0, "Prometheus is not used again")
    drains(stack)


def test_a_router_killed_amid_a_stream_truncates_nothing_and_is_done_without(stack: "Stack") -> None:
    with stack.stream(tokens=60) as stream, stack.stream("edge-turns", tokens=60, size=220_000) as other:
        stack.parts["router"].kill()
        try:
            for index in range(6):
                answer = stack.post(("edge-chat", "edge-turns")[index % 2])
                assert answer.status == 200
                assert answer.decision_id == ""
            with stack.stream(tokens=20, size=220_000) as undecided:
                assert undecided.read_all()[-1] == b"data: [DONE]"
            for one in (stream, other):
                events = one.read_all()
                assert (len(events), events[-1]) == (61, b"data: [DONE]")
        finally:
            stack.parts["router"].start()
    eventually(lambda: stack.post().decision_id, "Envoy does not ask the new router")
    answer = stack.post()
    assert served_by(stack, answer.decision_id) == stack.address("large")
    drains(stack)


def test_a_router_that_is_stopped_drains_without_a_failed_request(stack: "Stack") -> None:
    with Load(stack, "edge-turns") as load, stack.stream(tokens=100) as stream:
        load.proceed()
        stack.parts["router"].signal(signal.SIGTERM)
        eventually(lambda: said_at(f"{stack.admin_url}/readyz") in ("draining\n", ""), "it is ready still")
        try:
            assert stack.parts["router"].wait() == 0
            load.proceed()
        finally:
            stack.parts["router"].start()
        assert stream.read_all()[-1] == b"data: [DONE]"
        eventually(lambda: load.answers[-1].decision_id, "Envoy does not ask the new router")
        load.proceed()
    assert not load.failures()
    drains(stack)


def said_at(url: str) -> str:
    try:
        return requests.get(url, timeout=5).text
    except requests.ConnectionError:
        return ""


def test_a_killed_expert_costs_only_what_it_was_answering(stack: "Stack") -> None:
    victim = stack.address("right")
    with stack.stream("edge-turns", tokens=1_000) as first, stack.stream("edge-turns", tokens=1_000) as second:
        survivor, cut = sorted((first, second), key=lambda one: on(stack, one.decision_id) == victim)
        assert on(stack, cut.decision_id) == victim != on(stack, survivor.decision_id)
        stack.parts["victim"].kill()
        with Load(stack, "edge-turns") as load:
            load.proceed(40)
        assert not load.failures()
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            cut.read_all()
        events = survivor.read_all()
    assert (len(events), events[-1]) == (1_001, b"data: [DONE]")
    assert stack.outcome(cut.decision_id)["outcome"]["status"] == "FAILED"
    ends = [stack.outcome(answer.decision_id)["outcome"] for answer in load.answers]
    assert {one["status"] for one in ends} == {"COMPLETED"}
    assert {one["endpoint"] for one in ends} == {stack.address("left")}
    eventually(lambda: stack.views("edge/turns")["left"]["in_flight"] == 0, "requests stay open")
    stack.parts["victim"].start()


def on(stack: "Stack", decision_id: str) -> str:
    address: str = stack.explain(decision_id)["decision"]["endpoints"][0]["expert"]["endpoint"]
    return address
