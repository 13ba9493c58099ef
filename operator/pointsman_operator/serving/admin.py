"""The admin port: metrics, probes, a look inside, and judgements of answers; for operators and not for clients.

Prompts never appear here.
"""

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from pointsman_operator.decision import Routing
from pointsman_operator.errors import RouteError
from pointsman_operator.metrics import Metrics
from pointsman_operator.problems import Problems
from pointsman_policy.experts import Expert


def admin_app(
    routing: Routing, metrics: Metrics, not_ready: Callable[[], str], problems: Callable[[], Problems]
) -> web.Application:
    """Return the application that serves the admin port.

    Args:
        routing: The routing core.
        metrics: Exported at /metrics.
        not_ready: Returns why the router should get no traffic now; empty = it is ready.
        problems: Returns what is wrong although the router serves.
    """
    admin = _Admin(routing, metrics, not_ready, problems)
    app = web.Application()
    app.router.add_get("/metrics", admin.metrics)
    app.router.add_get("/healthz", admin.healthz)
    app.router.add_get("/readyz", admin.readyz)
    app.router.add_get("/debug/state", admin.state)
    app.router.add_get("/debug/decisions/{id}", admin.decision)
    app.router.add_post("/decisions/{id}/quality", admin.quality)
    return app


class _Admin:
    def __init__(
        self, routing: Routing, metrics: Metrics, not_ready: Callable[[], str], problems: Callable[[], Problems]
    ) -> None:
        self._routing = routing
        self._metrics = metrics
        self._not_ready = not_ready
        self._problems = problems

    async def metrics(self, _: web.Request) -> web.Response:
        exposition = generate_latest(self._metrics.registry)
        return web.Response(body=exposition, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(self, _: web.Request) -> web.Response:
        reason = self._not_ready()
        return web.Response(status=503 if reason else 200, text=f"{reason or 'ready'}\n")

    async def state(self, _: web.Request) -> web.Response:
        policies: dict[str, dict[str, Any]] = {}
        for model in self._routing.models():
            name, views = self._routing.experts(model)
            policy = policies.setdefault(name, {"name": name, "models": [], "experts": _builtins(views)})
            policy["models"].append(model)
        return _json(
            {
                "not_ready": self._not_ready(),
                "problems": _builtins(self._problems()),
                "policies": list(policies.values()),
            }
        )

    async def decision(self, request: web.Request) -> web.Response:
        try:
            explanation = self._routing.explain(request.match_info["id"])
        except RouteError as error:
            return _json({"error": str(error)}, error.http_status)
        document = _builtins(explanation)
        if explanation.outcome:
            document["outcome"]["status"] = explanation.outcome.status.name
        return _json(document)

    async def quality(self, request: web.Request) -> web.Response:
        try:
            judgement = msgspec.json.decode(await request.read(), type=_Judgement)
            self._routing.label(request.match_info["id"], judgement.quality)
        except msgspec.DecodeError as error:
            return _json({"error": f'post a quality from 0 to 1, such as {{"quality": 0.8}} ({error})'}, 400)
        except RouteError as error:
            return _json({"error": str(error)}, error.http_status)
        return web.Response(status=204)


class _Judgement(msgspec.Struct, forbid_unknown_fields=True):
    """What a judge of answers posts."""

    quality: Annotated[float, msgspec.Meta(ge=0, le=1)]


def _builtins(value: object) -> Any:
    return msgspec.to_builtins(value, enc_hook=_describe)


def _describe(value: object) -> dict[str, Any]:
    """Stand in for the one type inside the core's dataclasses that is not one itself."""
    if not isinstance(value, Expert):
        raise NotImplementedError
    shown = {"name", "endpoint", "model", "served_model_names", "gpu", "engine", "labels", "quality_prior_percent"}
    return value.model_dump(mode="json", include=shown)


def _json(document: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(document), content_type="application/json")
