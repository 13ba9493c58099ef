"""The policy service's admin port: metrics and probes."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from pointsman_policy.service.metrics import ServiceMetrics


def admin_app(metrics: ServiceMetrics, not_alive: Callable[[], str], not_ready: Callable[[], str]) -> web.Application:
    """Return the application that serves the admin port.

    Args:
        metrics: Exported at /metrics.
        not_alive: Returns why the process should be started anew; empty = it is alive.
        not_ready: Returns why nobody should call it now; empty = it is ready.
    """

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(_: web.Request) -> web.Response:
        return _probe(not_alive(), "ok")

    async def readyz(_: web.Request) -> web.Response:
        return _probe(not_ready(), "ready")

    app = web.Application()
    app.router.add_get("/metrics", exposition)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app


def _probe(problem: str, good: str) -> web.Response:
    return web.Response(status=503 if problem else 200, text=f"{problem or good}\n")
