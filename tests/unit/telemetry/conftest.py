"""Fixtures for telemetry: experts, and small HTTP servers that answer what a test tells them to."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_policy.experts import Expert

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
def make_endpoint() -> Callable[..., Endpoint]:
    """Make an expert from the fields that matter to a test."""

    def make(
        address: str = "10.0.0.1:8000", *, name: str = "a", model: str = "m", namespace: str = "", **fields: object
    ) -> Endpoint:
        expert = Expert.model_validate({"name": name, "endpoint": address, "model": model, **fields})
        return Endpoint(expert, namespace)

    return make


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Start HTTP servers on loopback that answer GET of any path by a handler; returns "ip:port"."""
    runners: list[web.AppRunner] = []

    async def start(handler: Handler, host: str = "127.0.0.1") -> str:
        application = web.Application()
        application.router.add_get("/{path:.*}", handler)
        runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, host, 0).start()
        ip, port = runner.addresses[0]
        return f"{ip}:{port}"

    yield start
    for runner in runners:
        await runner.cleanup()
