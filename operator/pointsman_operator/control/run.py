"""Wires the operator: the one place where its objects meet."""

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry

from pointsman_operator.control.admin import admin_app
from pointsman_operator.control.api import KubernetesApi
from pointsman_operator.control.events import Announcer
from pointsman_operator.control.facts import Facts
from pointsman_operator.control.handlers import make_registry
from pointsman_operator.control.kopf_session import run_kopf
from pointsman_operator.control.metrics import OperatorMetrics
from pointsman_operator.control.peering import Peering, priority_of_start
from pointsman_operator.control.picker_names import picker_names
from pointsman_operator.control.polling import RouterPolls
from pointsman_operator.control.reconciler import Reconciler
from pointsman_operator.control.rollout_polls import RolloutPolls
from pointsman_operator.control.settings import OperatorSettings
from pointsman_operator.control.webhook import AdmissionServer
from pointsman_operator.control.writer import StatusWriter
from pointsman_operator.discovery.catalogue import Objects
from pointsman_operator.discovery.cluster_watch import ClusterWatch
from pointsman_operator.discovery.connection import connect
from pointsman_operator.errors import KubernetesError

_LOGGER = logging.getLogger(__name__)

_COALESCE_SECONDS = 0.1
"""Changes that come together make one pass."""
_LONGEST_SILENCE_SECONDS = 60.0
"""A loop that has not come round for so long hangs."""


async def run_operator(settings: OperatorSettings, started: Callable[[int], None] | None = None) -> None:
    """Look after RouterPolicies until SIGTERM or SIGINT.

    Args:
        settings: How to run.
        started: Called with the admin port once it is served.

    Raises:
        OSError: If the admin address cannot be listened on, or the webhook's certificate cannot be used.
    """
    operator = _Operator(settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(operator.close)
        port = await _serve_admin(stack, settings, operator)
        _LOGGER.info("Replica %s: admin on port %d", operator.identity, port)
        if started is not None:
            started(port)
        await operator.run()


async def _serve_admin(stack: AsyncExitStack, settings: OperatorSettings, operator: "_Operator") -> int:
    app = admin_app(operator.metrics, operator.not_alive, operator.not_ready)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, settings.admin_host, settings.admin_port).start()
    return int(runner.addresses[0][1])


class _Operator:
    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self.identity = settings.identity or f"{socket.gethostname()}-{os.getpid()}"
        self._priority = priority_of_start(time.time()) if settings.priority is None else settings.priority
        self.metrics = OperatorMetrics(CollectorRegistry())
        self._api = KubernetesApi(connect)
        service = settings.policy_service
        self._facts = Facts(picker_names(), has_policy_service=service is not None)
        self._polls = RouterPolls(self._api, settings.routers, self.metrics)
        self._rollouts = RolloutPolls(service, self.metrics, time.monotonic) if service is not None else None
        self._peering = Peering(self._api, settings.peering, settings.namespaces, self.identity, self._priority)
        writer = StatusWriter(self._api, self.metrics, time.monotonic)
        announcer = Announcer(self._api, self.metrics, self.identity, time.monotonic)
        where = settings.routers.described
        self._reconciler = Reconciler(self._facts, writer, announcer, self.metrics, where, time.monotonic)
        # Made at once, so that a wrong certificate ends the start; kept, so that its file is watched once.
        self._server = AdmissionServer(settings.webhook, self._webhook_changed) if settings.webhook else None
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        self._problem = ""
        self._webhook_serving = self._server is None
        self._active = False
        self._turned = time.monotonic()

    def not_alive(self) -> str:
        """Say why the process hangs; empty = it does not."""
        silence = time.monotonic() - self._turned
        return f"no turn for {silence:.0f} s" if silence > _LONGEST_SILENCE_SECONDS else ""

    def not_ready(self) -> str:
        """Say why there should be no admission reviews now; empty = they are answered."""
        if self._stop.is_set():
            return "draining"
        if not self._facts.has_objects:
            return self._problem or "the cluster has not been read yet"
        return "" if self._webhook_serving else "the webhook is not served yet"

    async def run(self) -> None:
        """Run until told to stop by a signal."""
        self._catch_signals()
        loop = asyncio.get_running_loop()
        watch = ClusterWatch(
            connect,
            self._settings.namespaces,
            lambda objects: _call(loop, self._take, objects),
            lambda problem: _call(loop, self._note, problem),
        )
        watch.start()
        loops = (self._poll(), self._poll_rollouts(), self._reconcile(), self._kopf())
        tasks = [asyncio.create_task(one) for one in loops]
        try:
            await self._stop.wait()
            _LOGGER.info("Stopping")
            if self._server is not None:
                await asyncio.sleep(self._settings.drain_notice_seconds)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(watch.stop)

    async def close(self) -> None:
        """Close connections."""
        if self._rollouts is not None:
            await self._rollouts.close()
        await self._polls.close()
        await self._api.close()

    def _catch_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)

    def _take(self, objects: Objects) -> None:
        self._facts.take(objects)
        self._changed.set()

    def _note(self, problem: str) -> None:
        self._problem = problem
        if problem:
            _LOGGER.warning("%s", problem)

    def _webhook_changed(self, port: int | None) -> None:
        self._webhook_serving = port is not None
        if port is not None:
            _LOGGER.info("Serving the admission webhook on port %d", port)

    async def _kopf(self) -> None:
        await self._until_kopf_can_start()
        await run_kopf(
            lambda: make_registry(
                self._facts, self.metrics, connect, self._changed.set, admission=self._server is not None
            ),
            lambda: self._server,
            namespaces=self._settings.namespaces,
            peering=self._settings.peering,
            priority=self._priority,
            identity=self.identity,
            spawned=self._catch_signals,
        )

    async def _until_kopf_can_start(self) -> None:
        """Wait for the custom resources, which kopf looks for only once."""
        told = ""
        while True:
            try:
                await self._peering.look()
            except KubernetesError as error:
                if str(error) != told:
                    told = str(error)
                    _LOGGER.warning("%s", error)
            else:
                if self._facts.has_objects:
                    return
            await asyncio.sleep(1.0)

    async def _poll(self) -> None:
        told = ""
        while True:
            try:
                await self._peering.look()
                self._turn_active(active=not self._peering.standby_for)
                if self._active and self._facts.policy_count:
                    self._facts.reports = await self._polls.round()
                    self._reconciler.observe()
                    self._changed.set()
                told = ""
            except (KubernetesError, OSError) as error:
                if str(error) != told:
                    told = str(error)
                    _LOGGER.warning("Routers cannot be asked: %s", error)
            except Exception:
                _LOGGER.exception("Asking the routers failed; trying again")
            await asyncio.sleep(self._settings.poll_interval_seconds)

    async def _poll_rollouts(self) -> None:
        """Speak with the policy service, apart from the routers, which must not wait for it."""
        while self._rollouts is not None:
            try:
                if self._active and self._facts.has_objects:
                    rollouts = await self._rollouts.round(self._facts.valid_policies())
                    if rollouts != self._facts.rollouts:
                        self._facts.rollouts = rollouts
                        self._changed.set()
            except Exception:
                _LOGGER.exception("Asking the policy service failed; trying again")
            await asyncio.sleep(self._settings.poll_interval_seconds)

    def _turn_active(self, *, active: bool) -> None:
        if active != self._active:
            _LOGGER.info("Active" if active else f"Standing by for {self._peering.standby_for}")
        self._active = active
        self.metrics.active(active=active)

    async def _reconcile(self) -> None:
        wait: float | None = None
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait if wait is not None else _LONGEST_SILENCE_SECONDS / 4):
                    await self._changed.wait()
            await asyncio.sleep(_COALESCE_SECONDS)
            self._changed.clear()
            self._turned = time.monotonic()
            wait = None
            if self._active and self._facts.complete:
                try:
                    wait = await self._reconciler.reconcile()
                except Exception:
                    _LOGGER.exception("A pass over the policies failed; trying again")


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., Any], *arguments: object) -> None:
    with suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(function, *arguments)
