"""What a Prometheus and the experts' own /metrics answer: read over HTTP, and never believed blindly."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from tests.unit.malformed.case import Case, Surface, Trial

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.errors import TelemetryError
from pointsman_operator.telemetry.prometheus import PrometheusSource
from pointsman_operator.telemetry.protocols import LoadSource, TelemetryCounts
from pointsman_operator.telemetry.sample import LoadSample
from pointsman_operator.telemetry.scrape import DirectScrape
from pointsman_policy.experts import Expert

NOW = 1_800_000_000.0
MAXIMUM_BYTES = 20_000
RUNNING = "vllm:num_requests_running"
A, B = "10.0.0.1:8000", "10.0.0.2:8000"
METRICS = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="m"} 3.0
vllm:num_requests_waiting{model_name="m"} 1.0
vllm:kv_cache_usage_perc{model_name="m"} 0.5
"""


@dataclass(frozen=True)
class Answer:
    """What a server answers."""

    text: str
    status: int = 200


def series(value: Any = "3", *, instance: str = A, metric: str = RUNNING, ago: float = 1.0, **labels: Any) -> Any:
    """One series of a matrix."""
    return {
        "metric": {"__name__": metric, "instance": instance, "model_name": "m", **labels},
        "values": [[NOW - ago, value]],
    }


def matrix(*result: Any) -> Answer:
    """A Prometheus' answer; the second expert's series are right."""
    fine = series("5", instance=B)
    return Answer(json.dumps({"status": "success", "data": {"resultType": "matrix", "result": [*result, fine]}}))


def _endpoint(name: str, address: str) -> Endpoint:
    return Endpoint(Expert(name=name, endpoint=address, model="m"), namespace="")


@asynccontextmanager
async def _server(answers: dict[str, Answer]) -> AsyncIterator[dict[str, str]]:
    """Serve what is in `answers`, by a name of the server; returns their "ip:port"."""
    runners, addresses = [], {}
    for name in answers:

        async def answer(_: web.Request, name: str = name) -> web.Response:
            return web.Response(text=answers[name].text, status=answers[name].status)

        application = web.Application()
        application.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ip, port = runner.addresses[0]
        addresses[name] = f"{ip}:{port}"
    try:
        yield addresses
    finally:
        for runner in runners:
            await runner.cleanup()


async def _seen(source: LoadSource, counts: TelemetryCounts, endpoints: list[Endpoint]) -> str:
    """Collect; returns the error, or what is said of a collection that is not whole."""
    counts.drops.clear()
    try:
        samples = await source.collect(endpoints)
    except TelemetryError as error:
        return str(error)
    first, second = endpoints
    by_address = {sample.endpoint: sample for sample in samples}
    assert by_address[second.address].running_requests == 5
    missing = [] if source.problem is None else [source.problem]
    if first.address in by_address and by_address[first.address].running_requests is None:
        reasons = ", ".join(reason.in_words for _, reason in counts.drops)
        missing.append(f"the value counts as missing ({reasons})")
    return "; ".join(missing) or "no error"


@asynccontextmanager
async def _prometheus(_: Path) -> AsyncIterator[Trial]:
    answers = {"prometheus": matrix(series())}
    endpoints = [_endpoint("a", A), _endpoint("b", B)]
    async with _server(answers) as addresses:
        url, counts = f"http://{addresses['prometheus']}", TelemetryCounts()
        source = PrometheusSource(url, counts, clock=lambda: NOW, maximum_bytes=MAXIMUM_BYTES)

        async def give(given: Answer) -> str:
            answers["prometheus"] = given
            return (await _seen(source, counts, endpoints)).replace(url, "http://prometheus:9090")

        async def works() -> None:
            answers["prometheus"] = matrix(series())
            samples = await source.collect(endpoints)
            assert samples == [LoadSample(A, NOW - 1, 3, None, None), LoadSample(B, NOW - 1, 5, None, None)]
            assert source.problem is None

        yield Trial(give, works)
        await source.close()


@asynccontextmanager
async def _scraped(_: Path, engine: str = "vllm") -> AsyncIterator[Trial]:
    answers = {"a": Answer(METRICS), "b": Answer(METRICS.replace("3.0", "5.0"))}
    async with _server(answers) as addresses:
        endpoints = [_endpoint(name, address) for name, address in addresses.items()]
        counts = TelemetryCounts()
        source = DirectScrape(counts, maximum_bytes=MAXIMUM_BYTES, clock=lambda: NOW)

        async def give(given: Answer) -> str:
            answers["a"] = given
            return await _seen(source, counts, endpoints)

        async def works() -> None:
            answers["a"] = Answer(METRICS)
            samples = await source.collect(endpoints)
            assert samples == [
                LoadSample(one.address, NOW, *(load, 1, 0.5)) for one, load in zip(endpoints, (3, 5), strict=True)
            ]
            assert source.problem is None

        yield Trial(give, works)
        await source.close()


def metrics(old: str, new: str) -> Answer:
    """The good exposition with one part replaced."""
    assert old in METRICS
    return Answer(METRICS.replace(old, new))


PROMETHEUS = Surface(
    "Prometheus",
    "The router's log and `/debug/state`; `pointsman_telemetry_problems_total` counts what "
    "was not believed. Routing goes on by the "
    "router's own open requests, and an unusable Prometheus is replaced by reading the experts directly.",
    _prometheus,
    (
        Case(
            "a web page",
            Answer("<html>Welcome</html>"),
            "Prometheus at http://prometheus:9090 does not answer as a Prometheus does; check prometheusUrl",
        ),
        Case(
            "cut off",
            Answer('{"status":"success","data":{"result":['),
            "Prometheus at http://prometheus:9090 does not answer as a Prometheus does; check prometheusUrl",
        ),
        Case(
            "another document",
            Answer('{"status":"success","data":[]}'),
            "Prometheus at http://prometheus:9090 does not answer as a Prometheus does; check prometheusUrl",
        ),
        Case(
            "an error",
            Answer('{"status":"error","error":"query timed out"}', 503),
            "Prometheus at http://prometheus:9090 refused the query: …503 …query timed out…",
        ),
        Case(
            "too large",
            Answer(" " * 10 * MAXIMUM_BYTES),
            "Prometheus at http://prometheus:9090 gave an answer above 20000 bytes; check prometheusUrl",
        ),
        Case(
            "no series of an expert",
            matrix(),
            "Prometheus at http://prometheus:9090 knows nothing of 1 of 2 experts (a); check that it "
            'scrapes them as instance "ip:port", at least every 15 s',
        ),
        Case(
            "not a number",
            matrix(series("NaN"), series("1", metric="vllm:num_requests_waiting")),
            "the value counts as missing (not a number)",
        ),
        Case(
            "infinitely many requests",
            matrix(series("+Inf"), series("1", metric="vllm:num_requests_waiting")),
            "the value counts as missing (infinite)",
        ),
        Case(
            "a negative number of requests",
            matrix(series("-3"), series("1", metric="vllm:num_requests_waiting")),
            "the value counts as missing (negative)",
        ),
        Case(
            "a word for a value",
            matrix(series("many"), series("1", metric="vllm:num_requests_waiting")),
            "the value counts as missing (malformed)",
        ),
        Case(
            "a sample of tomorrow",
            matrix(series("3", ago=-86_400)),
            "Prometheus at http://prometheus:9090 knows nothing of 1 of 2 experts (a: stamped in the "
            'future); check that it scrapes them as instance "ip:port", at least every 15 s',
        ),
        Case(
            "another model's series",
            matrix(series("3", model_name="x"), series("3", model_name="y")),
            "Prometheus at http://prometheus:9090 knows nothing of 1 of 2 experts (a: series of other "
            'models only); check that it scrapes them as instance "ip:port", at least every 15 s',
        ),
        Case(
            "a string for a series",
            matrix("series", series("1", metric="vllm:num_requests_waiting")),
            "the value counts as missing (malformed)",
        ),
    ),
)
SCRAPE = Surface(
    "An expert's /metrics",
    "As for Prometheus; the other experts are read all the same.",
    _scraped,
    (
        Case(
            "an error",
            Answer("busy", 500),
            "DirectScrape knows nothing of 1 of 2 experts (a: answers with an error status); check "
            "that they answer GET /metrics",
        ),
        Case(
            "a web page",
            Answer("<html>Welcome</html>"),
            "DirectScrape knows nothing of 1 of 2 experts (a: none of its engine's metrics); check "
            "that they answer GET /metrics",
        ),
        Case(
            "another engine's metrics",
            Answer("tgi_queue_size 3\n"),
            "DirectScrape knows nothing of 1 of 2 experts (a: none of its engine's metrics); check "
            "that they answer GET /metrics",
        ),
        Case("a word for a value", metrics("3.0", "many"), "the value counts as missing (malformed)"),
        Case("a negative number of requests", metrics("3.0", "-3"), "the value counts as missing (negative)"),
        Case(
            "an open label",
            metrics('running{model_name="m"}', 'running{model_name="m'),
            "the value counts as missing (malformed)",
        ),
        Case(
            "too large",
            Answer("x" * 10 * MAXIMUM_BYTES),
            "DirectScrape knows nothing of 1 of 2 experts (a: answer too large); check that they answer GET /metrics",
        ),
    ),
)
