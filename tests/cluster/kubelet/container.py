"""One container: started, probed, restarted, stopped."""

import asyncio
import contextlib
import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tests.cluster.kubelet import probes
from tests.cluster.kubelet.documents import Document
from tests.cluster.kubelet.probes import Target
from tests.cluster.kubelet.process import NOT_FOUND_EXIT_CODE, Command, Process, StartError
from tests.cluster.kubelet.sources import NotThereError

LONGEST_BACKOFF_SECONDS = 30.0
CONFIGURATION_RETRY_SECONDS = 0.5
LONGEST_HOOK_SECONDS = 600.0


class ImageError(RuntimeError):
    """Nothing stands for an image."""


class Surroundings(Protocol):
    """What a container needs of its pod."""

    def command(self, container: Document, attempt: int) -> Command:
        """Return what to run.

        Raises:
            ImageError: nothing stands for its image.
            NotThereError: an object that its environment refers to is missing.
        """

    def target(self, container: Document, command: Command) -> Target:
        """Return whom to probe."""

    def changed(self) -> None:
        """Take note that a state changed."""

    def event(self, kind: str, reason: str, message: str) -> None:
        """Record an event about the pod."""


@dataclass
class State:
    """What the status of a pod says of one container."""

    current: Document = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last: Document = field(default_factory=dict)
    ready: bool = False
    started: bool = False
    restart_count: int = 0
    container_id: str = ""

    @property
    def exit_code(self) -> int | None:
        """The exit code, or None while it has not ended."""
        ended = self.current.get("terminated")
        return None if ended is None else int(ended["exitCode"])


class Container:
    """Runs one container of a pod, with its probes.

    Args:
        document: as in the pod's spec.
        surroundings: its pod.
        restarts: says by the exit code whether it is started again.
        backoff_seconds: wait before its second restart.
        restart_count: how often it was started before, by a kubelet before this one.
    """

    def __init__(
        self,
        document: Document,
        surroundings: Surroundings,
        restarts: Callable[[int], bool],
        backoff_seconds: float,
        restart_count: int = 0,
    ) -> None:
        self.document = document
        self.state = State(restart_count=restart_count)
        self._surroundings, self._restarts, self._backoff_seconds = surroundings, restarts, backoff_seconds
        self._process: Process | None = None
        self._command: Command | None = None
        self._over = asyncio.Event()
        self._over.set()
        self._stopping = False
        self._kills: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.document["name"])

    @property
    def running_command(self) -> Command | None:
        """What it runs now, or None."""
        return None if self._process is None else self._command

    async def run(self) -> int:
        """Start it, again and again as the restart policy says; return the exit code with which it stays ended."""
        failures = 0
        while True:
            code = await self._run_once()
            if self._stopping or not self._restarts(code):
                return code
            await self._back_off(failures, code)
            failures += 1
            self.state.restart_count += 1

    async def stop(self, grace_seconds: float) -> None:
        """End it for good: preStop hook, SIGTERM, and SIGKILL when the time is over; returns when it has ended."""
        self._stopping = True
        await self._end(grace_seconds)

    def kill(self) -> None:
        """Kill it for good at once."""
        self._stopping = True
        if self._process is not None:
            self._process.kill()

    async def _run_once(self) -> int:
        process = await self._start()
        if process is None:
            return NOT_FOUND_EXIT_CODE
        self._process = process
        self._over.clear()
        started_at = _now()
        self.state.container_id = f"process://{process.pid}"
        self._enter({"running": {"startedAt": started_at}})
        watching = asyncio.create_task(self._watch())
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        finally:
            self._process = None
            self._over.set()
            watching.cancel()
        reason = "Completed" if code == 0 else "Error"
        self._enter({"terminated": self._terminated(code, reason, started_at)})
        return code

    async def _start(self) -> Process | None:
        """Start the process; wait for what it needs; return None if it cannot be started at all."""
        while True:
            try:
                self._command = self._surroundings.command(self.document, self.state.restart_count)
                return await Process.start(self._command)
            except ImageError as error:
                self._wait("ErrImagePull", str(error))
                await asyncio.sleep(CONFIGURATION_RETRY_SECONDS)
            except NotThereError as error:
                self._wait("CreateContainerConfigError", str(error))
                await asyncio.sleep(CONFIGURATION_RETRY_SECONDS)
            except StartError as error:
                self._surroundings.event("Warning", "Failed", f"Error: {error}")
                ended = self._terminated(NOT_FOUND_EXIT_CODE, "StartError", _now())
                self._enter({"terminated": {**ended, "message": str(error)}})
                return None

    async def _watch(self) -> None:
        """Run the hook that follows the start, then the probes, until cancelled."""
        if hook := self.document.get("lifecycle", {}).get("postStart"):
            failure = await self._act(hook, probes.GRACE_SECONDS)
            if failure is not None:
                self._fail("FailedPostStartHook", failure)
                return
        if startup := self.document.get("startupProbe"):
            await self._until_started(startup)
        self.state.started = True
        readiness, liveness = self.document.get("readinessProbe"), self.document.get("livenessProbe")
        if readiness is None:
            self._set_ready(True, "")
        self._surroundings.changed()
        async with asyncio.TaskGroup() as group:
            if readiness is not None:
                group.create_task(probes.watch(readiness, self._check(readiness), self._set_ready, hurry=True))
            if liveness is not None:
                group.create_task(probes.watch(liveness, self._check(liveness), self._set_alive))

    async def _until_started(self, probe: Document) -> None:
        started = asyncio.Event()

        def tell(success: bool, why: str) -> None:
            if success:
                started.set()
            else:
                self._fail("Unhealthy", f"Startup probe failed: {why}")

        watching = asyncio.create_task(probes.watch(probe, self._check(probe), tell))
        try:
            await started.wait()
        finally:
            watching.cancel()

    def _check(self, probe: Document) -> probes.Check:
        return lambda: self._act(probe, max(float(probe.get("timeoutSeconds", 1)), probes.LEAST_TIMEOUT_SECONDS))

    async def _act(self, action: Document, seconds: float) -> str | None:
        assert self._command is not None
        target = self._surroundings.target(self.document, self._command)
        return await probes.run_action(action, target, seconds)

    def _set_ready(self, ready: bool, why: str) -> None:
        if not ready and self.state.ready:
            self._surroundings.event("Warning", "Unhealthy", f"Readiness probe failed: {why}")
        if ready != self.state.ready:
            self.state.ready = ready
            self._surroundings.changed()

    def _set_alive(self, alive: bool, why: str) -> None:
        if not alive:
            self._fail("Unhealthy", f"Liveness probe failed: {why}")

    def _fail(self, reason: str, message: str) -> None:
        """End it because it is not well; the restart policy decides on what follows."""
        self._surroundings.event("Warning", reason, message)
        self._surroundings.event("Normal", "Killing", f"Container {self.name} is unwell, will be restarted")
        kill = asyncio.create_task(self._end(probes.GRACE_SECONDS))
        self._kills.add(kill)
        kill.add_done_callback(self._kills.discard)

    async def _end(self, grace_seconds: float) -> None:
        process = self._process
        if process is None:
            return
        asking = asyncio.create_task(self._ask_to_end(process))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), grace_seconds)
        asking.cancel()
        process.kill()
        await self._over.wait()

    async def _ask_to_end(self, process: Process) -> None:
        if hook := self.document.get("lifecycle", {}).get("preStop"):
            failure = await self._act(hook, LONGEST_HOOK_SECONDS)
            if failure is not None:
                self._surroundings.event("Warning", "FailedPreStopHook", failure)
        process.terminate()

    async def _back_off(self, failures: int, code: int) -> None:
        self.state.last = self.state.current
        if failures == 0 and code != NOT_FOUND_EXIT_CODE:
            return
        seconds = min(self._backoff_seconds * 2 ** max(0, failures - 1), LONGEST_BACKOFF_SECONDS)
        message = f"back-off {seconds:g}s restarting failed container={self.name}"
        self._wait("CrashLoopBackOff", message)
        await asyncio.sleep(seconds)

    def _wait(self, reason: str, message: str) -> None:
        state = {"waiting": {"reason": reason, "message": message}}
        if state != self.state.current:
            self._surroundings.event("Warning", "BackOff" if reason == "CrashLoopBackOff" else "Failed", message)
            self._enter(state)

    def _enter(self, state: Document) -> None:
        self.state.current = state
        if "running" not in state:
            self.state.ready = self.state.started = False
        self._surroundings.changed()

    def _terminated(self, code: int, reason: str, started_at: str) -> Document:
        ended = {"exitCode": code, "reason": reason, "startedAt": started_at, "finishedAt": _now()}
        return ended | {"containerID": self.state.container_id}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
