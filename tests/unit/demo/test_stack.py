from collections.abc import AsyncIterator

import aiohttp
import pytest_asyncio
from aiohttp import web

from pointsman_operator.demo.stack import Probe

EXPOSITION = """\
# HELP busy_seconds_total Busy.
# TYPE busy_seconds_total counter
busy_seconds_total{engine="0",model_name="a b}"} 1.5
busy_seconds_total{engine="1"} 2e1 1700000000
busy_seconds_total_more 99
open_decisions 3.0
"""


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    application = web.Application()

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=EXPOSITION)

    application.router.add_get("/metrics", metrics)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_metric_is_summed_over_its_series(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        probe = Probe(session)
        assert await probe.total(f"{url}/metrics", "busy_seconds_total") == 21.5
        assert await probe.total(f"{url}/metrics", "busy_seconds_total", 'engine="1"') == 20.0
        assert await probe.total(f"{url}/metrics", "open_decisions") == 3.0


async def test_what_does_not_answer_has_no_metrics(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        probe = Probe(session)
        assert await probe.total(f"{url}/metrics", "unheard_of") is None
        assert await probe.total(f"{url}/nowhere", "busy_seconds_total") is None
        assert await probe.text("http://127.0.0.1:9/metrics") == ""
        assert not await probe.answers("http://127.0.0.1:9/metrics")
