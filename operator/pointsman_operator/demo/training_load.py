"""What a training on the same machine costs decisions: their time with and without it, side by side in one run."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import grpc
import numpy as np
import numpy.typing as npt
import yaml
from rich.console import Console
from rich.table import Table

from pointsman.policy.v1 import policy_pb2 as learning_pb
from pointsman.policy.v1.policy_pb2_grpc import PolicyServiceStub
from pointsman.routing.v1 import routing_pb2 as pb
from pointsman.routing.v1.routing_pb2_grpc import RoutingServiceStub
from pointsman_operator.demo.processes import Parts, free_address, pointsman
from pointsman_operator.demo.stack import Probe
from pointsman_operator.errors import PartError
from pointsman_operator.routerpolicy import API_VERSION

_POLICY, _MODEL = "default/chat", "edge-chat"
_LABELS = {"pointsman.io/bench": "training"}
_EXPERTS = (("Qwen2.5-0.5B-Instruct", 55), ("Llama-3.1-8B", 70), ("gemma-2-9b", 75), ("gemma-2-2b", 60))
_OUTPUT_TOKENS, _PROMPT_TOKENS = 60, 200
_MINIMUM_OUTCOMES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingLoadSettings:
    """Read once at the start."""

    out: Path
    rate: float = 100.0
    """Requests per second."""
    seconds: float = 20.0
    """Of each measurement."""
    repetitions: int = 3
    seed: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class TrainingLoad:
    """Decision times, seconds, as the caller of `Route` sees them."""

    idle: npt.NDArray[np.float64]
    training: npt.NDArray[np.float64]


async def run_training_load(settings: TrainingLoadSettings, console: Console) -> TrainingLoad:
    """Measure decisions before a training and during it.

    Raises:
        PartError: If a part does not start or dies, or a training does.
    """
    out = settings.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    policies, experts = _write(out)
    router, admin, service, service_admin = (free_address("127.0.0.1") for _ in range(4))
    async with Parts(out / "logs") as parts, aiohttp.ClientSession() as session:
        probe = Probe(session)
        # The search's budget outlasts the measurements; what is left of it is ended with the parts.
        minutes = settings.seconds * settings.repetitions / 30 + 1
        command = (
            *("--root", out / "policy-service", "--listen", service, "--policy", policies),
            *("--admin-port", service_admin.rpartition(":")[2], "--training-minutes", minutes),
        )
        part = await parts.start("policy-service", pointsman("policy", *map(str, command)))
        await parts.until(part, lambda: probe.answers(f"http://{service_admin}/readyz"), "it was not ready")
        options = (
            *("--policy", policies, "--experts", experts, "--listen", router, "--policy-service", service),
            *("--admin-port", admin.rpartition(":")[2], "--state-dir", out / "state", "--seed", settings.seed),
        )
        part = await parts.start("router", pointsman("router", *map(str, options)))
        await parts.until(part, lambda: probe.answers(f"http://{admin}/readyz"), "it was not ready")
        async with _stubs(router, service) as (routing, learning):
            return await _measure(settings, parts, routing, learning, console)


async def _measure(
    settings: TrainingLoadSettings,
    parts: Parts,
    routing: RoutingServiceStub,
    learning: PolicyServiceStub,
    console: Console,
) -> TrainingLoad:
    idle: list[float] = []
    busy: list[float] = []
    await _decide(routing, settings.rate, settings.seconds)  # fills the store, and warms everything up
    for _ in range(settings.repetitions):
        idle += await _decide(routing, settings.rate, settings.seconds)
    await learning.StartTraining(learning_pb.StartTrainingRequest(policy=_POLICY))
    await _until_it_trains(learning, console)
    for _ in range(settings.repetitions):
        busy += await _decide(routing, settings.rate, settings.seconds)
        parts.check()
    response = await learning.ListRollouts(learning_pb.ListRolloutsRequest(policies=[_POLICY]))
    if not response.rollouts[0].HasField("training"):
        raise PartError("the training was over before the measurements; see its log, or measure for fewer seconds")
    return TrainingLoad(np.array(idle), np.array(busy))


async def _until_it_trains(learning: PolicyServiceStub, console: Console) -> None:
    async for progress in learning.WatchTraining(learning_pb.WatchTrainingRequest(policy=_POLICY)):
        console.print(f"training: {progress.phase} {progress.line}", highlight=False, markup=False)
        if progress.phase == "training":
            return
    raise PartError("the training ended before it began to search; see the policy service's log")


async def _decide(routing: RoutingServiceStub, rate: float, seconds: float) -> list[float]:
    """Ask for decisions at a steady rate, report an outcome for each, and return how long each took."""
    took: list[float] = []
    count = round(rate * seconds)
    started = time.perf_counter()
    async with asyncio.TaskGroup() as calls:
        for number in range(count):
            wait = started + number / rate - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            calls.create_task(_decide_once(routing, took))
    return took


async def _decide_once(routing: RoutingServiceStub, took: list[float]) -> None:
    request = pb.RouteRequest(
        model=_MODEL, prompt_token_count=_PROMPT_TOKENS, max_output_token_count=_OUTPUT_TOKENS, prompt="Where to? " * 80
    )
    asked = time.perf_counter()
    decision = await routing.Route(request)
    took.append(time.perf_counter() - asked)
    first = decision.endpoints[0]
    duration = first.ttft_seconds + _OUTPUT_TOKENS * max(first.tpot_seconds, 0.005)
    await routing.ReportOutcome(
        pb.ReportOutcomeRequest(
            decision_id=decision.decision_id,
            status=pb.OUTCOME_STATUS_COMPLETED,
            ttft_seconds=first.ttft_seconds,
            duration_seconds=duration,
            output_token_count=_OUTPUT_TOKENS,
            prompt_token_count=_PROMPT_TOKENS,
        )
    )


@asynccontextmanager
async def _stubs(router: str, service: str) -> AsyncIterator[tuple[RoutingServiceStub, PolicyServiceStub]]:
    async with grpc.aio.insecure_channel(router) as one, grpc.aio.insecure_channel(service) as other:
        yield RoutingServiceStub(one), PolicyServiceStub(other)  # type: ignore[no-untyped-call]


def _write(out: Path) -> tuple[Path, Path]:
    policies, experts = out / "policies.yaml", out / "experts.yaml"
    policy = {
        "apiVersion": API_VERSION,
        "kind": "RouterPolicy",
        "metadata": {"name": "chat"},
        "spec": {
            "modelName": _MODEL,
            "experts": {"selector": {"matchLabels": _LABELS}},
            "objectives": {"normalizedTimePerOutputTokenMilliseconds": 30},
            "telemetry": {"source": "DirectScrape"},
            "training": {"schedule": "0 0 29 2 *", "minimumOutcomes": _MINIMUM_OUTCOMES},
        },
    }
    policies.write_text(yaml.safe_dump(policy), "utf-8")
    listed = [
        {
            "name": f"expert-{number}",
            "endpoint": free_address("127.0.0.1"),
            "model": model,
            "gpu": "L4",
            "labels": _LABELS,
            "qualityPriorPercent": quality,
        }
        for number, (model, quality) in enumerate(_EXPERTS)
    ]
    experts.write_text(yaml.safe_dump({"experts": listed}), "utf-8")
    return policies, experts


def show(load: TrainingLoad, console: Console) -> None:
    """Print the figures."""
    table = Table("decision time, ms", "p50", "p90", "p99", "decisions")
    for name, values in (("idle", load.idle), ("while training", load.training)):
        table.add_row(name, *(f"{1e3 * value:.2f}" for value in _percentiles(values)), str(len(values)))
    ratios = [busy / idle for busy, idle in zip(_percentiles(load.training), _percentiles(load.idle), strict=True)]
    table.add_row("ratio", *(f"{ratio:.2f}" for ratio in ratios), "")
    console.print(table)


def _percentiles(values: npt.NDArray[np.float64]) -> Sequence[float]:
    found: list[float] = np.percentile(values, [50, 90, 99]).tolist()
    return found
