"""Telemetry through a real Prometheus that scrapes small servers at addresses of their own."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress

import pytest
from aiohttp import web

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.errors import TelemetryError
from pointsman_operator.routerpolicy import Telemetry
from pointsman_operator.telemetry.poller import Poller
from pointsman_operator.telemetry.prometheus import PrometheusSource
from pointsman_operator.telemetry.protocols import TelemetryCounts
from pointsman_operator.telemetry.sample import LoadSample
from pointsman_operator.telemetry.source import make_source
from pointsman_policy.experts import Expert

StartPrometheus = Callable[[int, Mapping[str, Sequence[str]]], AbstractContextManager[subprocess.Popen[bytes]]]
DEADLINE_SECONDS = 60.0


class Target:
    """A server whose /metrics says what a test sets."""

    def __init__(self) -> None:
        self.running, self.waiting, self.kv_cache = 0.0, 0.0, 0.0
        self.address = ""
        self.runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        self.runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, host, port).start()
        ip, bound = self.runner.addresses[0]
        self.address = f"{ip}:{bound}"

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()

    def endpoint(self, name: str) -> Endpoint:
        return Endpoint(Expert(name=name, endpoint=self.address, model="m"), namespace="")

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            text=f'vllm:num_requests_running{{engine="0",model_name="m"}} {self.running}\n'
            f'vllm:num_requests_waiting{{engine="0",model_name="m"}} {self.waiting}\n'
            f'vllm:kv_cache_usage_perc{{engine="0",model_name="m"}} {self.kv_cache}\n'
        )


@pytest.fixture
async def targets() -> AsyncIterator[tuple[Target, Target, Target]]:
    """Start three servers on the same port of three addresses, each with values of its own."""
    made = (Target(), Target(), Target())
    port = 0
    for number, target in enumerate(made, start=1):
        target.running, target.waiting, target.kv_cache = number, number * 10, number / 10
        await target.start(f"127.0.0.{10 + number}", port)
        port = int(target.address.rpartition(":")[2])
    yield made
    for target in made:
        await target.stop()


@pytest.fixture
async def prometheus(
    targets: tuple[Target, ...], start_prometheus: StartPrometheus, free_port: Callable[[], int]
) -> AsyncIterator[str]:
    """Run a Prometheus that scrapes all targets, twice: a second job finds them, too. Returns its URL."""
    addresses = [target.address for target in targets]
    port = free_port()
    with start_prometheus(port, {"experts": addresses, "again": addresses}):
        yield f"http://127.0.0.1:{port}"


async def test_replicas_and_jobs_are_not_mixed_and_samples_have_their_own_time(
    targets: tuple[Target, Target, Target], prometheus: str
) -> None:
    first, second, _not_asked_for = targets
    endpoints = [first.endpoint("first"), second.endpoint("second")]
    source = PrometheusSource(prometheus, TelemetryCounts())
    started = time.time()
    samples = await _until(source, endpoints, lambda samples: len(samples) == 2)
    await source.close()
    assert {sample.endpoint: _values(sample) for sample in samples} == {
        first.address: (1, 10, 0.1),
        second.address: (2, 20, 0.2),
    }
    assert all(started - 15 < sample.sampled_at <= time.time() for sample in samples)


async def test_the_sample_of_a_dead_expert_stays_and_grows_old(
    targets: tuple[Target, Target, Target], prometheus: str
) -> None:
    dead, alive, _ = targets
    endpoints = [dead.endpoint("dead"), alive.endpoint("alive")]
    source = PrometheusSource(prometheus, TelemetryCounts(), window_seconds=60)
    await _until(source, endpoints, lambda samples: len(samples) == 2)
    await dead.stop()
    stopped_at = time.time()

    def has_aged(samples: dict[str, LoadSample]) -> bool:
        return samples[alive.address].sampled_at > stopped_at + 2

    samples = {
        sample.endpoint: sample for sample in await _until(source, endpoints, lambda found: has_aged(_by(found)))
    }
    await source.close()
    assert samples[dead.address].sampled_at <= stopped_at
    assert _values(samples[dead.address]) == (1, 10, 0.1)
    assert _values(samples[alive.address]) == (2, 20, 0.2)


async def test_a_prometheus_that_dies_and_comes_back_is_survived(
    targets: tuple[Target, Target, Target], start_prometheus: StartPrometheus, free_port: Callable[[], int]
) -> None:
    target = targets[0]
    port = free_port()
    newest: dict[str, LoadSample] = {}
    counts = TelemetryCounts()
    source = make_source(Telemetry(prometheus_url=f"http://127.0.0.1:{port}"), counts)
    poller = Poller(
        source,
        lambda: [target.endpoint("a")],
        0.1,
        lambda samples: newest.update(_by(samples)),
        counts,
    )

    def running() -> float | None:
        sample = newest.get(target.address)
        return sample.running_requests if sample else None

    with start_prometheus(port, {"experts": [target.address]}) as process:
        loop = asyncio.create_task(poller.run())
        await _wait(lambda: counts.collections["Prometheus", True] > 0 and poller.problem is None)
        process.kill()
        process.wait()
        target.running = 7
        await _wait(lambda: running() == 7)
        await _wait(lambda: "the experts are read directly meanwhile" in str(poller.problem))

    with start_prometheus(port, {"experts": [target.address]}):
        target.running = 8
        await _wait(lambda: poller.problem is None)
        target.running = 9
        await _wait(lambda: running() == 9)
        assert poller.problem is None
    assert not loop.done()
    loop.cancel()
    with suppress(asyncio.CancelledError):
        await loop
    await source.close()


async def _until(
    source: PrometheusSource, endpoints: Sequence[Endpoint], condition: Callable[[list[LoadSample]], bool]
) -> list[LoadSample]:
    """Collect until the samples are as wanted."""
    samples: list[LoadSample] = []

    async def are_as_wanted() -> bool:
        nonlocal samples
        with suppress(TelemetryError):
            samples = await source.collect(endpoints)
            return condition(samples)
        return False

    await _wait_async(are_as_wanted)
    return samples


async def _wait(condition: Callable[[], bool]) -> None:
    async def is_met() -> bool:
        return condition()

    await _wait_async(is_met)


async def _wait_async(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await condition():  # noqa: ASYNC110 - other processes set no events
            await asyncio.sleep(0.05)


def _by(samples: Sequence[LoadSample]) -> dict[str, LoadSample]:
    return {sample.endpoint: sample for sample in samples}


def _values(sample: LoadSample) -> tuple[float | None, float | None, float | None]:
    return sample.running_requests, sample.waiting_requests, sample.kv_cache_utilization_ratio
