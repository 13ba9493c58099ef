"""A real policy service on loopback, in this process."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest_asyncio
from tests.unit.exports import greedy_export

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman.policy.v1 import policy_pb2_grpc
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.registry.registry import Registry
from pointsman_policy.registry.version import GateReport, PolicyVersion, write_gate, write_version
from pointsman_policy.service.run import serve
from pointsman_policy.service.settings import ServiceSettings

POLICY = "edge/chat"
DEADLINE_SECONDS = 20.0

TRAINING = """
import json, os, shutil, sys, time
from pathlib import Path

mode, candidate = sys.argv[1:3]
arguments = dict(zip(sys.argv[3::2], sys.argv[4::2]))
out = Path(arguments["--out"])

def tell(phase, share):
    with (out / "progress.jsonl").open("a") as file:
        print(json.dumps({"phase": phase, "share": share, "line": f"{phase} now"}), file=file)

tell("loading", 0.1)
if mode == "fail":
    sys.exit("error: no luck")
if mode == "die" or (mode == "die once" and not (out / "died").exists()):
    (out / "died").touch()
    os.kill(os.getpid(), 9)
tell("training", 0.5)
while mode == "wait" and not (out / "go").exists():
    time.sleep(0.02)
version = ""
if candidate:
    shutil.copytree(candidate, out / "candidate", dirs_exist_ok=True)
    version = json.loads((out / "candidate" / "version.json").read_text())["digest"][:12]
(out / "result.json").write_text(json.dumps({"version": version, "passed": True, "summary": "it went well"}))
"""
"""Stands in for a training, which takes minutes."""


@dataclass
class Served:
    """A running service."""

    root: Path
    port: int
    admin_port: int
    stub: Any
    task: "asyncio.Task[None]"
    channel: grpc.aio.Channel
    ending: asyncio.Event

    async def configure(self, **fields: Any) -> None:
        await self.stub.Configure(pb.ConfigureRequest(policies=[settings(**fields)]))

    async def rollout(self) -> pb.RolloutReport:
        response = await self.stub.ListRollouts(pb.ListRolloutsRequest(policies=[POLICY]))
        report: pb.RolloutReport = response.rollouts[0]
        return report

    async def submit(self, *batches: pb.SubmitOutcomesRequest) -> list[pb.SubmitOutcomesResponse]:
        async def given() -> AsyncIterator[pb.SubmitOutcomesRequest]:
            for batch in batches:
                yield batch

        return [response async for response in self.stub.SubmitOutcomes(given())]

    async def metrics(self) -> str:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.admin_port}/metrics") as page,
        ):
            return await page.text()

    async def stop(self) -> None:
        await self.channel.close(None)
        self.ending.set()
        await asyncio.gather(self.task, return_exceptions=True)


@dataclass
class Services:
    """Starts services and ends them."""

    root: Path
    running: list[Served] = field(default_factory=list)

    async def start(self, **settings_: Any) -> Served:
        ready: asyncio.Future[tuple[tuple[int, ...], int]] = asyncio.get_running_loop().create_future()
        wanted = ServiceSettings(
            root=self.root,
            addresses=("127.0.0.1:0",),
            admin_port=0,
            tick_seconds=0.02,
            drift_seconds=0.05,
            grace_seconds=0.1,
            **settings_,
        )
        stop = asyncio.Event()
        task = asyncio.create_task(serve(wanted, (), stop, lambda *ports: ready.set_result(ports)))

        def ended(task: "asyncio.Task[None]") -> None:
            if not ready.done():
                ready.set_exception(task.exception() or OSError("ended at once"))

        task.add_done_callback(ended)
        (port,), admin_port = await ready
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        stub = policy_pb2_grpc.PolicyServiceStub(channel)  # type: ignore[no-untyped-call]
        self.running.append(Served(self.root, port, admin_port, stub, task, channel, stop))
        return self.running[-1]


@pytest_asyncio.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    made = Services(tmp_path / "root")
    yield made
    for served in made.running:
        await served.stop()


def settings(**fields: Any) -> pb.PolicySettings:
    defaults: dict[str, Any] = {
        "policy": POLICY,
        "schedule": "0 3 * * *",
        "minimum_outcomes": 10,
        "shadow_minutes": 0,
        "canary_percents": [10, 50],
        "canary_minutes": 0,
        "canary_requests": 20,
        "maximum_slo_regression_percent": 1.0,
        "picker": "ImpactGreedy",
        "admission": "Never",
    }
    return pb.PolicySettings(**{**defaults, **fields})


def make_version(folder: Path, number: int = 0, *, passed: bool = True, policy: str = POLICY) -> str:
    version = PolicyVersion(policy, 1000.0 + number, "", 5, greedy_export(0.01 + 0.001 * number), Calibration())
    written = write_version(folder, version)
    write_gate(folder, GateReport(passed=passed, summary="good" if passed else "worse than the rule"))
    return written.version


def add_version(root: Path, number: int = 0, *, passed: bool = True) -> str:
    folder = root.parent / f"made-{number}"
    name = make_version(folder, number, passed=passed)
    Registry(root).add(POLICY, folder)
    return name


def batch(names: Sequence[str], sequence: int = 1, **fields: Any) -> pb.SubmitOutcomesRequest:
    defaults: dict[str, Any] = {
        "policy": POLICY,
        "arm": pb.CONTROL,
        "status": pb.COMPLETED,
        "expert": "small",
        "output_tokens": 11,
        "ttft_seconds": 0.1,
        "duration_seconds": 1.1,
        "quality": 0.8,
        "ttft_objective_seconds": 0.5,
    }
    now = time.time()
    records = [pb.Record(outcome=pb.Outcome(**{**defaults, "id": name, "decided_at": now, **fields})) for name in names]
    return pb.SubmitOutcomesRequest(router="router-1", sequence=sequence, records=records)


def training(tmp_path: Path, mode: str = "", candidate: Path | str = "") -> tuple[str, ...]:
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    return (sys.executable, str(script), mode, str(candidate))


async def eventually(condition: Callable[[], Awaitable[object]], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not await condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def watching(served: Served, *policies: str) -> AsyncIterator["asyncio.Queue[pb.Assignment]"]:
    """Watch assignments, each of which is put into the queue."""
    queue: asyncio.Queue[pb.Assignment] = asyncio.Queue()
    call = served.stub.WatchActive(pb.WatchActiveRequest(router="router-1", policies=policies or (POLICY,)))

    async def follow() -> None:
        async for assignment in call:
            queue.put_nowait(assignment)

    task = asyncio.create_task(follow())
    try:
        yield queue
    finally:
        call.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def next_of(queue: "asyncio.Queue[pb.Assignment]") -> pb.Assignment:
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await queue.get()
