"""Real processes for the tests: started on free loopback ports, stopped at the end of the test."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import requests
import yaml

Process = subprocess.Popen[bytes]


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Return a TCP port that nothing on loopback listens on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    return find


@pytest.fixture
def running(tmp_path: Path) -> Callable[..., AbstractContextManager[Process]]:
    """Run a process inside a ``with`` block.

    ``running(argv, ready, deadline_seconds=30)`` enters once `ready()` is true; if the process ends before or is not
    ready at the deadline, the error shows the end of its output.
    """
    started = 0

    @contextlib.contextmanager
    def run(argv: Sequence[str], ready: Callable[[], bool], deadline_seconds: float = 30.0) -> Iterator[Process]:
        nonlocal started
        started += 1
        log = tmp_path / f"{Path(argv[0]).name}-{started}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait_until_ready(process, ready, deadline_seconds, log)
            yield process
        finally:
            _stop(process)

    return run


@pytest.fixture
def start_prometheus(
    running: Callable[..., AbstractContextManager[Process]], tmp_path: Path
) -> Callable[[int, Mapping[str, Sequence[str]]], AbstractContextManager[Process]]:
    """Run a real Prometheus inside a ``with`` block.

    ``start_prometheus(port, targets)`` scrapes the "ip:port" targets of each job every second.
    """
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("needs Debian's package prometheus")

    @contextlib.contextmanager
    def start(port: int, targets: Mapping[str, Sequence[str]]) -> Iterator[Process]:
        jobs = [
            {"job_name": job, "static_configs": [{"targets": list(addresses)}]} for job, addresses in targets.items()
        ]
        config = tmp_path / "prometheus.yml"
        config.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
        argv = [
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with running(argv, lambda: _answers(f"http://127.0.0.1:{port}/-/ready")) as process:
            yield process

    return start


def _wait_until_ready(process: Process, ready: Callable[[], bool], deadline_seconds: float, log: Path) -> None:
    deadline = time.monotonic() + deadline_seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            state = "not ready in time" if process.returncode is None else f"ended with status {process.returncode}"
            pytest.fail(f"{log.stem}: {state}; its output ends with\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.05)


def _stop(process: Process) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=1).ok
    except requests.RequestException:
        return False
