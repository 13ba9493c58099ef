"""What the router adds to Envoy: latency and CPU time per request, side by side in one run.

Two Envoys with the same configuration, one of them without router, access log and token counter, stand before one
server that answers at once. The same load goes through them in turns, so that whatever else the machine does hits both.
"""

import itertools
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from pointsman_operator.cli.bench_transport_worker import LoadReport
from pointsman_operator.serving.envoy_config import EnvoySettings, render_bootstrap, write_endpoints
from pointsman_policy.errors import PointsmanError

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_WORKER = (sys.executable, "-m", "pointsman_operator.cli.bench_transport_worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportSettings:
    """What is measured, and how long."""

    envoy: Path
    """The Envoy binary."""
    router_command: tuple[str, ...]
    """Starts a router that serves at `router_address` and knows one expert, at `upstream_address`."""
    router_address: str
    """"ip:port" or "unix:/path"."""
    ext_proc_address: str
    """Where it serves ext_proc for the sidecar, or the same again."""
    upstream_address: str
    """"ip:port" for the server that answers at once; it is started here."""
    rate: float = 200.0
    """Requests per second."""
    prompt_bytes: int = 1024
    seconds: float = 20.0
    """Of load on each of the two ways, all rounds together."""
    rounds: int = 5
    """How often the load changes from one way to the other and back."""
    seed: int = 1
    """Of the arrivals; both ways of a round get the same."""


@dataclass(frozen=True, slots=True)
class WayFigures:
    """One way's requests, all rounds together; seconds."""

    requests: int
    failed: int
    p50_seconds: float
    p95_seconds: float
    p99_seconds: float
    envoy_cpu_seconds: float
    """User and system time of Envoy per request."""
    router_cpu_seconds: float
    """The same of the router."""


@dataclass(frozen=True, slots=True)
class TransportFigures:
    """The two ways, and what lies between them."""

    alone: WayFigures
    """Through Envoy alone."""
    routed: WayFigures
    """Through Envoy and the router."""
    added_median_seconds: float
    """Median over rounds of the difference of the round's medians."""
    added_median_by_round_seconds: tuple[float, ...]
    unrouted_requests: int
    """Requests that Envoy let pass without the router's answer; if there are many, the other figures mean little."""
    lateness_p99_seconds: float
    """How late the load was; if it is near the latencies, the machine is too small for the rate."""


@dataclass(frozen=True, slots=True)
class _Envoy:
    pid: int
    url: str
    admin_url: str


@dataclass(frozen=True, slots=True)
class _Window:
    """One run of load through one way."""

    report: LoadReport
    envoy_cpu_seconds: float
    router_cpu_seconds: float

    @property
    def median_seconds(self) -> float:
        return float(np.median(self.report.latency_seconds))


def run(settings: TransportSettings, console: Console) -> TransportFigures:
    """Measure and print; raises like `measure`."""
    with console.status(f"Sending {settings.rate:g} requests/s for {2 * settings.seconds:g} s ..."):
        figures = measure(settings)
    console.print(table(figures))
    console.print(
        f"Added median {_milliseconds(figures.added_median_seconds)} ms (by round: "
        f"{', '.join(_milliseconds(value) for value in figures.added_median_by_round_seconds)}); "
        f"{figures.unrouted_requests} requests passed the router by; "
        f"load late by {_milliseconds(figures.lateness_p99_seconds)} ms (p99)."
    )
    return figures


def measure(settings: TransportSettings) -> TransportFigures:
    """Start everything on loopback, send the load, stop everything.

    Raises:
        PointsmanError: If a process does not start or answers nothing; says which, and the last that it wrote.
    """
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="pointsman-bench-") as name:
        folder = Path(name)
        host, _, port = settings.upstream_address.rpartition(":")
        _start(stack, folder, "upstream", (*_WORKER, "upstream", host, port), settings.upstream_address)
        router = _start(stack, folder, "router", settings.router_command, settings.router_address)
        alone = _start_envoy(stack, folder, settings, "envoy-alone", ())
        routed = _start_envoy(
            stack, folder, settings, "envoy-routed", (settings.router_address,), (settings.ext_proc_address,)
        )
        windows = [_round(settings, index, alone, routed, router.pid) for index in range(settings.rounds)]
        unrouted = _unrouted(routed)
    return _figures([pair[0] for pair in windows], [pair[1] for pair in windows], unrouted)


def table(figures: TransportFigures) -> Table:
    """Return the figures as a table, milliseconds."""
    result = Table("way", title="Transport (ms)")
    for column in ("requests", "failed", "p50", "p95", "p99", "Envoy CPU/request", "router CPU/request"):
        result.add_column(column, justify="right")
    for name, way in (("Envoy alone", figures.alone), ("Envoy and router", figures.routed)):
        spans = (way.p50_seconds, way.p95_seconds, way.p99_seconds, way.envoy_cpu_seconds, way.router_cpu_seconds)
        result.add_row(name, str(way.requests), str(way.failed), *(_milliseconds(span) for span in spans))
    return result


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3f}"


def _round(
    settings: TransportSettings, index: int, alone: _Envoy, routed: _Envoy, router_pid: int
) -> tuple[_Window, _Window]:
    """Load both ways with the same arrivals; who goes first changes from round to round."""
    order = (alone, routed) if index % 2 == 0 else (routed, alone)
    windows = {envoy.pid: _load(settings, envoy, router_pid, settings.seed + index) for envoy in order}
    return windows[alone.pid], windows[routed.pid]


def _load(settings: TransportSettings, envoy: _Envoy, router_pid: int, seed: int) -> _Window:
    seconds = settings.seconds / settings.rounds
    values = (f"{envoy.url}/v1/completions", settings.rate, seconds, settings.prompt_bytes, seed)
    before = _cpu_seconds(envoy.pid), _cpu_seconds(router_pid)
    result = subprocess.run((*_WORKER, "load", *map(str, values)), capture_output=True, check=False)
    after = _cpu_seconds(envoy.pid), _cpu_seconds(router_pid)
    if result.returncode:
        raise PointsmanError(f"the load client failed: {result.stderr.decode(errors='replace')[-1000:]}")
    report = msgspec.json.decode(result.stdout, type=LoadReport)
    if not report.latency_seconds:
        raise PointsmanError(f"none of {report.sent} requests through Envoy was answered; lower the rate")
    return _Window(report, after[0] - before[0], after[1] - before[1])


def _figures(alone: Sequence[_Window], routed: Sequence[_Window], unrouted: int) -> TransportFigures:
    added = tuple(b.median_seconds - a.median_seconds for a, b in zip(alone, routed, strict=True))
    late = [value for window in (*alone, *routed) for value in window.report.lateness_seconds]
    return TransportFigures(
        alone=_way(alone),
        routed=_way(routed),
        added_median_seconds=float(np.median(added)),
        added_median_by_round_seconds=added,
        unrouted_requests=unrouted,
        lateness_p99_seconds=float(np.percentile(late, 99)),
    )


def _way(windows: Sequence[_Window]) -> WayFigures:
    latency = list(itertools.chain.from_iterable(window.report.latency_seconds for window in windows))
    p50, p95, p99 = (float(value) for value in np.percentile(latency, (50, 95, 99)))
    sent = sum(window.report.sent for window in windows)
    return WayFigures(
        requests=sent,
        failed=sum(window.report.failed for window in windows),
        p50_seconds=p50,
        p95_seconds=p95,
        p99_seconds=p99,
        envoy_cpu_seconds=sum(window.envoy_cpu_seconds for window in windows) / sent,
        router_cpu_seconds=sum(window.router_cpu_seconds for window in windows) / sent,
    )


def _start_envoy(
    stack: ExitStack,
    folder: Path,
    settings: TransportSettings,
    name: str,
    router_addresses: tuple[str, ...] = (),
    ext_proc_addresses: tuple[str, ...] = (),
) -> _Envoy:
    home = folder / name
    home.mkdir()
    endpoints, config, admin = home / "endpoints.json", home / "envoy.yaml", home / "admin"
    write_endpoints(endpoints, [settings.upstream_address])
    envoy_settings = EnvoySettings(
        listen_address="127.0.0.1",
        listen_port=0,
        admin_port=0,
        endpoints_path=endpoints,
        router_addresses=router_addresses,
        ext_proc_addresses=ext_proc_addresses,
    )
    config.write_text(render_bootstrap(envoy_settings), "utf-8")
    command = (
        *(str(settings.envoy), "-c", str(config), "--admin-address-path", str(admin)),
        *("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"),
    )
    process = stack.enter_context(_process(folder, name, command))
    _wait(process, folder, name, lambda: admin.exists() and admin.read_text() != "")
    admin_url = f"http://{admin.read_text()}"
    _wait(process, folder, name, lambda: _get(f"{admin_url}/ready").strip() == "LIVE")
    listeners = msgspec.json.decode(_get(f"{admin_url}/listeners?format=json"))
    address = listeners["listener_statuses"][0]["local_address"]["socket_address"]
    return _Envoy(process.pid, f"http://{address['address']}:{address['port_value']}", admin_url)


def _start(
    stack: ExitStack, folder: Path, name: str, command: tuple[str, ...], address: str
) -> subprocess.Popen[bytes]:
    process = stack.enter_context(_process(folder, name, command))
    _wait(process, folder, name, lambda: _accepts(address))
    return process


@contextmanager
def _process(folder: Path, name: str, command: tuple[str, ...]) -> Iterator[subprocess.Popen[bytes]]:
    with _log(folder, name).open("wb") as log:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        except OSError as error:
            raise PointsmanError(f"{command[0]} cannot be started: {error.strerror}; check the path") from error
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], folder: Path, name: str, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            state = "is not ready" if process.returncode is None else f"ended with code {process.returncode}"
            written = _log(folder, name).read_text("utf-8", "replace")[-1000:].strip()
            raise PointsmanError(f"the process {name!r} {state}; it wrote: {written or 'nothing'}")
        time.sleep(0.05)


def _log(folder: Path, name: str) -> Path:
    return folder / f"{name}.log"


def _accepts(address: str) -> bool:
    path = address.removeprefix("unix:")
    try:
        if path != address:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(path)
            return True
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=1.0):
            return True
    except OSError:
        return False


def _get(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5.0) as response:  # noqa: S310 - the admin port started here
            return str(response.read(), "utf-8")
    except OSError:
        return ""


def _unrouted(envoy: _Envoy) -> int:
    """Requests that went on after the router failed or was late."""
    line = _get(f"{envoy.admin_url}/stats?filter=ext_proc.failure_mode_allowed")
    if not line:
        raise PointsmanError("Envoy ended during the measurement; the figures would mean nothing")
    return int(line.rpartition(":")[2])


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND
