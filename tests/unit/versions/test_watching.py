import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tests.unit.outcomes.spools import eventually
from tests.unit.versions.publisher import POLICY, Files, Publisher, free_port, serving

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman_operator.assignment import Assignment
from pointsman_operator.outcomes.metrics import LearningMetrics
from pointsman_operator.policy_service import PolicyServiceAddress, PolicyServiceConnection
from pointsman_operator.versions import listening
from pointsman_operator.versions.kept import KeptVersions
from pointsman_operator.versions.watching import VersionWatch
from pointsman_policy.registry.version import VERSION


class Watching:
    """A watch, and what it has handed over."""

    def __init__(self, folder: Path, port: int) -> None:
        self.registry = CollectorRegistry()
        self.handed: list[tuple[str, Assignment]] = []
        self.connection = PolicyServiceConnection(PolicyServiceAddress(target=f"127.0.0.1:{port}"))
        metrics = LearningMetrics(self.registry)
        self.watch = VersionWatch(KeptVersions(folder), self.connection, "router-1", metrics, self._assign, 0.02)

    def _assign(self, policy: str, assignment: Assignment) -> None:
        self.handed.append((policy, assignment))

    def runs(self, policy: str = POLICY) -> tuple[str, str, int]:
        """Return the active version, the candidate and its percent; empty = none."""
        last = next((one for key, one in reversed(self.handed) if key == policy), Assignment())
        names = [one.version if one else "" for one in (last.active, last.candidate)]
        return names[0], names[1], last.canary_percent

    @property
    def problem(self) -> str:
        return self.watch.problems.get(POLICY, "")

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"pointsman_{name}", labels) or 0.0


@asynccontextmanager
async def watches(folder: Path, port: int, *policies: str) -> AsyncIterator[Watching]:
    one = Watching(folder, port)
    one.watch.load_last()
    one.watch.set_policies(policies or [POLICY])
    task = asyncio.create_task(one.watch.run())
    try:
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await one.connection.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "versions"


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path / "service")


def kept_in(folder: Path) -> set[str]:
    found = {path.name for path in (folder / "edge" / "chat").iterdir()}
    return found - {"assignment.json"}


async def test_what_is_assigned_is_fetched_once_and_handed_over(folder: Path, publisher: Publisher) -> None:
    await publisher.assign(1, 2, canary_percent=25, exploration_percent=3, store_prompts=True)
    first, second = publisher.version(1).version, publisher.version(2).version
    async with serving(publisher) as port, watches(folder, port) as one:
        await eventually(lambda: one.runs() == (first, second, 25))
        assert len(one.handed) == 1
        assignment = one.handed[0][1]
        assert (assignment.exploration_percent, assignment.store_prompts) == (3, True)
        assert assignment.active is not None
        assert assignment.active.picker.name == "ImpactGreedy"
        assert one.value("policy_service_connected", link="versions") == 1
        await publisher.assign(1, 2, canary_percent=50)
        await eventually(lambda: one.runs() == (first, second, 50))
        assert publisher.fetched == {first: 1, second: 1}
        assert not one.problem


async def test_a_promotion_and_a_rollback_need_no_fetch(folder: Path, publisher: Publisher) -> None:
    async with serving(publisher) as port, watches(folder, port) as one:
        names = [publisher.version(number).version for number in range(5)]
        for active, candidate in ((1, 2), (2, None), (1, None), (1, 3)):
            await publisher.assign(active, candidate)
            wanted = (names[active], names[candidate] if candidate else "", 0)
            await eventually(lambda wanted=wanted: one.runs() == wanted)  # type: ignore[misc]
        await eventually(lambda: kept_in(folder) == {names[1], names[2], names[3]})
        assert all(count == 1 for count in publisher.fetched.values())


async def test_a_policy_of_which_the_service_knows_nothing_runs_the_packaged_one(
    folder: Path, publisher: Publisher
) -> None:
    async with serving(publisher) as port, watches(folder, port) as one:
        await eventually(lambda: len(one.handed) == 1)
        assert one.handed == [(POLICY, Assignment())]


async def test_policies_may_come_and_go(folder: Path, publisher: Publisher) -> None:
    await publisher.assign(1)
    await publisher.assign(2, policy="edge/code")
    first, second = publisher.version(1).version, publisher.version(2).version
    async with serving(publisher) as port, watches(folder, port) as one:
        await eventually(lambda: one.runs() == (first, "", 0))
        one.watch.set_policies([POLICY, "edge/code"])
        await eventually(lambda: one.runs("edge/code") == (second, "", 0))
        one.watch.set_policies(["edge/code"])
        await eventually(lambda: publisher.asked[-1:] == [("edge/code",)])
        one.watch.set_policies([])
        await publisher.assign(3)
        one.watch.set_policies([POLICY])
        await eventually(lambda: one.runs() == (publisher.version(3).version, "", 0))
        assert len(one.handed) == 3


async def test_a_restart_without_the_service_goes_on_with_the_last_good(folder: Path, publisher: Publisher) -> None:
    await publisher.assign(1, 2, canary_percent=25, store_prompts=True)
    async with serving(publisher) as port, watches(folder, port) as one:
        await eventually(lambda: one.runs()[2] == 25)
        await eventually(lambda: (folder / "edge/chat/assignment.json").exists())
        before = one.handed[-1][1]
    one = Watching(folder, free_port())
    one.watch.load_last()
    [(policy, after)] = one.handed
    assert (policy, one.runs()) == (POLICY, (publisher.version(1).version, publisher.version(2).version, 25))
    assert after.store_prompts
    assert after.active is not None
    assert before.active is not None
    assert after.active.calibration == before.active.calibration


async def test_what_is_the_same_after_a_restart_is_neither_fetched_nor_handed_over_again(
    folder: Path, publisher: Publisher
) -> None:
    await publisher.assign(1)
    async with serving(publisher) as port:
        for _ in range(2):
            async with watches(folder, port) as one:
                await eventually(lambda one=one: one.value("policy_service_connected", link="versions") == 1)  # type: ignore[misc]
                await eventually(lambda one=one: one.runs()[0] != "")  # type: ignore[misc]
                await eventually(lambda: (folder / "edge/chat/assignment.json").exists())
                assert len(one.handed) == 1
    assert sum(publisher.fetched.values()) == 1


async def test_the_last_good_stays_while_the_service_is_away_and_news_come_when_it_is_back(
    folder: Path, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    await publisher.assign(1)
    async with watches(folder, port) as one:
        async with serving(publisher, port):
            await eventually(lambda: one.runs()[0] == publisher.version(1).version)
        await eventually(lambda: one.value("policy_service_connected", link="versions") == 0)
        await publisher.assign(2)
        async with serving(publisher, port):
            await eventually(lambda: one.runs()[0] == publisher.version(2).version)
            assert len([text for text in caplog.messages if "says no more what to run" in text]) == 1


def flipped(files: Files) -> Files:
    path, content = files[1]
    return [files[0], (path, bytes([content[0] ^ 1]) + content[1:]), *files[2:]]


def newer(files: Files) -> Files:
    path, content = files[0]
    return [(path, json.dumps({**json.loads(content), "schemaVersion": 2}).encode()), *files[1:]]


DAMAGES: dict[str, tuple[Callable[[Files], Files], str]] = {
    "flipped bit": (flipped, "calibration.json"),
    "truncated file": (lambda files: [*files[:-1], (files[-1][0], files[-1][1][:-10])], "manifest.json"),
    "missing file": (lambda files: files[:-1], "manifest.json"),
    "nothing at all": (lambda files: [], VERSION),
    "newer schema": (newer, "schema version 2"),
    "file outside": (lambda files: [*files, ("../../../etc/passwd", b"x")], "no file of a version"),
    "parts mixed up": (lambda files: [*files, (files[0][0], b"x")], "in parts with other files between"),
    "too large": (lambda files: [(files[0][0], b"x" * 20_000)], "larger than"),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_version_that_cannot_be_used_is_refused_and_the_last_good_stays(
    folder: Path, publisher: Publisher, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pointsman_operator.versions.fetching.LARGEST_VERSION", 15_000)
    await publisher.assign(1)
    first, second = publisher.version(1).version, publisher.version(2).version
    async with serving(publisher) as port, watches(folder, port) as one:
        await eventually(lambda: one.runs()[0] == first)
        change, problem = DAMAGES[damage]
        publisher.damage = change
        await publisher.assign(2)
        await eventually(lambda: problem in one.problem)
        assert one.runs()[0] == first
        assert one.value("version_problems_total", policy=POLICY) >= 1
        await eventually(lambda: kept_in(folder) == {first})
        publisher.damage = list
        await eventually(lambda: one.runs()[0] == second)
        await eventually(lambda: not one.problem)


async def test_a_candidate_that_cannot_be_used_gets_no_requests(folder: Path, publisher: Publisher) -> None:
    await publisher.assign(1)
    async with serving(publisher) as port, watches(folder, port) as one:
        await eventually(lambda: one.runs()[0] != "")
        publisher.damage = flipped
        await publisher.assign(1, 2, canary_percent=50, exploration_percent=1)
        await eventually(lambda: one.handed[-1][1].exploration_percent == 1)
        assert one.runs() == (publisher.version(1).version, "", 0)
        publisher.damage = list
        await eventually(lambda: one.runs()[2] == 50)


async def test_a_fetch_that_breaks_is_tried_again(folder: Path, publisher: Publisher) -> None:
    publisher.cut_after = 3
    await publisher.assign(1)
    async with serving(publisher) as port, watches(folder, port) as one:
        await eventually(lambda: "UNAVAILABLE" in one.problem)
        assert one.runs()[0] == ""
        publisher.cut_after = 10**9
        await eventually(lambda: one.runs()[0] == publisher.version(1).version)


async def test_a_service_that_dies_during_a_fetch_does_no_harm(folder: Path, publisher: Publisher) -> None:
    port = free_port()
    publisher.hangs = True
    await publisher.assign(1)
    async with watches(folder, port) as one:
        async with serving(publisher, port):
            await eventually(lambda: sum(publisher.fetched.values()) > 0)
        await eventually(lambda: bool(one.problem))
        publisher.hangs = False
        async with serving(publisher, port):
            await eventually(lambda: one.runs()[0] == publisher.version(1).version)


async def test_a_connection_that_is_opened_anew_stops_nothing(folder: Path, publisher: Publisher) -> None:
    publisher.hangs = True
    await publisher.assign(1)
    async with serving(publisher) as port, watches(folder, port) as one:
        await eventually(lambda: sum(publisher.fetched.values()) > 0)
        publisher.hangs = False
        await one.connection.close()
        await eventually(lambda: one.runs()[0] == publisher.version(1).version)
        await publisher.assign(2)
        await eventually(lambda: one.runs()[0] == publisher.version(2).version)


async def test_a_damaged_cache_is_fetched_again(folder: Path, publisher: Publisher) -> None:
    await publisher.assign(1)
    name = publisher.version(1).version
    async with serving(publisher) as port:
        async with watches(folder, port) as one:
            await eventually(lambda: (folder / "edge/chat/assignment.json").exists())
        truncate(folder / "edge/chat" / name / "policy/manifest.json")
        async with watches(folder, port) as one:
            assert "manifest.json" in one.problem
            await eventually(lambda: one.runs()[0] == name)
            await eventually(lambda: not one.problem)
    assert publisher.fetched[name] == 2


async def test_the_version_before_serves_where_the_active_one_is_damaged_and_the_service_is_away(
    folder: Path, publisher: Publisher
) -> None:
    first, second = publisher.version(1).version, publisher.version(2).version
    async with serving(publisher) as port, watches(folder, port) as one:
        await publisher.assign(1)
        await eventually(lambda: one.runs()[0] == first)
        await publisher.assign(2, 3, canary_percent=5)
        await eventually(lambda: one.runs()[0] == second)
        await eventually(lambda: second in (folder / "edge/chat/assignment.json").read_text())
    truncate(folder / "edge/chat" / second / "calibration.json")
    one = Watching(folder, free_port())
    one.watch.load_last()
    assert one.runs() == (first, "", 0)
    assert "calibration.json" in one.problem


async def test_an_assignment_file_that_is_damaged_leaves_the_packaged_policy(
    folder: Path, publisher: Publisher
) -> None:
    await publisher.assign(1)
    async with serving(publisher) as port:
        async with watches(folder, port) as one:
            await eventually(lambda: (folder / "edge/chat/assignment.json").exists())
        truncate(folder / "edge/chat/assignment.json")
        async with watches(folder, port) as one:
            assert "assignment.json" in one.problem
            assert one.handed == []
            await eventually(lambda: one.runs()[0] != "")
            assert publisher.fetched[one.runs()[0]] == 1


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ({"active": pb.VersionId(version="../../../etc", digest="0" * 64)}, "active.version"),
        ({"active": pb.VersionId(version="0" * 12, digest="short")}, "active.digest"),
        ({"canary_percent": 101}, "canaryPercent"),
        ({"exploration_percent": -1}, "explorationPercent"),
    ],
)
async def test_an_assignment_that_makes_no_sense_changes_nothing(
    folder: Path, publisher: Publisher, message: dict[str, Any], problem: str
) -> None:
    await publisher.assign(1)
    async with serving(publisher) as port, watches(folder, port) as one:
        await eventually(lambda: one.runs()[0] != "")
        await publisher.tell(pb.Assignment(policy=POLICY, **message))
        await eventually(lambda: problem in one.problem)
        assert one.runs()[0] == publisher.version(1).version
        assert one.value("version_problems_total", policy=POLICY) == 1


async def test_a_disk_that_takes_nothing_leaves_the_last_good(
    folder: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publisher.assign(1)
    async with serving(publisher) as port, watches(folder, port) as one:
        await eventually(lambda: (folder / "edge/chat/assignment.json").exists())

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", full)
            await publisher.assign(2)
            await eventually(lambda: "No space left" in one.problem)
            assert one.runs()[0] == publisher.version(1).version
        await eventually(lambda: one.runs()[0] == publisher.version(2).version)


async def test_streams_are_renewed_without_a_break(
    folder: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listening, "_RENEWAL_SECONDS", 0.05)
    await publisher.assign(1)
    async with serving(publisher) as port, watches(folder, port) as one:
        await eventually(lambda: len(publisher.asked) >= 4)
        assert one.value("policy_service_connected", link="versions") == 1
        assert len(one.handed) == 1
    assert "says no more" not in caplog.text
