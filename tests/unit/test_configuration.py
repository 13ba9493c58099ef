import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from tests.unit.routing import Clock, Core, endpoint, policy

from pointsman_operator.configuration import Configuration
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.discovery.file import ExpertFile, FileDiscovery, PolicyFile
from pointsman_operator.discovery.store import KnownPolicy
from pointsman_operator.routerpolicy import RouterPolicy, Telemetry
from pointsman_operator.serving.envoy_endpoints import SETTLE_SECONDS, EnvoyEndpoints
from pointsman_operator.telemetry.pollers import Pollers
from pointsman_operator.telemetry.protocols import TelemetryCounts, TelemetryEvents
from pointsman_operator.telemetry.sample import LoadSample
from pointsman_policy.errors import DocumentError


class SilentSource:
    problem = None

    def __init__(self, telemetry: Telemetry, events: TelemetryEvents) -> None:
        pass

    async def collect(self, endpoints: Sequence[Endpoint]) -> list[LoadSample]:
        return []

    async def close(self) -> None:
        pass


@dataclass
class Files:
    """A router that follows two files and writes a third."""

    folder: Path
    clock: Clock
    core: Core
    configuration: Configuration

    def write_experts(self, *names: str, **fields: object) -> None:
        write_experts(self.folder, *names, **fields)

    def picked(self) -> list[str]:
        return [endpoint.name for endpoint in self.core.router.endpoints("edge/chat")]

    async def eventually(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - files have no event to wait for
                await asyncio.sleep(0.005)


def write_experts(folder: Path, *names: str, **fields: object) -> None:
    experts = [
        {
            "name": name,
            "endpoint": f"10.0.0.{ord(name) - 96}:80",
            "model": "m",
            "labels": {"pointsman.io/expert": "true"},
        }
        for name in names
    ]
    (folder / "experts.yaml").write_text(yaml.safe_dump({"experts": experts, **fields}))


def write_policy(folder: Path, one: RouterPolicy) -> None:
    (folder / "policy.yaml").write_text(yaml.safe_dump(one.model_dump(mode="json", by_alias=True)))


@asynccontextmanager
async def following(folder: Path) -> AsyncIterator[Files]:
    core, clock = Core([]), Clock()
    policies = PolicyFile(folder / "policy.yaml", {"Obedient"}, interval_seconds=0.01)
    experts = ExpertFile(folder / "experts.yaml", interval_seconds=0.01)
    pollers = Pollers(SilentSource, core.router.endpoints, core.router.observe, TelemetryCounts())
    envoy = EnvoyEndpoints(folder / "endpoints.json", clock)
    discovery = FileDiscovery(policies, experts)
    configuration = Configuration(discovery, core.router, pollers, envoy)
    watching = [asyncio.create_task(discovery.run())]
    try:
        yield Files(folder, clock, core, configuration)
    finally:
        for task in watching:
            task.cancel()
        await pollers.close()


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[Files]:
    write_policy(tmp_path, policy())
    write_experts(tmp_path, "a", "b")
    async with following(tmp_path) as files:
        files.configuration.start()
        yield files


async def test_files_are_in_effect_from_the_start(files: Files) -> None:
    assert files.picked() == ["a", "b"]
    assert (files.folder / "endpoints.json").exists()
    assert not any(files.configuration.problems().values())


async def test_an_expert_that_has_gone_is_not_picked_and_a_new_one_once_envoy_knows_it(files: Files) -> None:
    files.write_experts("b", "c")
    await files.eventually(lambda: files.picked() == ["b"])
    assert "10.0.0.3" in (files.folder / "endpoints.json").read_text()
    files.configuration.complete()
    assert files.picked() == ["b"]
    files.clock.now += SETTLE_SECONDS
    files.configuration.complete()
    assert files.picked() == ["b", "c"]


async def test_an_unusable_file_is_a_problem_until_it_is_mended(files: Files) -> None:
    (files.folder / "policy.yaml").write_text("kind: nonsense")
    await files.eventually(lambda: "policy.yaml" in files.configuration.problems()["policies"])
    assert files.picked() == ["a", "b"]
    write_policy(files.folder, policy())
    await files.eventually(lambda: files.configuration.problems()["policies"] == "")


async def test_profiles_that_cannot_be_read_are_a_problem_and_tried_again(files: Files) -> None:
    files.write_experts("a", profiles="fits.csv")
    await files.eventually(lambda: "fits.csv" in files.configuration.problems()["experts"])
    assert files.picked() == ["a"]
    header = "gpu,model,kv_capacity_tokens,L4_c0_ms,L4_c_seq_ms,L4_c_ctx_ms,L4_c_prefill_ms\n"
    (files.folder / "fits.csv").write_text(header + "L4,m,1000,10,1,0.001,0.1\n")
    files.configuration.complete()
    assert not any(files.configuration.problems().values())
    assert files.picked() == ["a"]


async def test_a_removal_is_in_effect_even_if_envoy_cannot_be_told(files: Files) -> None:
    endpoints = files.folder / "endpoints.json"
    endpoints.unlink()
    endpoints.mkdir()
    files.write_experts("b", "c")
    await files.eventually(lambda: "endpoints.json" in files.configuration.problems()["envoy_endpoints"])
    assert files.picked() == ["b"]
    endpoints.rmdir()
    files.configuration.complete()
    files.clock.now += SETTLE_SECONDS
    files.configuration.complete()
    assert files.picked() == ["b", "c"]
    assert not any(files.configuration.problems().values())


async def test_a_start_with_wrong_files_fails(tmp_path: Path) -> None:
    write_policy(tmp_path, policy())
    write_experts(tmp_path, "a", profiles="none.csv")
    async with following(tmp_path) as files:
        with pytest.raises(DocumentError, match=r"none\.csv"):
            files.configuration.start()


async def test_policies_from_files_are_reported_without_a_generation(files: Files) -> None:
    (report,) = files.configuration.reports()
    assert (report.policy, report.uid, report.generation, report.problem) == ("edge/chat", "", 0, "")
    assert (report.model_name, report.experts) == ("edge-chat", 2)


async def test_a_report_says_why_a_change_is_not_in_effect(files: Files) -> None:
    files.write_experts("a", "b", profiles="missing.csv")
    await files.eventually(lambda: bool(files.configuration.reports()[0].problem))
    assert "missing.csv" in files.configuration.reports()[0].problem


class LateDiscovery:
    """Discovery that has not found anything yet."""

    profiles = None

    def __init__(self) -> None:
        self.not_ready = "the cluster has not been read yet"
        self.found: tuple[Endpoint, ...] = ()
        self.callbacks: list[Callable[[], None]] = []

    def policies(self) -> tuple[KnownPolicy, ...]:
        known = KnownPolicy("edge/chat", policy(), "5e6f", 4, "spec.picker: unknown")
        return () if self.not_ready else (known, KnownPolicy("edge/bad", None, "7a8b", 1, "spec: missing"))

    def endpoints(self) -> tuple[Endpoint, ...]:
        return self.found

    def problems(self) -> dict[str, str]:
        return {"policies": self.not_ready}

    def subscribe(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    async def run(self) -> None:
        await asyncio.Event().wait()


async def test_envoy_keeps_the_experts_that_it_knows_until_discovery_has_found_some(tmp_path: Path) -> None:
    core, discovery = Core([]), LateDiscovery()
    file = tmp_path / "endpoints.json"
    pollers = Pollers(SilentSource, core.router.endpoints, core.router.observe, TelemetryCounts())
    configuration = Configuration(discovery, core.router, pollers, EnvoyEndpoints(file, Clock()))
    configuration.start()
    assert '"endpoints"' in file.read_text()  # Envoy can start
    file.write_text("as it was before the router restarted")
    configuration.complete()
    assert file.read_text() == "as it was before the router restarted"
    assert configuration.not_ready
    discovery.not_ready, discovery.found = "", (endpoint("a"),)
    discovery.callbacks[0]()
    assert "10.0.0.1" in file.read_text()
    assert configuration.not_ready == ""
    assert [one.name for one in core.router.endpoints("edge/chat")] == ["a"]
    bad, chat = configuration.reports()
    assert (chat.uid, chat.generation, chat.problem, chat.picker) == ("5e6f", 4, "spec.picker: unknown", "Obedient")
    assert (bad.policy, bad.generation, bad.problem, bad.picker) == ("edge/bad", 1, "spec: missing", "")
    await pollers.close()
