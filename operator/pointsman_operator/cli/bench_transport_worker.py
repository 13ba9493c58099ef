"""The two ends of the transport benchmark, each a process of its own, so that their CPU time is not counted.

::

    python -m pointsman_operator.cli.bench_transport_worker upstream HOST PORT
    python -m pointsman_operator.cli.bench_transport_worker load URL RATE SECONDS PROMPT_BYTES SEED

The load end writes a `LoadReport` as JSON to its standard output.
"""

import asyncio
import sys
import time
from dataclasses import dataclass, field

import aiohttp
import msgspec
import numpy as np
import uvloop
from aiohttp import web

WARM_UP_SECONDS = 0.5
_SETTLE_SECONDS = 0.3  # until the last entries of the access log have been handled, which belong to the load
_TIMEOUT_SECONDS = 10.0
_ANSWER = b'{"choices":[{"text":"yes"}],"usage":{"prompt_tokens":256,"completion_tokens":1,"total_tokens":257}}'


@dataclass(slots=True)
class LoadReport:
    """What one load run saw."""

    sent: int = 0
    """Requests, those of the warm-up included."""
    failed: int = 0
    """Requests without a complete answer of status 200, those of the warm-up included."""
    latency_seconds: list[float] = field(default_factory=list)
    """From sending to the whole answer, of answered requests after the warm-up."""
    lateness_seconds: list[float] = field(default_factory=list)
    """How much later than planned each request after the warm-up was sent; large values spoil the run."""


async def serve(host: str, port: int) -> None:
    """Answer every completion at once, until cancelled."""

    async def complete(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=_ANSWER, content_type="application/json")

    application = web.Application(client_max_size=64 * 1024 * 1024)
    application.router.add_post("/v1/completions", complete)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    await asyncio.Event().wait()


async def load(url: str, rate: float, seconds: float, prompt_bytes: int, rng: np.random.Generator) -> LoadReport:
    """Send requests at Poisson arrivals, however slowly they are answered.

    Args:
        url: Where completions are posted.
        rate: Mean requests per second.
        seconds: Length of the run after `WARM_UP_SECONDS`.
        prompt_bytes: Length of each prompt.
        rng: Draws the arrivals.
    """
    length = WARM_UP_SECONDS + seconds
    arrivals = np.cumsum(rng.exponential(1.0 / rate, int(rate * length))).tolist()
    body = msgspec.json.encode({"model": "edge-chat", "prompt": "x" * prompt_bytes, "max_tokens": 1})
    report = LoadReport()
    timeout = aiohttp.ClientTimeout(_TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        start = time.perf_counter()
        async with asyncio.TaskGroup() as requests:
            for arrival in arrivals:
                if (wait := start + arrival - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
                requests.create_task(_request(session, url, body, start + arrival, report, arrival > WARM_UP_SECONDS))
    await asyncio.sleep(_SETTLE_SECONDS)
    return report


async def _request(
    session: aiohttp.ClientSession, url: str, body: bytes, planned: float, report: LoadReport, counted: bool
) -> None:
    report.sent += 1
    sent = time.perf_counter()
    try:
        async with session.post(url, data=body, headers={"content-type": "application/json"}) as response:
            await response.read()
            answered = response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        answered = False
    if not answered:
        report.failed += 1
    elif counted:
        report.latency_seconds.append(time.perf_counter() - sent)
        report.lateness_seconds.append(sent - planned)


def main(arguments: list[str]) -> None:
    """Run one end; the arguments are those of the module's description."""
    role, *values = arguments
    if role == "upstream":
        host, port = values
        uvloop.run(serve(host, int(port)))
    else:
        url, rate, seconds, prompt_bytes, seed = values
        rng = np.random.default_rng(int(seed))
        report = uvloop.run(load(url, float(rate), float(seconds), int(prompt_bytes), rng))
        sys.stdout.buffer.write(msgspec.json.encode(report))


if __name__ == "__main__":
    main(sys.argv[1:])
