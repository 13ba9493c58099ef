"""The process of a training: niced, on few cores, and never two of them in one work folder."""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_LOGGER = logging.getLogger(__name__)

_NICENESS = 19
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_LAST_WORDS_BYTES = 4_000
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended."""

    code: int
    """Exit code; below 0 = the signal that killed it."""
    last_words: str
    """The last line that it wrote."""


async def run_training(
    command: Sequence[str], log: Path, lock: Path, processors: int, started: Callable[[int], None]
) -> Ended:
    """Run a training until it ends; it is ended when this is cancelled.

    Args:
        command: The program and its arguments.
        log: Gets what it writes.
        lock: Held by it as long as it lives, whatever becomes of this process.
        processors: Cores that it may use.
        started: Called with its id.

    Raises:
        OSError: If it cannot be started.
    """
    held = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | dict.fromkeys(_ONE_THREAD, str(processors)),
                pass_fds=(held,),
                start_new_session=True,
            )
    finally:
        os.close(held)
    _hold_back(process.pid, processors)
    started(process.pid)
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        end_process(process.pid)
        await process.wait()
        raise
    return Ended(code, _last_words(log))


async def end_leftover(process: int, lock: Path) -> None:
    """End the process that an earlier service started in a work folder, if it lives, and wait until it is gone.

    Args:
        process: Its id, as it was noted.
        lock: Which it holds.
    """
    while not _is_free(lock):
        if process:
            end_process(process)
        await asyncio.sleep(_POLL_SECONDS)


def end_process(process: int) -> None:
    """Kill a process and those that it has started; one that is gone is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)


def _is_free(lock: Path) -> bool:
    try:
        file = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(file)
    return True


def _hold_back(process: int, processors: int) -> None:
    """Let everything else go first, the service included."""
    try:
        os.setpriority(os.PRIO_PROCESS, process, _NICENESS)
        os.sched_setaffinity(process, sorted(os.sched_getaffinity(0))[-processors:])
    except OSError as error:  # it has ended already
        _LOGGER.debug("process %d cannot be held back: %s", process, error)
    # Outside containers Linux may weigh whole sessions against one another; niceness alone counts only within one.
    with contextlib.suppress(OSError):
        Path(f"/proc/{process}/autogroup").write_text(str(_NICENESS), "ascii")


def _last_words(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(log.stat().st_size - _LAST_WORDS_BYTES, 0))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip()[:500] if lines else ""
