"""One process of the control plane, which tests may stop and start again."""

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

POLL_SECONDS = 0.1
START_SECONDS = 400.0
"""An API server is up after 5 s, but has 8 s of work to do, and the machine may be busy."""
DIES_WITH_ITS_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")
"""Prefix of commands: however this process ends, what it started does not outlive it."""


class PartFailedError(RuntimeError):
    """A part ended by itself, or was not ready in time; the message ends with its log."""


@dataclass
class Part:
    """A command and how to see that it serves."""

    name: str
    command: Sequence[str]
    ready: Callable[[], bool]
    log: Path
    folder: Path | None = None
    """Where it is started; None for where we are."""
    grace_seconds: float = 20.0
    """How long it may take to end before it is killed."""
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @property
    def pid(self) -> int:
        """The process id.

        Raises:
            PartFailedError: it is not running.
        """
        if self._process is None:
            message = f"{self.name} is not running"
            raise PartFailedError(message)
        return self._process.pid

    def start(self, seconds: float = START_SECONDS) -> None:
        """Start it and return when it serves."""
        self.launch()
        self.wait_until_ready(seconds)

    def launch(self) -> None:
        """Start it without waiting; nothing happens if it runs."""
        if self._process is None:
            with self.log.open("ab") as output:
                command = [*DIES_WITH_ITS_PARENT, *self.command]
                self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=self.folder)

    def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        """Return when it serves.

        Raises:
            PartFailedError: it ended, or does not serve after that many seconds.
        """
        deadline = time.monotonic() + seconds
        while not self.ready():
            if self._process is None or self._process.poll() is not None:
                raise PartFailedError(self._story("ended by itself"))
            if time.monotonic() > deadline:
                raise PartFailedError(self._story(f"was not ready after {seconds:g} s"))
            time.sleep(POLL_SECONDS)

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        """End it and return when it has; SIGKILL follows if the signal is not heeded."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal_number)
        try:
            process.wait(self.grace_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self) -> None:
        """Stop it, start it, and return when it serves."""
        self.stop()
        self.start()

    def _story(self, what: str) -> str:
        last = "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])
        return f"{self.name} {what}; the end of {self.log}:\n{last}"
