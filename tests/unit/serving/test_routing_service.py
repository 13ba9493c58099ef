"""RoutingService over a real server: decisions, outcomes, and the error that each bad field gets."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from tests.unit.serving.conftest import ADDRESSES, FakeRouting, serving

from pointsman.routing.v1 import routing_pb2 as pb
from pointsman.routing.v1 import routing_pb2_grpc
from pointsman_operator.decision import ObjectiveOverrides, OutcomeStatus
from pointsman_operator.errors import NoExpertError, ShedError
from pointsman_operator.metrics import Metrics
from pointsman_operator.serving.destinations import Destinations


@pytest.fixture
async def stub(routing: FakeRouting, metrics: Metrics, destinations: Destinations) -> AsyncIterator[Any]:
    async with serving(routing, metrics, destinations) as (_, channel):
        yield routing_pb2_grpc.RoutingServiceStub(channel)  # type: ignore[no-untyped-call]


def objectives(**fields: float) -> pb.Objectives:
    return pb.Objectives(**fields)


async def test_a_route_tells_where_and_why(stub: Any, routing: FakeRouting) -> None:
    request = pb.RouteRequest(
        model="edge-chat",
        prompt="hello",
        prompt_token_count=4,
        max_output_token_count=50,
        objectives=objectives(ttft_seconds=2.0, tpot_seconds=0.0),
        priority=-1,
        request_id="r",
    )
    response = await stub.Route(request)
    assert response.decision_id == "decision-1"
    assert (response.picker, response.policy, response.policy_version) == ("ImpactGreedy", "edge/chat", "7")
    assert [candidate.endpoint for candidate in response.endpoints] == list(ADDRESSES)
    assert response.endpoints[0].ttft_seconds == 0.1
    assert response.endpoints[0].HasField("score")
    (query,) = routing.queries
    assert query.objectives == ObjectiveOverrides(ttft_seconds=2.0, tpot_seconds=0.0)
    assert query.subset is None
    assert (query.prompt_tokens, query.max_output_tokens, query.priority) == (4, 50, -1)


async def test_a_subset_limits_the_route(stub: Any) -> None:
    response = await stub.Route(pb.RouteRequest(model="edge-chat", endpoint_subset=[ADDRESSES[1]]))
    assert [candidate.endpoint for candidate in response.endpoints] == [ADDRESSES[1]]


async def test_an_outcome_closes_its_decision(stub: Any, routing: FakeRouting) -> None:
    decision = await stub.Route(pb.RouteRequest(model="edge-chat"))
    outcome = pb.ReportOutcomeRequest(
        decision_id=decision.decision_id,
        endpoint=ADDRESSES[0],
        status=pb.OUTCOME_STATUS_COMPLETED,
        ttft_seconds=0.2,
        duration_seconds=1.0,
        output_token_count=20,
        quality=0.0,
    )
    await stub.ReportOutcome(outcome)
    assert not routing.open
    assert routing.outcomes[0].status is OutcomeStatus.COMPLETED
    assert routing.outcomes[0].quality == 0.0
    assert routing.outcomes[0].prompt_tokens is None
    explained = await stub.GetDecision(pb.GetDecisionRequest(decision_id=decision.decision_id))
    assert explained.outcome == outcome
    assert list(explained.fallbacks) == ["HanActor: late"]
    assert explained.objectives.HasField("ttft_seconds")
    assert not explained.objectives.HasField("tpot_seconds")
    assert len(explained.candidates) == 2


async def test_an_open_decision_has_no_outcome(stub: Any) -> None:
    decision = await stub.Route(pb.RouteRequest(model="edge-chat"))
    explained = await stub.GetDecision(pb.GetDecisionRequest(decision_id=decision.decision_id))
    assert not explained.HasField("outcome")


async def test_experts_are_listed_and_what_is_unknown_is_unset(stub: Any) -> None:
    response = await stub.ListExperts(pb.ListExpertsRequest(model="edge-chat"))
    assert response.policy == "edge/chat"
    assert [expert.endpoint for expert in response.experts] == list(ADDRESSES)
    assert response.experts[0].telemetry_age_seconds == 0.5
    assert response.experts[0].quality_prior == 0.5


async def test_policies_are_listed_by_the_router_that_runs_them(stub: Any) -> None:
    response = await stub.ListPolicies(pb.ListPoliciesRequest())
    assert response.router == "router-0"
    known, new = response.policies
    assert known == pb.PolicyState(
        policy="edge/chat",
        uid="5e6f",
        generation=4,
        model_name="edge-chat",
        picker="HanActor",
        policy_version="7",
        expert_count=3,
        ready_expert_count=2,
        fresh_expert_count=1,
        oldest_telemetry_age_seconds=0.5,
        telemetry_problem="Prometheus is away",
        problem="spec.picker: unknown",
        answered_request_count=9,
        met_objective_count=8,
    )
    assert new == pb.PolicyState(policy="edge/new")
    assert not new.HasField("oldest_telemetry_age_seconds")


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (ShedError("later"), grpc.StatusCode.RESOURCE_EXHAUSTED, "rejected-saturated"),
        (NoExpertError("none"), grpc.StatusCode.UNAVAILABLE, "rejected-no-endpoints"),
    ],
)
async def test_a_drop_says_why_in_a_trailer(
    stub: Any, routing: FakeRouting, error: Exception, code: grpc.StatusCode, reason: str
) -> None:
    routing.error = error
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.Route(pb.RouteRequest(model="edge-chat"))
    assert raised.value.code() == code
    trailers: Any = raised.value.trailing_metadata()
    assert dict(trailers)["x-llm-d-request-dropped-reason"] == reason


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("Route", pb.RouteRequest(model="unheard-of")),
        ("ListExperts", pb.ListExpertsRequest(model="unheard-of")),
        ("GetDecision", pb.GetDecisionRequest(decision_id="never-made")),
        ("ReportOutcome", pb.ReportOutcomeRequest(decision_id="never-made", status=pb.OUTCOME_STATUS_FAILED)),
    ],
)
async def test_what_does_not_exist_is_not_found(stub: Any, method: str, request_: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await getattr(stub, method)(request_)
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND


NAN = float("nan")
INFINITE = float("inf")


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"model": "m" * 254}, "model has 254 characters"),
        ({"prompt_token_count": -1}, "prompt_token_count is -1; use 0 or more"),
        ({"max_output_token_count": -5}, "max_output_token_count is -5"),
        ({"objectives": objectives(ttft_seconds=-1)}, "objectives.ttft_seconds is -1"),
        ({"objectives": objectives(tpot_seconds=NAN)}, "objectives.tpot_seconds is nan"),
        ({"objectives": objectives(ntpot_seconds=INFINITE)}, "objectives.ntpot_seconds is inf"),
        ({"objectives": objectives(ntpot_seconds=1e6)}, "from 0 to 86400"),
        ({"priority": 1001}, "from -1000 to 1000"),
        ({"priority": -1001}, "from -1000 to 1000"),
        ({"request_id": "ä" * 65}, "request_id has 130 bytes"),
        ({"endpoint_subset": ["expert-0:8000"]}, 'use "ip:port"'),
        ({"endpoint_subset": [ADDRESSES[0], "10.0.0.1"]}, "endpoint_subset[1]"),
        ({"endpoint_subset": ["10.0.0.1:0"]}, "endpoint_subset[0]"),
        ({"endpoint_subset": ["10.0.0.1:65536"]}, "endpoint_subset[0]"),
        ({"endpoint_subset": ["10.0.0.1:x"]}, "endpoint_subset[0]"),
        ({"endpoint_subset": [""]}, "endpoint_subset[0]"),
        ({"endpoint_subset": ["10.0.0.1:1"] * 1001}, "at most 1000"),
    ],
)
async def test_a_bad_route_field_is_named_with_its_remedy(stub: Any, fields: dict[str, Any], hint: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.Route(pb.RouteRequest(**{"model": "edge-chat", **fields}))
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert hint in (raised.value.details() or "")


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"decision_id": ""}, "decision_id is empty"),
        ({"decision_id": "d" * 129}, "decision_id has 129 bytes"),
        ({"status": pb.OUTCOME_STATUS_UNSPECIFIED}, "status is not set"),
        ({"status": 99}, "status is not set or not known"),
        ({"endpoint": "somewhere"}, 'use "ip:port"'),
        ({"ttft_seconds": -0.1}, "ttft_seconds is -0.1"),
        ({"ttft_seconds": NAN}, "ttft_seconds is nan"),
        ({"duration_seconds": INFINITE}, "duration_seconds is inf"),
        ({"ttft_seconds": 2.0, "duration_seconds": 1.0}, "more than duration_seconds"),
        ({"output_token_count": -1}, "output_token_count is -1"),
        ({"prompt_token_count": -1}, "prompt_token_count is -1"),
        ({"quality": 1.01}, "quality is 1.01; use a value from 0 to 1"),
        ({"quality": -0.5}, "quality is -0.5"),
        ({"quality": NAN}, "quality is nan"),
    ],
)
async def test_a_bad_outcome_field_is_named_with_its_remedy(stub: Any, fields: dict[str, Any], hint: str) -> None:
    base: dict[str, Any] = {"decision_id": "decision-1", "status": pb.OUTCOME_STATUS_COMPLETED}
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.ReportOutcome(pb.ReportOutcomeRequest(**(base | fields)))
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert hint in (raised.value.details() or "")


@pytest.mark.parametrize("decision_id", ["", "d" * 129])
async def test_a_bad_decision_id_is_refused(stub: Any, decision_id: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="decision_id"):
        await stub.GetDecision(pb.GetDecisionRequest(decision_id=decision_id))


async def test_a_bug_in_the_core_is_counted_and_the_server_lives(
    stub: Any, routing: FakeRouting, metrics: Metrics
) -> None:
    routing.error = RuntimeError("a bug")
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.Route(pb.RouteRequest(model="edge-chat"))
    assert metrics.registry.get_sample_value("pointsman_routing_errors_total", {"surface": "grpc"}) == 1
    routing.error = None
    assert await stub.Route(pb.RouteRequest(model="edge-chat"))
