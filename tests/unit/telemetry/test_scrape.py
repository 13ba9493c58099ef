"""Direct scraping of experts that misbehave."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.errors import TelemetryError
from pointsman_operator.telemetry.protocols import DropReason, TelemetryCounts
from pointsman_operator.telemetry.sample import LoadSample
from pointsman_operator.telemetry.scrape import DirectScrape

NOW = 1_800_000_000.0
GOOD = """\
vllm:num_requests_running{model_name="m"} 3
vllm:num_requests_waiting{model_name="m"} 1
vllm:kv_cache_usage_perc{model_name="m"} 0.5
"""

Serve = Callable[..., Awaitable[str]]
MakeEndpoint = Callable[..., Endpoint]


@pytest.mark.parametrize(
    ("running", "reason"),
    [
        ("NaN", DropReason.NOT_A_NUMBER),
        ("+Inf", DropReason.INFINITE),
        ("-Inf", DropReason.INFINITE),
        ("-1", DropReason.NEGATIVE),
        ("1e30", DropReason.OUT_OF_RANGE),
        ("many", DropReason.MALFORMED),
        ("1_0", DropReason.MALFORMED),
        ("", DropReason.MALFORMED),
        ("1" * 400, DropReason.MALFORMED),
        (f"3 {(NOW + 3600) * 1000:.0f}", DropReason.FUTURE),
        ("3 NaN", DropReason.MALFORMED),
    ],
)
async def test_a_value_that_makes_no_sense_is_missing_and_counted(
    running: str, reason: DropReason, make_endpoint: MakeEndpoint, serve: Serve
) -> None:
    text = GOOD.replace(" 3\n", f" {running}\n")
    address = await serve(_answering(text))
    counts = TelemetryCounts()
    [sample] = await _collect(DirectScrape(counts, clock=lambda: NOW), [make_endpoint(address)])
    assert sample.running_requests is None
    assert (sample.waiting_requests, sample.kv_cache_utilization_ratio) == (1, 0.5)
    assert counts.drops == {("DirectScrape", reason): 1}
    assert counts.problems == {address: 1}


@pytest.mark.parametrize(
    ("exposed", "read", "drops"),
    [
        ("1.0", 1.0, 0),
        ("1.2", 1.0, 0),
        ("1.5", 1.0, 0),
        ("1.6", None, 1),
        ("42", None, 1),
        ("-0.1", None, 1),
    ],
)
async def test_kv_use_is_clipped_a_little_above_one_and_dropped_beyond(
    exposed: str, read: float | None, drops: int, make_endpoint: MakeEndpoint, serve: Serve
) -> None:
    address = await serve(_answering(GOOD.replace("0.5", exposed)))
    counts = TelemetryCounts()
    [sample] = await _collect(DirectScrape(counts), [make_endpoint(address)])
    assert sample.kv_cache_utilization_ratio == read
    assert counts.drops.total() == drops


async def _html(_request: web.Request) -> web.Response:
    return web.Response(text="<html><body>vllm:num_requests_running 3</body></html>", content_type="text/html")


async def _binary(_request: web.Request) -> web.Response:
    return web.Response(body=bytes(range(256)) * 64)


async def _bad_utf8(_request: web.Request) -> web.Response:
    return web.Response(body=b'vllm:num_requests_running{model_name="\xff\xfe"} 3\n')


async def _unclosed(_request: web.Request) -> web.Response:
    return web.Response(text='vllm:num_requests_running{model_name="m 3\n')


async def _empty(_request: web.Request) -> web.Response:
    return web.Response(text="")


async def _error(_request: web.Request) -> web.Response:
    return web.Response(status=500, text=GOOD)


async def _redirect(_request: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "/elsewhere"})


async def _huge(_request: web.Request) -> web.Response:
    return web.Response(text=GOOD + "# filler\n" * 10_000)


async def _silent(_request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def _dripping(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"#")
        await asyncio.sleep(0.01)


async def _cut_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(GOOD.encode())
    assert request.transport is not None
    request.transport.close()
    return response


@pytest.mark.parametrize(
    ("handler", "reasons"),
    [
        (_html, {DropReason.NO_METRICS}),
        (_binary, {DropReason.NO_METRICS}),
        (_bad_utf8, {DropReason.MALFORMED, DropReason.NO_METRICS}),
        (_unclosed, {DropReason.MALFORMED, DropReason.NO_METRICS}),
        (_empty, {DropReason.NO_METRICS}),
        (_error, {DropReason.ERROR_STATUS}),
        (_redirect, {DropReason.ERROR_STATUS}),
        (_huge, {DropReason.TOO_LARGE}),
        (_silent, {DropReason.UNREACHABLE}),
        (_dripping, {DropReason.UNREACHABLE}),
        (_cut_off, {DropReason.UNREACHABLE}),
    ],
)
async def test_a_bad_expert_gives_no_sample_and_spoils_no_other(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    reasons: set[DropReason],
    make_endpoint: MakeEndpoint,
    serve: Serve,
) -> None:
    bad = make_endpoint(await serve(handler), name="bad")
    good = make_endpoint(await serve(_answering(GOOD), "127.0.0.2"), name="good")
    counts = TelemetryCounts()
    source = DirectScrape(counts, timeout_seconds=0.3, maximum_bytes=32_768)
    [sample] = await _collect(source, [bad, good])
    assert sample.endpoint == good.address
    assert {reason for _, reason in counts.drops} == reasons
    assert counts.collections == {("DirectScrape", True): 1}
    assert source.problem is not None
    assert "1 of 2 experts (bad: " in source.problem


async def test_nobody_listening_is_an_error_that_names_the_experts(make_endpoint: MakeEndpoint) -> None:
    endpoints = [make_endpoint(f"127.0.0.1:{port}", name=f"expert-{port}") for port in (1, 2, 3, 4)]
    counts = TelemetryCounts()
    names = "expert-1: unreachable, expert-2: unreachable, expert-3: unreachable"
    with pytest.raises(TelemetryError, match=rf"4 of 4 experts \({names}, \.\.\.\); check that"):
        await _collect(DirectScrape(counts), endpoints)
    assert counts.collections == {("DirectScrape", False): 1}


async def test_no_experts_is_no_error() -> None:
    assert await _collect(DirectScrape(TelemetryCounts()), []) == []


async def test_the_samples_time_is_when_the_server_answered(make_endpoint: MakeEndpoint, serve: Serve) -> None:
    address = await serve(_answering(GOOD))
    [sample] = await _collect(DirectScrape(TelemetryCounts(), clock=lambda: NOW), [make_endpoint(address)])
    assert sample.sampled_at == NOW


async def test_a_timestamp_in_the_exposition_counts(make_endpoint: MakeEndpoint, serve: Serve) -> None:
    text = "".join(f"{line} {(NOW - 60) * 1000:.0f}\n" for line in GOOD.splitlines())
    address = await serve(_answering(text))
    [sample] = await _collect(DirectScrape(TelemetryCounts(), clock=lambda: NOW), [make_endpoint(address)])
    assert sample.sampled_at == NOW - 60


async def test_no_more_experts_are_read_at_a_time_than_allowed(make_endpoint: MakeEndpoint, serve: Serve) -> None:
    at_once = most = 0

    async def answer(_request: web.Request) -> web.Response:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        return web.Response(text=GOOD)

    endpoints = [make_endpoint(await serve(answer), name=f"e{number}") for number in range(6)]
    samples = await _collect(DirectScrape(TelemetryCounts(), concurrency=2), endpoints)
    assert len(samples) == 6
    assert most <= 2


async def _collect(source: DirectScrape, endpoints: list[Endpoint]) -> list[LoadSample]:
    try:
        return await source.collect(endpoints)
    finally:
        await source.close()


def _answering(text: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=text)

    return answer
