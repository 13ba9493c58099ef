"""Wires the router: the one place where its objects meet."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import numpy as np
from aiohttp import web
from prometheus_client import CollectorRegistry

from pointsman_operator.discovery.file import ExpertFile, PolicyFile
from pointsman_operator.metrics import Metrics, TelemetryCount
from pointsman_operator.router import Router
from pointsman_operator.serving.admin import admin_app
from pointsman_operator.serving.destinations import Destinations
from pointsman_operator.serving.envoy_config import write_endpoints
from pointsman_operator.serving.server import RouterServer, ServerSettings
from pointsman_operator.settings import RouterSettings
from pointsman_operator.telemetry.pollers import Pollers
from pointsman_operator.telemetry.protocols import TelemetryCounts
from pointsman_operator.telemetry.source import make_source
from pointsman_policy.errors import DocumentError
from pointsman_policy.pickers.registry import PICKERS

_LOGGER = logging.getLogger(__name__)

_TICK_SECONDS = 0.5


async def run_router(settings: RouterSettings, started: Callable[[tuple[int, ...], int], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Args:
        settings: How to run.
        started: Called with the gRPC ports and the admin port once the router listens.

    Raises:
        DocumentError: If policies or experts are unusable at the start.
        RuntimeError: If an address cannot be listened on.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    policies = PolicyFile(settings.policies, PICKERS.keys())
    experts = ExpertFile(settings.experts)
    metrics = Metrics(CollectorRegistry())
    router = Router(
        PICKERS,
        metrics,
        time.monotonic,
        time.time,
        np.random.default_rng(settings.seed),
        settings.decision_expiry_seconds,
    )
    counts = TelemetryCounts()
    pollers = Pollers(make_source, router.endpoints, router.observe, counts)

    def configure() -> None:
        router.configure(policies.policies(), experts.endpoints(), experts.profiles)
        pollers.follow(policies.policies())
        if settings.envoy_endpoints is not None:
            ready = [endpoint.address for endpoint in experts.endpoints() if endpoint.expert.ready]
            write_endpoints(settings.envoy_endpoints, ready)

    def reconfigure(_: object) -> None:
        try:
            configure()
        except (DocumentError, OSError) as error:
            _LOGGER.error("The change is not in effect: %s", error)

    configure()
    policies.subscribe(reconfigure)
    experts.subscribe(reconfigure)
    metrics.watch_open_decisions(router.open_decisions)
    metrics.watch_experts(router.views)
    metrics.watch_telemetry(lambda: _telemetry_counts(counts))

    server = RouterServer(
        router,
        metrics,
        Destinations(router, metrics),
        ServerSettings(addresses=settings.grpc_addresses),
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(pollers.close)
        admin_port = await _serve_admin(stack, settings, admin_app(router, metrics, router.not_ready))
        ports = await server.start()
        background = [asyncio.create_task(one) for one in (policies.run(), experts.run(), _tick(router, server))]
        for task in background:
            stack.callback(task.cancel)
        _LOGGER.info("Serving gRPC on %s (ports %s), admin on port %d", settings.grpc_addresses, ports, admin_port)
        if started is not None:
            started(ports, admin_port)
        await stop.wait()
        _LOGGER.info("Draining")
        await server.drain(settings.drain_notice_seconds, settings.drain_grace_seconds)


async def _serve_admin(stack: AsyncExitStack, settings: RouterSettings, app: web.Application) -> int:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, settings.admin_host, settings.admin_port).start()
    return int(runner.addresses[0][1])


async def _tick(router: Router, server: RouterServer) -> None:
    """Do what time alone brings: readiness, expiry of decisions and of load samples."""
    while True:
        await server.set_ready(ready=not router.not_ready())
        router.expire()
        await asyncio.sleep(_TICK_SECONDS)


def _telemetry_counts(counts: TelemetryCounts) -> list[TelemetryCount]:
    known = counts.samples.keys() | counts.problems.keys()
    return [TelemetryCount(one, counts.samples[one], counts.problems[one]) for one in sorted(known)]
