"""Wires the router: the one place where its objects meet."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from aiohttp import web
from prometheus_client import CollectorRegistry

from pointsman_operator.configuration import Configuration
from pointsman_operator.discovery.file import ExpertFile, FileDiscovery, PolicyFile
from pointsman_operator.discovery.store import Discovery
from pointsman_operator.metrics import Metrics, TelemetryCount
from pointsman_operator.policy_link import PolicyLink
from pointsman_operator.problems import Problems
from pointsman_operator.router import Router
from pointsman_operator.serving.admin import admin_app
from pointsman_operator.serving.destinations import Destinations
from pointsman_operator.serving.envoy_endpoints import EnvoyEndpoints
from pointsman_operator.serving.server import RouterServer, ServerSettings
from pointsman_operator.serving.tls import TlsFiles
from pointsman_operator.settings import FileSource, KubernetesSource, RouterSettings
from pointsman_operator.telemetry.pollers import Pollers
from pointsman_operator.telemetry.protocols import TelemetryCounts
from pointsman_operator.telemetry.source import make_source
from pointsman_operator.warm_up import warm_up
from pointsman_policy.latency.profiles import read_profiles
from pointsman_policy.pickers.registry import with_trained
from pointsman_policy.prediction.fitted import FittedPredictor
from pointsman_policy.prediction.stored import read_predictor

_LOGGER = logging.getLogger(__name__)

_TICK_SECONDS = 0.5


async def run_router(settings: RouterSettings, started: Callable[[tuple[int, ...], int], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Args:
        settings: How to run.
        started: Called with the gRPC ports and the admin port once the router listens.

    Raises:
        DocumentError: If policies, experts, predictor or TLS files are unusable at the start, or Envoy's file cannot be
            written.
        OSError: If the admin address cannot be listened on.
        RuntimeError: If a gRPC address cannot be listened on.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    parts = _assemble(settings)
    warm_up()
    if parts.link is not None:
        parts.link.begin(parts.router.assign)
    parts.configuration.start()
    router, metrics = parts.router, parts.metrics
    server = RouterServer(
        router,
        metrics,
        Destinations(router, metrics),
        ServerSettings(settings.grpc_addresses, settings.sidecar_addresses, tls=_tls(settings), name=settings.name),
        reports=parts.configuration.reports,
    )
    admin = admin_app(router, metrics, lambda: "draining" if stop.is_set() else parts.not_ready(), parts.problems)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(parts.pollers.close)
        admin_port = await _serve_admin(stack, settings, admin)
        ports = await server.start()
        for run in (parts.discovery.run(), _tick(parts, server)):
            stack.callback(asyncio.create_task(run).cancel)
        if parts.link is not None:
            await stack.enter_async_context(_linked(parts.link))
        _LOGGER.info("Serving gRPC on %s (ports %s), admin on port %d", settings.grpc_addresses, ports, admin_port)
        if started is not None:
            started(ports, admin_port)
        await stop.wait()
        _LOGGER.info("Draining")
        await server.drain(settings.drain_notice_seconds, settings.drain_grace_seconds)


@asynccontextmanager
async def _linked(link: PolicyLink) -> AsyncIterator[None]:
    """Keep up with the policy service inside; at the end give it what is left."""
    running = asyncio.create_task(link.run())
    try:
        yield
        await link.drain()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await link.close()


@dataclass(frozen=True, slots=True)
class _Parts:
    discovery: Discovery
    router: Router
    metrics: Metrics
    pollers: Pollers
    configuration: Configuration
    link: PolicyLink | None

    def not_ready(self) -> str:
        """Say why the router should get no traffic now; empty = it should.

        In a cluster every replica sees the same policies and experts. Where there are none, no replica can do better,
        and this one tells clients why; so only a router that has not seen them yet stays out of the load balancer.
        """
        if isinstance(self.discovery, FileDiscovery):
            return self.router.not_ready()
        return self.discovery.not_ready or self.configuration.not_ready

    def problems(self) -> Problems:
        telemetry = {policy.key: "" for policy in self.discovery.policies()}
        learning = {} if self.link is None else self.link.problems()
        return Problems(self.configuration.problems(), telemetry | self.pollers.problems(), learning)


def _assemble(settings: RouterSettings) -> _Parts:
    pickers = with_trained(settings.trained_policies)
    discovery = _discovery(settings.source, pickers.keys())
    metrics = Metrics(CollectorRegistry())
    rng = np.random.default_rng(settings.seed)
    link = _link(settings, metrics, rng)
    router = Router(
        pickers,
        metrics,
        time.monotonic,
        time.time,
        rng,
        settings.decision_expiry_seconds,
        None if settings.predictor is None else _read_predictor(settings.predictor),
        None if link is None else link.recorder,
    )
    counts = TelemetryCounts()
    pollers = Pollers(make_source, router.endpoints, router.observe, counts)
    envoy = None if settings.envoy_endpoints is None else EnvoyEndpoints(settings.envoy_endpoints, time.monotonic)
    configuration = Configuration(discovery, router, pollers, envoy)
    parts = _Parts(discovery, router, metrics, pollers, configuration, link)
    metrics.watch_open_decisions(router.open_decisions)
    metrics.watch_experts(router.views)
    metrics.watch_telemetry(lambda: _telemetry_counts(counts, router))
    metrics.watch_problems(parts.problems)
    return parts


def _link(settings: RouterSettings, metrics: Metrics, rng: np.random.Generator) -> PolicyLink | None:
    if settings.policy_service is None:
        return None
    return PolicyLink(
        settings.policy_service,
        settings.state_folder,
        settings.name,
        metrics.registry,
        time.monotonic,
        time.time,
        rng.spawn(1)[0],
    )


def _discovery(source: FileSource | KubernetesSource, picker_names: Collection[str]) -> Discovery:
    if isinstance(source, FileSource):
        return FileDiscovery(PolicyFile(source.policies, picker_names), ExpertFile(source.experts))
    if source.profiles is not None:
        read_profiles(source.profiles)  # wrong from the start ends the start
    from pointsman_operator.discovery.kubernetes import KubernetesDiscovery  # kopf takes time to import

    return KubernetesDiscovery(picker_names, source.namespaces, source.profiles)


def _read_predictor(folder: Path) -> FittedPredictor:
    predictor = read_predictor(folder)
    predictor.predict("warm up", 2)
    _LOGGER.info("Predicting quality and length of answers with %s, fitted on %s", folder, ", ".join(predictor.models))
    return predictor


def _tls(settings: RouterSettings) -> TlsFiles | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    return TlsFiles(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)


async def _serve_admin(stack: AsyncExitStack, settings: RouterSettings, app: web.Application) -> int:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, settings.admin_host, settings.admin_port).start()
    return int(runner.addresses[0][1])


async def _tick(parts: _Parts, server: RouterServer) -> None:
    """Do what time alone brings: changes that had to wait, readiness, expiry of decisions and of load samples."""
    while True:
        try:
            parts.configuration.complete()
            if parts.link is not None:
                parts.link.set_policies(policy.key for policy in parts.discovery.policies() if policy.policy)
            await server.set_ready(ready=not parts.not_ready())
            parts.router.expire()
        except Exception:
            _LOGGER.exception("Upkeep failed; trying again")
        await asyncio.sleep(_TICK_SECONDS)


def _telemetry_counts(counts: TelemetryCounts, router: Router) -> list[TelemetryCount]:
    """Return the counts of the experts that there are now."""
    known = {view.endpoint.address for _, view in router.views()}
    return [TelemetryCount(one, counts.samples[one], counts.problems[one]) for one in sorted(known)]
