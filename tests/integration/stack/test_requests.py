import json
from typing import TYPE_CHECKING

import pytest
import requests
from tests.integration.stack.processes import eventually

if TYPE_CHECKING:
    from tests.integration.stack.conftest import Stack

SIZES = pytest.mark.parametrize("size", [1_000, 220_000], ids=["1KB", "220KB"])


def picked(explanation: dict[str, object]) -> str:
    decision = explanation["decision"]
    assert isinstance(decision, dict)
    address: str = decision["endpoints"][0]["expert"]["endpoint"]
    return address


@SIZES
def test_a_plain_answer_comes_from_the_pick(stack: "Stack", size: int) -> None:
    answer = stack.post(size=size)
    assert answer.status == 200
    usage = json.loads(answer.text)["usage"]
    explanation = stack.outcome(answer.decision_id)
    outcome = explanation["outcome"]
    assert outcome["status"] == "COMPLETED"
    assert outcome["endpoint"] == picked(explanation) == stack.address("large")
    assert (outcome["prompt_tokens"], outcome["output_tokens"]) == (usage["prompt_tokens"], 10)
    assert outcome["ttft_seconds"] is None
    assert outcome["duration_seconds"] > 0.2


@SIZES
def test_a_stream_comes_from_the_pick(stack: "Stack", size: int) -> None:
    with stack.stream(size=size, tokens=20) as stream:
        assert stream.response.status_code == 200
        events = stream.read_all()
    assert events[-1] == b"data: [DONE]"
    assert len(events) == 21
    explanation = stack.outcome(stream.decision_id)
    outcome = explanation["outcome"]
    assert (outcome["status"], outcome["output_tokens"]) == ("COMPLETED", 20)
    assert outcome["endpoint"] == picked(explanation) == stack.address("large")
    assert 0 < outcome["ttft_seconds"] < outcome["duration_seconds"]


def test_a_client_cannot_choose_the_expert(stack: "Stack") -> None:
    wanted = stack.address("single")
    headers = {
        "x-gateway-destination-endpoint": wanted,
        "X-Gateway-Destination-Endpoint-Subset": wanted,
        "x-envoy-original-dst-host": wanted,
        "x-envoy-max-retries": "100",
    }
    for _ in range(3):
        answer = stack.post(headers=headers)
        assert answer.status == 200
        explanation = stack.outcome(answer.decision_id)
        assert explanation["outcome"]["endpoint"] == picked(explanation) == stack.address("large")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, "large"),
        ({"x-pointsman-slo-ntpot-ms": "15"}, "medium"),
        ({"x-llm-d-slo-tpot-ms": "6"}, "small"),
        ({"x-slo-tpot-ms": "6", "x-llm-d-slo-tpot-ms": "15"}, "medium"),
        ({"x-llm-d-slo-ttft-ms": "10"}, "medium"),
    ],
)
def test_objectives_in_headers_change_the_decision(stack: "Stack", headers: dict[str, str], expected: str) -> None:
    answer = stack.post(headers=headers)
    assert answer.status == 200
    assert stack.outcome(answer.decision_id)["outcome"]["endpoint"] == stack.address(expected)


def test_a_wrong_objective_is_the_clients_mistake(stack: "Stack") -> None:
    answer = stack.post(headers={"x-llm-d-slo-ttft-ms": "soon"})
    assert answer.status == 400
    assert "x-llm-d-slo-ttft-ms must be a number of milliseconds" in json.loads(answer.text)["error"]["message"]


def test_a_hopeless_request_is_shed_in_overload_and_served_after_it(stack: "Stack") -> None:
    objective = {"x-llm-d-slo-ttft-ms": "300"}
    with stack.stream("edge-strict", tokens=600):
        answer = stack.post("edge-strict", headers=objective)
        assert answer.status == 429
        assert answer.headers["x-llm-d-request-dropped-reason"] == "rejected-saturated"
        assert json.loads(answer.text)["error"]["type"] == "rate_limit_error"
        assert answer.decision_id == ""
    eventually(lambda: stack.views("edge/strict")["single"]["in_flight"] == 0, "the client has gone, its request not")
    eventually(lambda: stack.post("edge-strict", headers=objective).status == 200, "requests are shed still")


def test_the_name_is_rewritten_to_one_that_the_expert_knows(stack: "Stack") -> None:
    for headers, name in (({}, "real-large"), ({"x-llm-d-slo-tpot-ms": "6"}, "real-small")):
        answer = stack.post("edge-real", headers=headers)
        assert answer.status == 200
        assert json.loads(answer.text)["model"] == name
    assert json.loads(stack.post("edge-chat").text)["model"] == "edge-chat"


def test_chat_completions_are_routed_too(stack: "Stack") -> None:
    body = {"model": "edge-real", "messages": [{"role": "user", "content": "Grüße, “quoted” \\ \n"}], "max_tokens": 4}
    response = requests.post(f"{stack.url}/v1/chat/completions", json=body, timeout=30)
    assert response.status_code == 200
    assert (response.json()["model"], response.json()["usage"]["completion_tokens"]) == ("real-large", 4)


def test_models_are_the_names_of_the_policies(stack: "Stack") -> None:
    response = requests.get(f"{stack.url}/v1/models", timeout=30)
    names = [model["id"] for model in response.json()["data"]]
    assert names == ["edge-chat", "edge-real", "edge-turns", "edge-strict"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b'{"model": "gpt-5", "prompt": "x"}', 404, "no RouterPolicy serves the model 'gpt-5'; models: edge-chat"),
        (b'{"model": "edge-chat", "prompt"', 400, "not valid JSON"),
        (b'{"prompt": "x"}', 400, "GET /v1/models"),
        (b"", 400, "empty"),
    ],
)
def test_wrong_requests_are_told_what_is_wrong(stack: "Stack", body: bytes, status: int, message: str) -> None:
    headers = {"content-type": "application/json"}
    response = requests.post(f"{stack.url}/v1/completions", data=body, headers=headers, timeout=30)
    assert response.status_code == status
    assert message in response.json()["error"]["message"]


def test_a_client_that_hangs_up_closes_its_decision(stack: "Stack") -> None:
    with stack.stream(tokens=5_000) as stream:
        eventually(lambda: stack.views()["large"]["in_flight"] == 1, "the request is not open")
    explanation = stack.outcome(stream.decision_id)
    assert explanation["outcome"]["status"] == "CANCELLED"
    eventually(lambda: stack.views()["large"]["running_requests"] == 0, "the expert is not free again")


def test_progress_of_a_long_answer_is_known_before_its_end(stack: "Stack") -> None:
    def reported() -> float:
        return stack.metric("access_log_entries_total", result="reported")

    eventually(lambda: stack.metric("open_decisions") == 0, "decisions stay open")
    before = reported()
    with stack.stream("edge-strict", tokens=5_000) as stream:
        eventually(lambda: reported() > before, "no progress is reported")
        assert stack.explain(stream.decision_id)["outcome"] is None
    assert stack.outcome(stream.decision_id)["outcome"]["output_tokens"] > 0


def test_outcomes_close_every_decision_and_are_counted(stack: "Stack") -> None:
    def counted() -> tuple[float, ...]:
        return (
            stack.metric("request_ntpot_seconds_count", policy="edge/turns"),
            stack.metric("request_ttft_seconds_count", policy="edge/turns"),
            stack.metric("finished_requests_total", policy="edge/turns", status="completed"),
            stack.metric("expired_decisions_total"),
        )

    before = counted()
    for index in range(6):
        with stack.stream("edge-turns", tokens=5) if index % 2 else stack.stream("edge-turns", tokens=9) as stream:
            stream.read_all()
        assert stack.post("edge-turns").status == 200
    eventually(lambda: stack.metric("open_decisions") == 0, "decisions stay open")
    after = counted()
    assert [now - then for now, then in zip(after, before, strict=True)] == [12, 6, 12, 0]
    assert stack.metric("routing_errors_total") == 0
