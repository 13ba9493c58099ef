"""A routing core that answers from a script, and ext_proc messages as gateways send them."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from prometheus_client import CollectorRegistry

from pointsman.envoy.v3 import external_processor_pb2 as pb
from pointsman_operator.decision import (
    Candidate,
    Decision,
    ExpertView,
    Explanation,
    ObjectiveOverrides,
    Outcome,
    OutcomeStatus,
    PolicyReport,
    RouteQuery,
)
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.errors import NoExpertError, UnknownDecisionError, UnknownModelError
from pointsman_operator.metrics import Metrics
from pointsman_operator.serving.destinations import Destinations
from pointsman_operator.serving.server import RouterServer, ServerSettings
from pointsman_policy.experts import Expert

ADDRESSES = ("10.0.0.7:8000", "10.0.1.9:8000")


class FakeRouting:
    """Serves "edge-chat" (and "") on two experts in a fixed order, and remembers everything."""

    def __init__(self) -> None:
        self.endpoints = tuple(
            Endpoint(Expert(name=f"expert-{index}", endpoint=address, model="qwen"))
            for index, address in enumerate(ADDRESSES)
        )
        self.queries: list[RouteQuery] = []
        self.outcomes: list[Outcome] = []
        self.decisions: dict[str, Decision] = {}
        self.labels: dict[str, float] = {}
        self.open: set[str] = set()
        self.model_rewrite: str | None = None
        self.error: Exception | None = None
        self.report_error: Exception | None = None
        self._numbers = itertools.count(1)

    def route(self, query: RouteQuery) -> Decision:
        self.queries.append(query)
        if self.error:
            raise self.error
        if query.model not in ("edge-chat", "auto", ""):
            raise UnknownModelError(f"no RouterPolicy serves the model {query.model!r}; see GET /v1/models")
        allowed = tuple(e for e in self.endpoints if query.subset is None or e.address in query.subset)
        if not allowed:
            raise NoExpertError("no expert is ready; check the pods")
        decision = Decision(
            id=f"decision-{next(self._numbers)}",
            policy="edge/chat",
            picker="ImpactGreedy",
            policy_version="7",
            reason="the best quality within its objectives",
            fallbacks=("HanActor: late",),
            endpoints=allowed,
            model_rewrite=self.model_rewrite,
        )
        self.decisions[decision.id] = decision
        self.open.add(decision.id)
        return decision

    def report(self, outcome: Outcome) -> None:
        if self.report_error:
            raise self.report_error
        if outcome.decision_id not in self.decisions:
            raise UnknownDecisionError(f"decision {outcome.decision_id!r} was never made here, or has expired")
        self.outcomes.append(outcome)
        if outcome.status is not OutcomeStatus.IN_PROGRESS:
            self.open.discard(outcome.decision_id)

    def label(self, decision_id: str, quality: float) -> None:
        if decision_id not in self.decisions:
            raise UnknownDecisionError(f"decision {decision_id!r} was never made here, or has expired")
        self.labels[decision_id] = quality

    def explain(self, decision_id: str) -> Explanation:
        if decision_id not in self.decisions:
            raise UnknownDecisionError(f"decision {decision_id!r} was never made here, or has expired")
        return Explanation(
            decision=self.decisions[decision_id],
            age_seconds=1.5,
            prompt_tokens=12,
            objectives=ObjectiveOverrides(ttft_seconds=2.0, ntpot_seconds=0.03),
            load_ratio=0.5,
            candidates=tuple(
                Candidate(endpoint, True, "", 0.9, 0.1, 0.02, 0.025, 0.8, 100.0, 0.99, 0.01)
                for endpoint in self.endpoints
            ),
            outcome=next((item for item in reversed(self.outcomes) if item.decision_id == decision_id), None),
        )

    def experts(self, model: str) -> tuple[str, tuple[ExpertView, ...]]:
        if model not in ("edge-chat", "auto", ""):
            raise UnknownModelError(f"no RouterPolicy serves the model {model!r}; see GET /v1/models")
        return "edge/chat", tuple(ExpertView(endpoint, True, 1.0, 2.0, None, 0.5, 3) for endpoint in self.endpoints)

    def reports(self) -> tuple[PolicyReport, ...]:
        return (
            PolicyReport(
                policy="edge/chat",
                uid="5e6f",
                generation=4,
                model_name="edge-chat",
                picker="HanActor",
                policy_version="7",
                experts=3,
                ready_experts=2,
                fresh_experts=1,
                oldest_telemetry_age_seconds=0.5,
                telemetry_problem="Prometheus is away",
                problem="spec.picker: unknown",
                judged_requests=9,
                met_requests=8,
            ),
            PolicyReport(policy="edge/new"),
        )

    def models(self) -> tuple[str, ...]:
        return ("edge-chat", "auto")

    def open_decisions(self) -> int:
        return len(self.open)


class ManualClock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def routing() -> FakeRouting:
    return FakeRouting()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


@pytest.fixture
def destinations(routing: FakeRouting, metrics: Metrics) -> Destinations:
    return Destinations(routing, metrics)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@asynccontextmanager
async def serving(
    routing: FakeRouting, metrics: Metrics, destinations: Destinations
) -> AsyncIterator[tuple[RouterServer, grpc.aio.Channel]]:
    """A server on a free port, and a channel to it."""
    server = RouterServer(routing, metrics, destinations, ServerSettings(addresses=("127.0.0.1:0",), name="router-0"))
    (port,) = await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield server, channel
    finally:
        await server.drain(0.0, 0.0)


CHAT_HEADERS = {
    ":method": "POST",
    ":path": "/v1/chat/completions",
    "content-type": "application/json",
    "x-request-id": "request-1",
}
GET_HEADERS = {":method": "GET", ":path": "/health"}


def chat(text: str = "hello", **fields: Any) -> bytes:
    """A chat completion body."""
    body = {"messages": [{"role": "user", "content": text}], "model": "edge-chat", **fields}
    return json.dumps(body, ensure_ascii=False).encode()


def request_headers(
    headers: Mapping[str, str] = CHAT_HEADERS,
    *,
    mode: str | None = "FULL_DUPLEX_STREAMED",
    answer_mode: str = "FULL_DUPLEX_STREAMED",
    end_of_stream: bool = False,
    subset: object = None,
) -> pb.ProcessingRequest:
    """The first message of a stream; `mode` None leaves out protocol_config, `subset` is any JSON value."""
    message = pb.ProcessingRequest()
    message.request_headers.end_of_stream = end_of_stream
    for key, value in headers.items():
        message.request_headers.headers.headers.add(key=key, raw_value=value.encode())
    if mode is not None:
        config = pb.ProtocolConfiguration(request_body_mode=mode, response_body_mode=answer_mode)
        message.protocol_config.CopyFrom(config)
    if subset is not None:
        hint = message.metadata_context.filter_metadata["envoy.lb.subset_hint"]
        json_format.ParseDict({"x-gateway-destination-endpoint-subset": subset}, hint)
    return message


def request_body(body: bytes, *, end_of_stream: bool = True) -> pb.ProcessingRequest:
    return pb.ProcessingRequest(request_body=pb.HttpBody(body=body, end_of_stream=end_of_stream))


def request_trailers() -> pb.ProcessingRequest:
    return pb.ProcessingRequest(request_trailers=pb.HttpTrailers())


def response_headers(
    status: str = "200",
    content_type: str = "text/event-stream; charset=utf-8",
    *,
    served: str = "",
    end_of_stream: bool = False,
    encoding: str = "",
) -> pb.ProcessingRequest:
    message = pb.ProcessingRequest()
    message.response_headers.end_of_stream = end_of_stream
    for key, value in {":status": status, "content-type": content_type, "content-encoding": encoding}.items():
        if value:
            message.response_headers.headers.headers.add(key=key, raw_value=value.encode())
    if served:
        fields = message.metadata_context.filter_metadata["envoy.lb"].fields
        fields["x-gateway-destination-endpoint-served"].string_value = served
    return message


def response_body(body: bytes, *, end_of_stream: bool = False) -> pb.ProcessingRequest:
    return pb.ProcessingRequest(response_body=pb.HttpBody(body=body, end_of_stream=end_of_stream))


def response_trailers() -> pb.ProcessingRequest:
    return pb.ProcessingRequest(response_trailers=pb.HttpTrailers())


def set_headers(mutation: pb.HeaderMutation) -> dict[str, str]:
    """The headers that a mutation sets, all by overwriting."""
    assert all(item.append_action == pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD for item in mutation.set_headers)
    return {item.header.key: item.header.raw_value.decode() for item in mutation.set_headers}


def metadata(response: pb.ProcessingResponse) -> dict[str, Any]:
    """The dynamic metadata as plain values, by namespace."""
    return json_format.MessageToDict(response.dynamic_metadata)


def error_body(response: pb.ProcessingResponse) -> dict[str, Any]:
    """The "error" of an immediate response."""
    body = json.loads(response.immediate_response.body)
    assert set(body) == {"error"}
    return dict(body["error"])


Stub = grpc.aio.StreamStreamMultiCallable[pb.ProcessingRequest, pb.ProcessingResponse]


def process_stub(channel: grpc.aio.Channel) -> "Stub":
    """The client's side of ExternalProcessor/Process."""
    return channel.stream_stream(
        "/envoy.service.ext_proc.v3.ExternalProcessor/Process",
        request_serializer=pb.ProcessingRequest.SerializeToString,
        response_deserializer=pb.ProcessingResponse.FromString,
    )


async def converse(stub: "Stub", requests: Sequence[pb.ProcessingRequest]) -> list[pb.ProcessingResponse]:
    """Send messages, then read answers until the call ends."""
    return [response async for response in stub(iter(requests))]


async def eventually(condition: Callable[[], bool], deadline_seconds: float = 10.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(deadline_seconds):
        while not condition():  # noqa: ASYNC110 - conditions in here have no event to wait for
            await asyncio.sleep(0.005)
