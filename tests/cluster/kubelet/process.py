"""A process that stands for a container's."""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.cluster.kubelet.expansion import MountPaths
from tests.cluster.part import DIES_WITH_ITS_PARENT

NOT_FOUND_EXIT_CODE = 128
LAST_WORDS_BYTES = 2048


class StartError(RuntimeError):
    """A program cannot be started; the message says which."""


@dataclass(frozen=True)
class Command:
    """What to run, and where."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    log: Path
    paths: MountPaths

    def with_arguments(self, arguments: Sequence[str]) -> "Command":
        """Return a command for the same surroundings, with mount paths replaced in its arguments."""
        return replace(self, arguments=[self.paths.in_text(argument) for argument in arguments])

    def program(self) -> list[str]:
        """Return the arguments with the program's place; a path that only an image has is looked up by its last name.

        Raises:
            StartError: there is no such program.
        """
        if not self.arguments:
            message = "no command specified"
            raise StartError(message)
        name, *others = self.arguments
        paths = self.environment["PATH"]
        found = shutil.which(name, path=paths) or shutil.which(Path(name).name, path=paths)
        if found is None:
            message = f'exec: "{name}": executable file not found in $PATH'
            raise StartError(message)
        return [found, *others]


class Process:
    """A running program in a process group of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    @classmethod
    async def start(cls, command: Command) -> "Process":
        """Start a command, its output appended to its log.

        Raises:
            StartError: there is no such program.
        """
        arguments = [*DIES_WITH_ITS_PARENT, *command.program()]
        command.folder.mkdir(parents=True, exist_ok=True)
        with command.log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *arguments,
                cwd=command.folder,
                env=command.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return cls(process)

    async def wait(self) -> int:
        """Return the exit code (128 + signal for a killed one) when it has ended, and nothing of its group is left."""
        code = await self._process.wait()
        self._signal_group(signal.SIGKILL)
        return code if code >= 0 else 128 - code

    def terminate(self) -> None:
        """Send SIGTERM to the program alone, as containers get it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """Kill it and all that it started."""
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


async def run_to_end(command: Command, seconds: float) -> tuple[int, str]:
    """Run a short command; return its exit code and the end of its output.

    Raises:
        StartError: there is no such program.
        TimeoutError: it took longer, and was killed.
    """
    process = await asyncio.create_subprocess_exec(
        *command.program(),
        cwd=command.folder,
        env=command.environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), seconds)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    return process.returncode or 0, output[-LAST_WORDS_BYTES:].decode(errors="replace")
