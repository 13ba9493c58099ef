"""Routers are asked over real connections: plain, TLS, and when they do not answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry
from tests.cluster.certificates import CertificateAuthority, KeyPair

from pointsman.routing.v1 import routing_pb2, routing_pb2_grpc
from pointsman_operator.control.metrics import OperatorMetrics
from pointsman_operator.control.polling import RouterPolls
from pointsman_operator.control.reports import PolicyReport
from pointsman_operator.control.settings import RouterSelection
from pointsman_operator.errors import KubernetesError


class Service(routing_pb2_grpc.RoutingServiceServicer):
    async def ListPolicies(self, request: Any, context: Any) -> routing_pb2.ListPoliciesResponse:  # noqa: N802
        state = routing_pb2.PolicyState(policy="edge/chat", uid="u1", generation=3, picker="Random", problem="none")
        return routing_pb2.ListPoliciesResponse(policies=[state])


class Pods:
    """Lists pods as the API server would."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def get(self, path: str, **parameters: str) -> Any:
        self.asked.append((path, parameters))
        return {"items": self.items}

    def add(self, name: str, ip: str = "127.0.0.1", *, ready: bool = True, **metadata: str) -> None:
        status = {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": str(ready)}]}
        self.items.append({"metadata": {"name": name, "uid": name, **metadata}, "status": status})


@contextlib.asynccontextmanager
async def _router(pair: KeyPair | None = None, authority: CertificateAuthority | None = None) -> AsyncIterator[int]:
    server = grpc.aio.server()
    routing_pb2_grpc.add_RoutingServiceServicer_to_server(Service(), server)  # type: ignore[no-untyped-call]
    if pair is not None and authority is not None:
        credentials = grpc.ssl_server_credentials(
            [(pair.key.read_bytes(), pair.certificate.read_bytes())], authority.certificate.read_bytes(), True
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def _polls(pods: Pods, **selection: Any) -> AsyncIterator[RouterPolls]:
    made = RouterSelection(namespace="pointsman", selector="app=router", **selection)
    polls = RouterPolls(pods, made, OperatorMetrics(CollectorRegistry()))  # type: ignore[arg-type]
    try:
        yield polls
    finally:
        await polls.close()


async def test_every_ready_router_is_asked() -> None:
    pods = Pods()
    pods.add("r1")
    pods.add("r0")
    pods.add("starting", ready=False)
    pods.add("leaving", deletionTimestamp="2026-11-22T08:00:00Z")
    pods.add("without-address", ip="")
    async with _router() as port, _polls(pods, port=port) as polls:
        reports = await polls.round()
        assert await polls.round() == reports
    assert [one.router for one in reports] == ["r0", "r1"]
    assert reports[0].policies == {"edge/chat": PolicyReport("u1", 3, "Random", problem="none")}
    assert pods.asked[0] == ("/api/v1/namespaces/pointsman/pods", {"labelSelector": "app=router"})


async def test_a_router_that_does_not_answer_says_why() -> None:
    pods = Pods()
    pods.add("r0")
    async with _router() as port:
        pass
    async with _polls(pods, port=port) as polls:
        (report,) = await polls.round()
    assert (report.router, report.policies) == ("r0", {})
    assert report.problem == "no answer within 2 s"


async def test_a_router_that_is_too_old_is_told_from_one_that_is_away() -> None:
    pods = Pods()
    pods.add("r0")
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with _polls(pods, port=port) as polls:
        (report,) = await polls.round()
    await server.stop(None)
    assert "older than this operator" in report.problem


async def test_pods_that_cannot_be_listed_are_an_error() -> None:
    class Away(Pods):
        async def get(self, path: str, **parameters: str) -> Any:
            raise KubernetesError("away")

    async with _polls(Away(), port=1) as polls:
        with pytest.raises(KubernetesError):
            await polls.round()


@pytest.mark.parametrize("server_name", ["", "router.pointsman.svc"])
async def test_mutual_tls_by_address_and_new_certificates_are_used(tmp_path: Path, server_name: str) -> None:
    authority = CertificateAuthority(tmp_path)
    of_router = authority.issue("router", ["router.pointsman.svc"])
    own = authority.issue("operator", ["operator"])
    tls = {"authority": authority.certificate, "certificate": own.certificate, "key": own.key}
    pods = Pods()
    pods.add("r0")
    async with (
        _router(of_router, authority) as port,
        _polls(pods, port=port, server_name=server_name, **tls) as polls,
    ):
        (report,) = await polls.round()
        assert report.problem == ""
        channels = dict(polls._channels)
        authority.issue("operator", ["operator"])
        (report,) = await polls.round()
        assert report.problem == ""
        assert polls._channels != channels


async def test_a_router_of_another_authority_is_not_believed(tmp_path: Path) -> None:
    ours = CertificateAuthority(tmp_path, "ours")
    others = CertificateAuthority(tmp_path, "others")
    own = ours.issue("operator", ["operator"])
    tls = {"authority": ours.certificate, "certificate": own.certificate, "key": own.key}
    pods = Pods()
    pods.add("r0")
    async with _router(others.issue("router", ["router"]), others) as port, _polls(pods, port=port, **tls) as polls:
        async with asyncio.timeout(20):
            (report,) = await polls.round()
    assert "CERTIFICATE_VERIFY_FAILED" in report.problem
