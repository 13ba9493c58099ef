"""The admin port."""

from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request
from tests.unit.serving.conftest import ADDRESSES, FakeRouting

from pointsman_operator.decision import Outcome, OutcomeStatus, RouteQuery
from pointsman_operator.metrics import Metrics
from pointsman_operator.problems import Problems
from pointsman_operator.serving.admin import admin_app

Client = TestClient[Request, Application]


class Readiness:
    def __init__(self) -> None:
        self.reason = ""

    def __call__(self) -> str:
        return self.reason


@pytest.fixture
def readiness() -> Readiness:
    return Readiness()


PROBLEMS = Problems({"experts": "", "policies": "policy.yaml: no such picker"}, {"edge/chat": "Prometheus is silent"})


@pytest.fixture
async def client(routing: FakeRouting, metrics: Metrics, readiness: Readiness) -> AsyncIterator[Client]:
    async with TestClient(TestServer(admin_app(routing, metrics, readiness, lambda: PROBLEMS))) as client:
        yield client


async def test_metrics_are_exposed_as_prometheus_expects(client: Client, metrics: Metrics) -> None:
    metrics.answered("ext_proc", "edge/chat", 200)
    response = await client.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    assert 'pointsman_requests_total{code="200",policy="edge/chat",surface="ext_proc"} 1.0' in await response.text()


async def test_readiness_says_what_is_missing_and_health_does_not_care(client: Client, readiness: Readiness) -> None:
    assert (await client.get("/readyz")).status == 200
    readiness.reason = "no expert is ready"
    response = await client.get("/readyz")
    assert response.status == 503
    assert "no expert is ready" in await response.text()
    assert (await client.get("/healthz")).status == 200


async def test_the_state_shows_each_policy_once_with_its_experts(client: Client, readiness: Readiness) -> None:
    readiness.reason = "starting"
    state = await (await client.get("/debug/state")).json()
    assert state["not_ready"] == "starting"
    (policy,) = state["policies"]
    assert policy["name"] == "edge/chat"
    assert policy["models"] == ["edge-chat", "auto"]
    assert [view["endpoint"]["expert"]["endpoint"] for view in policy["experts"]] == list(ADDRESSES)
    assert policy["experts"][0]["kv_cache_utilization_ratio"] is None


async def test_the_state_says_what_is_wrong_although_the_router_serves(client: Client) -> None:
    state = await (await client.get("/debug/state")).json()
    assert state["problems"] == {
        "configuration": {"experts": "", "policies": "policy.yaml: no such picker"},
        "telemetry": {"edge/chat": "Prometheus is silent"},
        "learning": {},
    }


async def test_a_decision_is_explained_without_its_prompt(client: Client, routing: FakeRouting) -> None:
    decision = routing.route(RouteQuery("edge-chat", prompt="a secret"))
    routing.report(Outcome(decision.id, OutcomeStatus.COMPLETED, output_tokens=5))
    response = await client.get(f"/debug/decisions/{decision.id}")
    assert "secret" not in await response.text()
    document = await response.json()
    assert document["decision"]["picker"] == "ImpactGreedy"
    assert document["candidates"][0]["ttft_seconds"] == 0.1
    assert document["outcome"]["status"] == "COMPLETED"


async def test_an_unknown_decision_is_404_with_the_reason(client: Client) -> None:
    response = await client.get("/debug/decisions/nothing")
    assert response.status == 404
    assert "never made here" in (await response.json())["error"]


async def test_a_judge_tells_the_quality_of_an_answer(client: Client, routing: FakeRouting) -> None:
    decision = routing.route(RouteQuery("edge-chat"))
    response = await client.post(f"/decisions/{decision.id}/quality", json={"quality": 0.8})
    assert response.status == 204
    assert routing.labels == {decision.id: 0.8}
    assert (await client.post("/decisions/unknown-1/quality", json={"quality": 0.8})).status == 404


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"quality": 1.5}', '{"quality": "good"}', '{"quality": 1, "x": 2}'])
async def test_a_judgement_that_is_none_is_refused(client: Client, routing: FakeRouting, body: str) -> None:
    decision = routing.route(RouteQuery("edge-chat"))
    response = await client.post(f"/decisions/{decision.id}/quality", data=body)
    assert response.status == 400
    assert 'such as {"quality": 0.8}' in (await response.json())["error"]
    assert not routing.labels
