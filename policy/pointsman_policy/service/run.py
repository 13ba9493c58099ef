"""Wires the policy service: the one place where its objects meet."""

import asyncio
import logging
import random
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any

from aiohttp import web

from pointsman_policy.experience.location import StoreLocation
from pointsman_policy.experience.store import OutcomeStore
from pointsman_policy.registry.registry import Registry
from pointsman_policy.service.admin import admin_app
from pointsman_policy.service.assignments import Assignments
from pointsman_policy.service.drifts import Drifts
from pointsman_policy.service.exports import export_drifts, export_rollouts, export_store, export_trainings
from pointsman_policy.service.ingestion import Ingestion
from pointsman_policy.service.metrics import ServiceMetrics
from pointsman_policy.service.policy_settings import PolicyConfiguration
from pointsman_policy.service.rollouts import Rollouts
from pointsman_policy.service.schedules import Schedules
from pointsman_policy.service.server import PolicyServer
from pointsman_policy.service.servicer import PolicyServicer
from pointsman_policy.service.settings import ServiceSettings
from pointsman_policy.service.trainings import Trainings

_LOGGER = logging.getLogger(__name__)

_LONGEST_SILENCE_SECONDS = 60.0
"""A loop that has not come round for so long hangs."""

Started = Callable[[tuple[int, ...], int], None]


async def run_service(settings: ServiceSettings, configurations: Sequence[PolicyConfiguration] = ()) -> None:
    """Serve policies until SIGTERM or SIGINT.

    Args:
        settings: How to run.
        configurations: Of policies, in place of what an operator would tell.

    Raises:
        PointsmanError: If the root cannot be used, or another process has it.
        OSError: If it cannot be read, or the admin address cannot be listened on.
        RuntimeError: If an address cannot be listened on.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(settings, configurations, stop)


async def serve(
    settings: ServiceSettings,
    configurations: Sequence[PolicyConfiguration],
    stop: asyncio.Event,
    started: Started | None = None,
) -> None:
    """Serve policies until told to stop; arguments and errors are those of `run_service`.

    Args:
        settings: How to run.
        configurations: Of policies.
        stop: Set to end it.
        started: Called with the ports of gRPC and the admin port once both are served.
    """
    async with AsyncExitStack() as stack:
        service = _Service(settings, stop)
        stack.callback(service.close)
        admin_port = await _serve_admin(stack, settings, service)
        ports = await service.start(configurations)
        stack.push_async_callback(service.stop)
        _LOGGER.info("Serving policies on %s, admin on port %d", ports, admin_port)
        if started is not None:
            started(ports, admin_port)
        await service.run()


async def _serve_admin(stack: AsyncExitStack, settings: ServiceSettings, service: "_Service") -> int:
    app = admin_app(service.metrics, service.not_alive, service.not_ready)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, settings.admin_host, settings.admin_port).start()
    return int(runner.addresses[0][1])


class _Service:
    def __init__(self, settings: ServiceSettings, stop: asyncio.Event) -> None:
        self._settings = settings
        self._stop = stop
        location = StoreLocation(settings.root, settings.outcomes_url)
        self._store = OutcomeStore(location, settings.retention, time.time)
        self._registry = Registry(settings.root)
        self._rollouts = Rollouts(settings.root, self._registry, time.time)
        self._ingestion = Ingestion(
            self._store, time.time, lambda policy: self._rollouts.settings(policy).store_prompts
        )
        self._assignments = Assignments(self._rollouts.assignment)
        self._rollouts.changed = self._assignments.changed
        self._trainings = Trainings(
            settings.root,
            self._store,
            self._registry,
            self._rollouts,
            command=settings.training_command,
            processors=settings.training_processors,
            clock=time.time,
            rng=random.SystemRandom(),
        )
        self._schedules = Schedules(self._store, self._rollouts, self._trainings, time.time)
        self._drifts = Drifts(settings.root, self._store, self._registry, self._rollouts)
        self.metrics = ServiceMetrics()
        export_store(self.metrics, self._store, self._ingestion)
        export_rollouts(self.metrics, self._rollouts, self._assignments)
        export_trainings(self.metrics, self._rollouts, self._trainings)
        export_drifts(self.metrics, self._rollouts, self._drifts)
        servicer = PolicyServicer(
            self._store,
            self._ingestion,
            self._registry,
            self._rollouts,
            self._assignments,
            self._trainings,
            self._schedules,
            self._drifts,
        )
        self._server = PolicyServer(servicer, settings)
        self._ready = False
        self._turned = time.monotonic()

    def not_alive(self) -> str:
        """Say why the process hangs; empty = it does not."""
        silence = time.monotonic() - self._turned
        return f"no turn for {silence:.0f} s" if self._ready and silence > _LONGEST_SILENCE_SECONDS else ""

    def not_ready(self) -> str:
        """Say why nobody should call now; empty = they may."""
        if self._stop.is_set():
            return "draining"
        return "" if self._ready else "the store is being read"

    async def start(self, configurations: Sequence[PolicyConfiguration]) -> tuple[int, ...]:
        """Bring everything back to where it was, then listen."""
        for problem in self._store.problems:
            _LOGGER.error("%s", problem)
        await self._attempt("moving outcomes into parts", asyncio.to_thread(self._store.compact))
        for one in configurations:
            self._rollouts.configure(one)
        await self._rollouts.restore()
        ports = await self._server.start()
        self._ready = True
        return ports

    async def run(self) -> None:
        """Run until told to stop."""
        tasks = [asyncio.create_task(one) for one in self._work()]
        try:
            await self._stop.wait()
            _LOGGER.info("Stopping")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _work(self) -> list[Coroutine[Any, Any, None]]:
        return [self._tick(), self._compact(), self._watch(), self._trainings.run()]

    async def stop(self) -> None:
        """Stop serving."""
        self._assignments.end()
        await self._server.stop()

    def close(self) -> None:
        """Let another process have the store."""
        self._store.close()

    async def _tick(self) -> None:
        while True:
            self._turned = time.monotonic()
            await self._attempt(
                "looking for better yardsticks", self._rollouts.evidence.refresh_yardsticks(missing_only=True)
            )
            try:
                self._rollouts.tick()
            except Exception:
                _LOGGER.exception("A look at the rollouts failed; trying again")
            await self._attempt("looking at the schedules", self._schedules.tick())
            await asyncio.sleep(self._settings.tick_seconds)

    async def _watch(self) -> None:
        while True:
            await self._attempt("looking for drift", self._drifts.look())
            await asyncio.sleep(self._settings.drift_seconds)

    async def _compact(self) -> None:
        while True:
            await asyncio.sleep(self._settings.compact_seconds)
            await self._attempt("moving outcomes into parts", asyncio.to_thread(self._store.compact))
            await self._attempt("looking for better yardsticks", self._rollouts.evidence.refresh_yardsticks())

    async def _attempt(self, what: str, work: Awaitable[None]) -> None:
        """Do some work that may fail now and is tried again later."""
        try:
            await work
        except OSError as error:
            _LOGGER.error("%s failed, trying again later: %s", what.capitalize(), error)
        except Exception:
            _LOGGER.exception("%s failed, trying again later", what.capitalize())
