"""One run of the demo, from its settings to its result."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import msgspec
from rich.console import Console
from rich.live import Live

from pointsman_operator.demo.configuration import Configuration, write_configuration
from pointsman_operator.demo.cpu import CpuMeter
from pointsman_operator.demo.health import Watch
from pointsman_operator.demo.lanes import Lane, build_lanes
from pointsman_operator.demo.live import LiveView
from pointsman_operator.demo.messages import LoadPlan, Report
from pointsman_operator.demo.processes import Part, Parts, find_envoy, find_prometheus, free_address, pointsman
from pointsman_operator.demo.results import DemoResult, choose_decision, summarise
from pointsman_operator.demo.scoreboard import Scoreboard
from pointsman_operator.demo.settings import DemoSettings
from pointsman_operator.demo.stack import Launch, Probe, Stack, start_stack
from pointsman_operator.demo.workload import DemoWorkload, load_plan, read_workload
from pointsman_operator.errors import PartError
from pointsman_policy.errors import DocumentError
from pointsman_policy.evaluation.bench import find_pickers

PATIENCE_SECONDS = 45.0
_REFRESH_SECONDS = 0.5


async def run_demo(settings: DemoSettings, console: Console) -> DemoResult:
    """Run the demo and write its report; whatever happens, no process is left behind.

    Raises:
        DocumentError: If a file or a setting is wrong; nothing has been started then.
        PartError: If a part is missing, does not start or dies; its logs are kept.
    """
    pickers = tuple(picker.name for picker in find_pickers(settings.pickers))
    workload = read_workload(settings)
    find_envoy()
    out = make_folder(settings.out)
    lanes = build_lanes(workload, pickers, free_address)
    console.print(_announce(workload, lanes), highlight=False)
    prometheus = _find_prometheus(settings, console)
    launch = Launch(
        files=Configuration(out / "configuration"),
        lanes=lanes,
        seed=settings.seed,
        prometheus=prometheus,
        prometheus_url=f"http://{free_address('127.0.0.1')}" if prometheus is not None else None,
    )
    write_configuration(launch.files, workload, lanes, launch.prometheus_url)
    scoreboard = Scoreboard(workload, pickers)
    async with Parts(out / "logs") as parts, aiohttp.ClientSession() as session:
        probe = Probe(session)
        stack = await start_stack(parts, probe, launch, console)
        await try_out(session, stack)
        watch, meter = Watch(probe, stack), CpuMeter(parts)
        await watch.start()
        models = tuple(lane.model_name for lane in lanes)
        plan = load_plan(workload, f"{stack.envoy_url}/v1/chat/completions", models, PATIENCE_SECONDS)
        await play(parts, plan, scoreboard, meter, console)
        health, busy = await watch.finish(scoreboard.lateness_seconds(), meter.means())
        explanation = await _explain(stack, scoreboard, console)
    return summarise(out, scoreboard, settings, health, busy, explanation)


def make_folder(out: Path) -> Path:
    """Return a folder that can be written to.

    Raises:
        DocumentError: If it cannot.
    """
    out = out.absolute()
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise DocumentError(
            str(out), f"cannot be written to ({error.strerror}); choose another folder with --out"
        ) from error
    return out


def _announce(workload: DemoWorkload, lanes: Sequence[Lane]) -> str:
    scenario = workload.scenario
    fleet = ", ".join(f"{expert.name} ({expert.model} on {expert.gpu or 'unknown'})" for expert in scenario.experts)
    return (
        f"[bold]{scenario.name}[/]: {len(workload.requests)} requests in {workload.span_seconds:.0f} s "
        f"(load {workload.load:g}) to each of {len(lanes)} rules.\n"
        f"Each rule has its own fleet: {fleet}."
    )


def _find_prometheus(settings: DemoSettings, console: Console) -> Path | None:
    """Return the binary, or say visibly why the demo does without."""
    found = None if settings.scrape else find_prometheus()
    if found is None:
        why = "as asked" if settings.scrape else "no Prometheus is installed (Debian: apt-get install prometheus)"
        console.print(f"[yellow]The router reads the experts' metrics itself: {why}.[/]", highlight=False)
    return found


async def try_out(session: aiohttp.ClientSession, stack: Stack) -> None:
    """Send one short request under each rule.

    Raises:
        PartError: If it is not answered.
    """
    for lane in stack.lanes:
        body = {"model": lane.model_name, "prompt": "Is the line clear?", "max_tokens": 1}
        async with session.post(f"{stack.envoy_url}/v1/completions", json=body) as response:
            if response.status not in (200, 429):
                text = (await response.text())[:300]
                raise PartError(f"a request through Envoy to {lane.model_name} got status {response.status}: {text}")


async def play(parts: Parts, plan: LoadPlan, scoreboard: Scoreboard, meter: CpuMeter, console: Console) -> None:
    """Have the load process send a plan, and show what becomes of it.

    Raises:
        PartError: If a part dies meanwhile.
    """
    workload = scoreboard.workload
    part = await parts.start("load", [sys.executable, "-m", "pointsman_operator.demo.load"], job=True)
    async with _reading(part, msgspec.json.encode(plan), scoreboard) as reading:
        start = time.monotonic()
        view = LiveView(scoreboard, console, workload.span_seconds)
        live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        with live or contextlib.nullcontext():
            while not reading.done():
                parts.check()
                elapsed, shares = time.monotonic() - start, meter.shares()
                if live is not None:
                    live.update(view.render(elapsed, shares), refresh=True)
                else:
                    view.print_line(elapsed)
                await asyncio.wait([reading], timeout=_REFRESH_SECONDS)
        await reading
        await part.process.wait()
        parts.check()


@contextlib.asynccontextmanager
async def _reading(part: Part, plan: bytes, scoreboard: Scoreboard) -> AsyncIterator["asyncio.Task[None]"]:
    """Give the load process its plan; inside, it has started, and a task takes what it reports."""
    stdin, stdout = part.process.stdin, part.process.stdout
    if stdin is None or stdout is None:
        raise ValueError("the load process has pipes")
    stdin.write(plan)
    stdin.close()
    if not await stdout.readline():
        raise PartError(f"load did not start; it wrote ({part.log}):\n{part.last_words()}")
    decoder = msgspec.json.Decoder(Report)

    async def read() -> None:
        async for line in stdout:
            scoreboard.take(decoder.decode(line))

    task = asyncio.create_task(read())
    try:
        yield task
    finally:
        task.cancel()


async def _explain(stack: Stack, scoreboard: Scoreboard, console: Console) -> str:
    """Return what `pointsman explain` says of one decision; empty if there is none to explain."""
    decision = choose_decision(scoreboard)
    if decision is None:
        return ""
    process = await asyncio.create_subprocess_exec(
        *pointsman("explain", decision, "--target", stack.router_target),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": str(max(console.width, 120))},
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output.decode("utf-8", "replace").rstrip()


def run_until_stopped(settings: DemoSettings, console: Console) -> DemoResult | None:
    """Run the demo; SIGINT, SIGTERM and SIGHUP stop it in order.

    Returns:
        None if it was stopped.

    Raises:
        DocumentError: As `run_demo`.
        PartError: As `run_demo`.
    """

    async def run() -> DemoResult | None:
        task = asyncio.create_task(run_demo(settings, console))
        stopped = asyncio.Event()

        def stop() -> None:
            if not stopped.is_set():  # once: a second signal must not break the stopping off
                stopped.set()
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        try:
            return await task
        except asyncio.CancelledError:
            return None

    return asyncio.run(run())
