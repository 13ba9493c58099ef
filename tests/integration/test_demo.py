"""The demo as a whole, on real parts: short, with two rules."""

import asyncio
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from pointsman_operator.demo.processes import find_prometheus
from pointsman_operator.demo.run import run_demo
from pointsman_operator.demo.settings import DemoSettings
from pointsman_operator.errors import PartError

DEADLINE_SECONDS = 240.0
RULES = ("RoundRobin", "ImpactGreedy")


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    before = set(psutil.Process().children(recursive=True))
    yield
    left = [process.cmdline() for process in set(psutil.Process().children(recursive=True)) - before]
    assert not left


def short(out: Path, seconds: float, *, scrape: bool = False) -> DemoSettings:
    return DemoSettings(out=out, pickers=RULES, load=0.5, seconds=seconds, scrape=scrape)


async def test_a_short_run_compares_two_rules(tmp_path: Path) -> None:
    if find_prometheus() is None:
        pytest.skip("needs Debian's package prometheus")
    console = Console(file=io.StringIO(), width=120)
    result = await run_demo(short(tmp_path / "out", 15.0), console)
    for picker in RULES:
        outcomes = result.outcomes[picker]
        assert len(outcomes) > 20
        assert (outcomes.answered | outcomes.dropped).all(), result.problems[picker]
        figures = result.runs[picker].figures
        assert figures.mean_qos > 0
        assert figures.qos_per_busy_second > 0
    assert result.health.open_decisions == 0
    assert result.health.prometheus_queries
    assert "by ImpactGreedy" in result.explanation
    assert "QoS over time" in result.report.read_text()
    rows = json.loads(result.results.read_text())["rows"]
    assert [row["picker"] for row in rows] == list(RULES)
    for part in ("experts", "prometheus", "router", "envoy", "load"):
        assert (tmp_path / "out" / "logs" / f"{part}.log").exists()
        assert result.health.cpu_shares[part] > 0


async def test_without_prometheus_the_demo_says_so_and_runs(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=120)
    result = await run_demo(short(tmp_path, 3.0, scrape=True), console)
    assert "The router reads the experts' metrics itself" in console.file.getvalue()  # type: ignore[attr-defined]
    assert result.health.prometheus_queries is None
    assert result.health.open_decisions == 0


async def test_a_part_that_dies_ends_the_demo_and_is_named(tmp_path: Path) -> None:
    demo = asyncio.create_task(run_demo(short(tmp_path, 60.0, scrape=True), Console(file=io.StringIO())))

    async def router() -> psutil.Process:
        while True:
            for process in psutil.Process().children():
                command = process.cmdline()
                ours = "router" in command and any(str(tmp_path) in word for word in command)
                if ours and (tmp_path / "logs" / "load.log").exists():
                    return process
            assert not demo.done()
            await asyncio.sleep(0.05)

    async with asyncio.timeout(DEADLINE_SECONDS):
        (await router()).kill()
        with pytest.raises(PartError, match=r"router ended with status -9; it wrote(.|\n)*Serving gRPC"):
            await demo


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything(tmp_path: Path, number: signal.Signals) -> None:
    command = ("demo", "--out", tmp_path / "out", "--picker", "RoundRobin", "--load", 0.2, "--seconds", 60, "--scrape")
    log = tmp_path / "demo.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pointsman_operator.cli", *map(str, command)],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _until(lambda: (tmp_path / "out" / "logs" / "load.log").exists(), process, log)
        parts = psutil.Process(process.pid).children(recursive=True)
        assert len(parts) >= 4
        process.send_signal(number)
        assert process.wait(DEADLINE_SECONDS) == 130, log.read_text()
        assert not [part for part in parts if part.is_running()]
        assert "Stopped" in log.read_text()
    finally:
        process.kill()
        process.wait()


def _until(condition: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
