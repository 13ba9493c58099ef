"""The router keeps every rule, over its gRPC server and over the sidecar's transport."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from tests.unit.routing import Core, endpoint, policy

from pointsman_operator.conformance.gateway import Gateway
from pointsman_operator.conformance.rule import Subject
from pointsman_operator.conformance.running import Outcome, Result, learn, run
from pointsman_operator.conformance.table import RULES
from pointsman_operator.serving.destinations import Destinations
from pointsman_operator.serving.server import RouterServer, ServerSettings

TIMEOUT_SECONDS = 10.0
EXPERTS = (
    endpoint("a"),
    endpoint("b"),
    endpoint("c", endpoint="[fd00::3]:8000"),
    endpoint("d", endpoint="10.0.0.9:8000", labels={"pool": "empty"}, ready=False),
)
POOL = tuple(expert.address for expert in EXPERTS[:3])
EMPTY_POOL = {"selector": {"matchLabels": {"pool": "empty"}}}


@dataclass(frozen=True)
class Served:
    core: Core
    address: str
    sidecar_address: str


@asynccontextmanager
async def serving(core: Core, folder: str, *, for_tests: bool = False) -> AsyncIterator[Served]:
    destinations = Destinations(core.router, core.metrics, honour_test_selection=for_tests)
    sidecar = f"unix:{folder}/s"
    server = RouterServer(core.router, core.metrics, destinations, ServerSettings(("127.0.0.1:0",), (sidecar,)))
    port, _ = await server.start()
    await server.set_ready(ready=True)
    try:
        yield Served(core, f"127.0.0.1:{port}", sidecar)
    finally:
        await server.drain(0.0, 0.0)


def one_policy() -> Core:
    return Core(EXPERTS)


def several_policies() -> Core:
    """A policy that always sheds (its picker drops), and one without a ready expert."""
    core = Core(EXPERTS, [policy(admission={"mode": "ShedHopeless"}), policy("empty", experts=EMPTY_POOL)])
    core.picker.drops = True
    return core


async def check(target: str, subject: Subject, *ids: str, health_target: str = "") -> Mapping[str, Result]:
    rules = [rule for rule in RULES if not ids or rule.id in ids]
    async with Gateway(target, TIMEOUT_SECONDS, health_target=health_target) as gateway:
        learned = await learn(gateway, subject) if not ids else subject
        return {result.rule.id: result for result in await run(gateway, learned, rules)}


def not_passed(results: Mapping[str, Result]) -> dict[str, str]:
    return {id_: result.reason for id_, result in results.items() if result.outcome is not Outcome.PASSED}


NEED_OTHER_POLICIES = {"no-endpoints-503", "shed-429", "shed-reason"}


@pytest.mark.parametrize("over", ["gRPC server", "sidecar's transport"])
async def test_the_router_keeps_every_rule(tmp_path_factory: pytest.TempPathFactory, over: str) -> None:
    folder = str(tmp_path_factory.mktemp("s"))
    subject = Subject(model="edge-chat", endpoints=POOL, endpoints_are_told=True)
    async with serving(one_policy(), folder, for_tests=True) as served:
        target = served.address if over == "gRPC server" else served.sidecar_address
        results = await check(target, subject, health_target=served.address)
    assert not_passed(results).keys() == NEED_OTHER_POLICIES
    assert served.core.router.open_decisions() == 1  # the gateway that buffers reports in its access log


async def test_the_router_sheds_and_runs_out_of_endpoints_as_the_protocol_says(tmp_path: object) -> None:
    subject = Subject(model="edge-chat", shed_model="edge-chat", empty_model="edge-empty")
    async with serving(several_policies(), str(tmp_path)) as served:
        results = await check(served.address, subject, *NEED_OTHER_POLICIES)
    assert results.keys() == NEED_OTHER_POLICIES
    assert not_passed(results) == {}


async def test_the_router_shows_who_served_only_where_tests_may_steer(tmp_path: object) -> None:
    subject = Subject(model="edge-chat", endpoints=POOL, endpoints_are_told=True)
    async with serving(one_policy(), str(tmp_path)) as served:
        results = await check(served.address, subject)
    assert results["served-shown"].outcome is Outcome.ABSENT
    assert not_passed(results).keys() == NEED_OTHER_POLICIES | {"served-shown"}
