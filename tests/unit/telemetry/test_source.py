"""Which source a policy gets, and how one source stands in for another."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from aiohttp import web

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.errors import TelemetryError
from pointsman_operator.routerpolicy import Telemetry
from pointsman_operator.telemetry.protocols import TelemetryCounts
from pointsman_operator.telemetry.sample import LoadSample
from pointsman_operator.telemetry.source import FallbackSource, make_source

A = "10.0.0.1:8000"
MakeEndpoint = Callable[..., Endpoint]


class Switchable:
    """A source that a test turns on and off."""

    def __init__(self, name: str, running: float) -> None:
        self.name = name
        self.running = running
        self.works = True
        self.asked = 0
        self.closed = False
        self.problem: str | None = None

    async def collect(self, endpoints: Sequence[Endpoint]) -> list[LoadSample]:
        self.asked += 1
        if not self.works:
            raise TelemetryError(f"{self.name} is down")
        return [LoadSample(endpoint.address, 0.0, self.running, None, None) for endpoint in endpoints]

    async def close(self) -> None:
        self.closed = True


async def test_the_backup_is_read_while_the_first_source_is_down_and_that_is_said(make_endpoint: MakeEndpoint) -> None:
    now = 0.0
    primary, backup = Switchable("Prometheus", 1.0), Switchable("Scraping", 2.0)
    source = FallbackSource(primary, backup, monotonic=lambda: now)
    endpoints = [make_endpoint(A)]

    assert [sample.running_requests for sample in await source.collect(endpoints)] == [1]
    assert (source.problem, backup.asked) == (None, 0)

    primary.works = False
    assert [sample.running_requests for sample in await source.collect(endpoints)] == [2]
    assert source.problem == "Prometheus is down; the experts are read directly meanwhile"

    primary.works = True
    now = 0.9
    assert [sample.running_requests for sample in await source.collect(endpoints)] == [2]
    now = 1.0
    assert [sample.running_requests for sample in await source.collect(endpoints)] == [1]
    assert source.problem is None


async def test_a_source_that_stays_down_is_tried_less_and_less_often(make_endpoint: MakeEndpoint) -> None:
    now = 0.0
    primary, backup = Switchable("Prometheus", 1.0), Switchable("Scraping", 2.0)
    primary.works = False
    source = FallbackSource(primary, backup, monotonic=lambda: now, maximum_pause_seconds=8)
    tried = []
    for second in range(40):
        now = float(second)
        before = primary.asked
        await source.collect([make_endpoint(A)])
        tried += [second] if primary.asked > before else []
    assert tried == [0, 1, 3, 7, 15, 23, 31, 39]
    assert backup.asked == 40


async def test_two_sources_down_are_an_error_that_names_both(make_endpoint: MakeEndpoint) -> None:
    primary, backup = Switchable("Prometheus", 1.0), Switchable("Scraping", 2.0)
    primary.works = backup.works = False
    source = FallbackSource(primary, backup)
    with pytest.raises(TelemetryError, match="Prometheus is down; and Scraping is down"):
        await source.collect([make_endpoint(A)])
    await source.close()
    assert primary.closed
    assert backup.closed


async def test_no_experts_say_nothing_of_the_first_source(make_endpoint: MakeEndpoint) -> None:
    primary, backup = Switchable("Prometheus", 1.0), Switchable("Scraping", 2.0)
    primary.works = False
    source = FallbackSource(primary, backup)
    await source.collect([make_endpoint(A)])
    assert await source.collect([]) == []
    assert source.problem is not None


async def test_a_policy_with_prometheus_falls_back_to_its_experts(
    make_endpoint: MakeEndpoint, serve: Callable[..., Awaitable[str]]
) -> None:
    async def metrics(request: web.Request) -> web.Response:
        assert request.path == "/metrics"
        return web.Response(text="vllm:num_requests_running 3\n")

    address = await serve(metrics)
    telemetry = Telemetry(source="Prometheus", prometheus_url="http://127.0.0.1:1")
    source = make_source(telemetry, TelemetryCounts())
    [sample] = await source.collect([make_endpoint(address)])
    await source.close()
    assert sample.running_requests == 3
    assert "cannot be reached" in str(source.problem)


async def test_a_policy_with_direct_scrape_asks_no_prometheus(
    make_endpoint: MakeEndpoint, serve: Callable[..., Awaitable[str]]
) -> None:
    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(text="vllm:num_requests_running 3\n")

    counts = TelemetryCounts()
    source = make_source(Telemetry(source="DirectScrape"), counts)
    async with asyncio.timeout(5):
        await source.collect([make_endpoint(await serve(metrics))])
    await source.close()
    assert counts.collections == {("DirectScrape", True): 1}
