"""The command line against a real router in this process."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from tests.unit.routing import Core, endpoint

from pointsman_operator.cli.main import main
from pointsman_operator.serving.destinations import Destinations
from pointsman_operator.serving.server import RouterServer, ServerSettings


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``pointsman ARGUMENTS`` in this process."""
    monkeypatch.setenv("COLUMNS", "250")

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["pointsman", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Result(ended.value.code, captured.out, captured.err)

    return call


@pytest.fixture
def core() -> Core:
    core = Core([endpoint("a", gpu="L4"), endpoint("b", ready=False), endpoint("c", quality_prior_percent=80)])
    core.picker.scores = (0.3, 0.0, 0.8)
    return core


@contextmanager
def serving(core: Core) -> Iterator[str]:
    """Serve on a loop of its own; returns the address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> tuple[RouterServer, int]:
        destinations = Destinations(core.router, core.metrics)
        server = RouterServer(core.router, core.metrics, destinations, ServerSettings(addresses=("127.0.0.1:0",)))
        return server, (await server.start())[0]

    server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(server.drain(0, 0), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def target(core: Core) -> Iterator[str]:
    with serving(core) as address:
        yield address
