"""The router with an Envoy that is a gateway as the Endpoint Picker Protocol means it: FULL_DUPLEX_STREAMED."""

import asyncio
import hashlib
import io
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from aiohttp import web
from tests.integration.envoy.conftest import DEADLINE_SECONDS, eventually
from tests.unit.routing import Core, endpoint, policy

from pointsman_operator.decision import Outcome, OutcomeStatus
from pointsman_operator.serving.destinations import Destinations
from pointsman_operator.serving.envoy_config import EnvoySettings, bootstrap, write_endpoints
from pointsman_operator.serving.server import RouterServer, ServerSettings

FILTERS = "type.googleapis.com/envoy.extensions.filters.http"
SUBSET_HEADER = "x-test-subset"
"""Becomes the gateway's subset hint, as a text with commas."""


@dataclass
class Expert:
    """Says what reached it; streams at its release."""

    name: str
    address: str = ""
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        told = {"expert": self.name, "length": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
        body = json.loads(raw) if raw else {}
        if not body.get("stream"):
            return web.json_response({**told, "model": body.get("model"), "usage": {"completion_tokens": 11}})
        response = web.StreamResponse(headers={"content-type": "text/event-stream", "x-expert": self.name})
        await response.prepare(request)
        await response.write(self.event(0))
        await self.release.wait()
        for number in range(1, body["max_tokens"]):
            await response.write(self.event(number))
        await response.write(b"data: [DONE]\n\n")
        return response

    @staticmethod
    def event(number: int) -> bytes:
        choice = {"index": 0, "delta": {"content": f"🚂{number}"}}
        return f"data: {json.dumps({'choices': [choice]}, ensure_ascii=False)}\n\n".encode()


@dataclass
class Gateway:
    """What a test talks to."""

    url: str
    client: aiohttp.ClientSession
    core: Core
    experts: dict[str, Expert]
    outcomes: list[Outcome]

    def post(self, headers: dict[str, str] | None = None, **fields: Any) -> "aiohttp.client._RequestContextManager":
        body = {"model": "edge-chat", "prompt": "Where to?", "max_tokens": 5, **fields}
        return self.client.post(f"{self.url}/v1/completions", json=body, headers=headers)

    def prefer(self, *names: str) -> None:
        self.core.picker.scores = tuple(
            float(len(names) - names.index(name)) if name in names else 0.0 for name in self.experts
        )

    def ends(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status is not OutcomeStatus.IN_PROGRESS]

    async def settled(self) -> None:
        await eventually(lambda: not self.core.router.open_decisions(), "a decision stays open")


def filter_(name: str, message: str, **config: Any) -> dict[str, Any]:
    typed = {"@type": f"{FILTERS}.{name}.v3.{message}", **config}
    return {"name": f"envoy.filters.http.{name}", "typed_config": typed}


def to_metadata(header: str, namespace: str, key: str) -> dict[str, Any]:
    return {
        "header": header,
        "on_header_present": {"metadata_namespace": namespace, "key": key, "type": "STRING"},
        "remove": True,
    }


def as_gateway(settings: EnvoySettings) -> str:
    """The sidecar's configuration, but with the protocol's processing mode and with what a gateway says to a picker."""
    config = bootstrap(settings)
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    for key in ("access_log", "access_log_options"):
        del manager[key]
    ext_proc, _, router = manager["http_filters"]
    ext_proc["typed_config"]["failure_mode_allow"] = False
    ext_proc["typed_config"]["processing_mode"] = {
        f"{leg}_{part}_mode": "FULL_DUPLEX_STREAMED" if part == "body" else "SEND"
        for leg in ("request", "response")
        for part in ("header", "body", "trailer")
    }
    hint = to_metadata(SUBSET_HEADER, "envoy.lb.subset_hint", "x-gateway-destination-endpoint-subset")
    served = to_metadata("x-served", "envoy.lb", "x-gateway-destination-endpoint-served")
    address = {"header": {"key": "x-served", "value": "%UPSTREAM_REMOTE_ADDRESS%"}}
    manager["http_filters"] = [
        filter_("header_to_metadata", "Config", request_rules=[hint]),
        ext_proc,
        filter_("header_to_metadata", "Config", response_rules=[served]),
        filter_("header_mutation", "HeaderMutation", mutations={"response_mutations": [{"append": address}]}),
        router,
    ]
    return yaml.safe_dump(config)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def experts() -> AsyncIterator[dict[str, Expert]]:
    running = {name: Expert(name) for name in "abc"}
    runners = []
    for index, expert in enumerate(running.values()):
        application = web.Application(client_max_size=64 << 20)
        application.router.add_route("*", "/{path:.*}", expert.answer)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, f"127.0.0.{index + 2}", 0).start()
        expert.address = "{}:{}".format(*runner.addresses[0][:2])
        runners.append(runner)
    yield running
    for runner in runners:
        await runner.cleanup()


@pytest.fixture(scope="module")
def core(experts: dict[str, Expert], dead_address: str) -> Core:
    """The router's core: "c" does not know the alias, "d" is dead, and "strict" sheds what its picker drops."""
    names: dict[str, dict[str, Any]] = {"c": {"served_model_names": ("model-c",)}}
    members = [endpoint(name, endpoint=expert.address, **names.get(name, {})) for name, expert in experts.items()]
    strict = policy("strict", admission={"mode": "ShedHopeless"})
    core = Core([*members, endpoint("d", endpoint=dead_address)], [policy(), strict])
    core.report(core.route())  # compiles the kernels, which takes longer than a client waits
    return core


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(
    envoy_binary: Path,
    core: Core,
    experts: dict[str, Expert],
    dead_address: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[str]:
    folder = tmp_path_factory.mktemp("gateway")
    endpoints = folder / "endpoints.json"
    write_endpoints(endpoints, [*(expert.address for expert in experts.values()), dead_address])
    server = RouterServer(
        core.router, core.metrics, Destinations(core.router, core.metrics), ServerSettings(("127.0.0.1:0",))
    )
    (port,) = await server.start()
    settings = EnvoySettings(
        listen_address="127.0.0.1",
        listen_port=0,
        admin_port=0,
        endpoints_path=endpoints,
        router_addresses=(f"127.0.0.1:{port}",),
    )
    config, admin = folder / "envoy.yaml", folder / "admin"
    config.write_text(as_gateway(settings))
    process = await asyncio.create_subprocess_exec(
        envoy_binary,
        *("-c", config, "--concurrency", "1", "--disable-hot-restart", "--log-path", folder / "envoy.log"),
        *("--log-level", "warning", "--admin-address-path", admin),
    )
    try:
        await eventually(lambda: admin.exists() and admin.read_text() != "", "Envoy did not start")
        yield await listen_url(admin.read_text())
    finally:
        process.terminate()
        await process.wait()
        await server.drain(0.0, 0.0)


async def listen_url(admin: str) -> str:
    async with aiohttp.ClientSession() as client:

        async def ready() -> bool:
            async with client.get(f"http://{admin}/ready") as response:
                return response.status == 200

        await eventually(ready, "Envoy is not ready")
        async with client.get(f"http://{admin}/listeners?format=json") as response:
            address = (await response.json())["listener_statuses"][0]["local_address"]["socket_address"]
    return f"http://{address['address']}:{address['port_value']}"


@pytest.fixture
def outcomes(core: Core, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Outcome]]:
    """What the router is told of its decisions, by the way."""
    heard: list[Outcome] = []
    report = core.router.report

    def listen(outcome: Outcome) -> None:
        heard.append(outcome)
        report(outcome)

    monkeypatch.setattr(core.router, "report", listen)
    return iter([heard])


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(
    url: str, core: Core, experts: dict[str, Expert], outcomes: Iterator[list[Outcome]]
) -> AsyncIterator[Gateway]:
    core.picker.scores, core.picker.drops = (), False
    for expert in experts.values():
        expert.release.clear()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(DEADLINE_SECONDS)) as client:
        yield Gateway(url, client, core, experts, next(outcomes))


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("name", ["a", "b"])
async def test_a_pick_is_followed_and_its_end_is_told_by_the_response(gateway: Gateway, name: str) -> None:
    gateway.prefer(name)
    async with gateway.post() as response:
        assert (await response.json())["expert"] == name
    await gateway.settled()
    (end,) = gateway.ends()
    assert (end.status, end.endpoint) == (OutcomeStatus.COMPLETED, gateway.experts[name].address)
    assert end.output_tokens == 11
    value = gateway.core.value
    await eventually(
        lambda: value("ext_proc_streams_total", mode="FULL_DUPLEX_STREAMED", result="ok") > 0, "no stream ended well"
    )


@pytest.mark.parametrize("size", [100, 70_000, 3_000_000])
async def test_a_body_reaches_the_expert_byte_for_byte(gateway: Gateway, size: int) -> None:
    gateway.prefer("a")
    sent = json.dumps({"model": "edge-chat", "prompt": "ü" * (size // 2)}, ensure_ascii=False, indent=3).encode()
    async with gateway.client.post(f"{gateway.url}/v1/completions", data=io.BytesIO(sent)) as response:
        told = await response.json()
    assert (told["length"], told["sha256"]) == (len(sent), hashlib.sha256(sent).hexdigest())


async def test_the_model_is_rewritten_for_an_expert_that_does_not_know_the_alias(gateway: Gateway) -> None:
    gateway.prefer("c")
    async with gateway.post() as response:
        assert (await response.json())["model"] == "model-c"


async def test_events_reach_the_client_as_they_are_made(gateway: Gateway) -> None:
    gateway.prefer("a")
    expert = gateway.experts["a"]
    async with gateway.post(stream=True, max_tokens=50) as response:
        assert await response.content.readexactly(len(expert.event(0))) == expert.event(0)
        expert.release.set()
        rest = await response.read()
    assert rest == b"".join(expert.event(number) for number in range(1, 50)) + b"data: [DONE]\n\n"
    await gateway.settled()
    (end,) = gateway.ends()
    assert (end.status, end.output_tokens, end.endpoint) == (OutcomeStatus.COMPLETED, 50, expert.address)
    assert end.ttft_seconds is not None


async def test_a_client_that_goes_away_in_the_answer_closes_the_decision(gateway: Gateway) -> None:
    gateway.prefer("a")
    async with gateway.post(stream=True) as response:
        await response.content.readany()
        assert gateway.core.router.open_decisions() == 1
        response.close()
    await gateway.settled()
    assert [end.status for end in gateway.ends()] == [OutcomeStatus.CANCELLED]


async def test_a_dead_first_choice_is_passed_over_and_who_served_is_known(gateway: Gateway) -> None:
    gateway.core.picker.scores = (1.0, 2.0, 0.0, 3.0)
    async with gateway.post() as response:
        assert (await response.json())["expert"] == "b"
    await gateway.settled()
    assert [end.endpoint for end in gateway.ends()] == [gateway.experts["b"].address]


async def test_a_subset_from_a_header_is_obeyed(gateway: Gateway) -> None:
    gateway.prefer("a")
    async with gateway.post({SUBSET_HEADER: f"192.0.2.1:8000,{gateway.experts['b'].address}"}) as response:
        assert (await response.json())["expert"] == "b"
    async with gateway.post({SUBSET_HEADER: "192.0.2.1:8000"}) as response:
        assert response.status == 503
        assert response.headers["x-llm-d-request-dropped-reason"] == "rejected-no-endpoints"


async def test_refusals_reach_the_client(gateway: Gateway) -> None:
    async with gateway.post(model="nobody") as response:
        assert response.status == 404
        assert (await response.json())["error"]["type"] == "not_found_error"
    gateway.core.picker.drops = True
    async with gateway.post(model="edge-strict") as response:
        assert response.status == 429
        assert response.headers["x-llm-d-request-dropped-reason"] == "rejected-saturated"
    async with gateway.client.post(f"{gateway.url}/v1/completions", data=b"{") as response:
        assert response.status == 400
    assert gateway.core.router.open_decisions() == 0


async def test_the_clients_own_destination_does_not_count(gateway: Gateway) -> None:
    gateway.prefer("a")
    async with gateway.post({"x-gateway-destination-endpoint": gateway.experts["b"].address}) as response:
        assert (await response.json())["expert"] == "a"


async def test_many_requests_at_once_each_get_their_own_answer(gateway: Gateway) -> None:
    gateway.prefer("a")

    async def ask(number: int) -> bool:
        sent = json.dumps({"model": "edge-chat", "prompt": f"{number} " * 1000}).encode()
        async with gateway.client.post(f"{gateway.url}/v1/completions", data=io.BytesIO(sent)) as response:
            return bool((await response.json())["sha256"] == hashlib.sha256(sent).hexdigest())

    assert all(await asyncio.gather(*(ask(number) for number in range(50))))
    await gateway.settled()
    assert len(gateway.ends()) == 50


async def test_the_model_list_comes_from_the_router(gateway: Gateway) -> None:
    async with gateway.client.get(f"{gateway.url}/v1/models") as response:
        assert [one["id"] for one in (await response.json())["data"]] == ["edge-chat", "edge-strict"]
