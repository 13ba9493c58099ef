"""The real parts as processes that tests may stop, kill and start again."""

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import requests

DEADLINE_SECONDS = 60.0
START_SECONDS = 240.0
"""A first start compiles kernels, on a machine that may be busy."""


def eventually(condition: Callable[[], object], what: str, seconds: float = DEADLINE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.02)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Process:
    """One part, ready when `ready` says so."""

    command: Sequence[str]
    ready: Callable[[], bool]
    log: Path
    _running: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    def start(self) -> None:
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        assert self._running is None
        with self.log.open("ab") as output:
            self._running = subprocess.Popen(self.command, stdout=output, stderr=subprocess.STDOUT)

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self._running is not None
            assert self._running.poll() is None, f"{self.log.stem} ended early:\n{self.last_words()}"
            return self.ready()

        eventually(ready, f"{self.log.stem} is not ready; see {self.log}", START_SECONDS)

    def signal(self, number: signal.Signals) -> None:
        assert self._running is not None
        self._running.send_signal(number)

    def wait(self) -> int:
        """Return the status with which it ends by itself."""
        assert self._running is not None
        status = self._running.wait(DEADLINE_SECONDS)
        self._running = None
        return status

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def terminate(self) -> None:
        if self._running is not None:
            self._running.terminate()

    def stop(self) -> None:
        self.terminate()
        if self._running is None:
            return
        try:
            self._running.wait(15)
        except subprocess.TimeoutExpired:
            self._running.kill()
            self._running.wait()
        self._running = None

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]
