"""Experts and policies from files that change while they are watched."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.discovery.file import ExpertFile, PolicyFile
from pointsman_operator.routerpolicy import RouterPolicy
from pointsman_policy.errors import DocumentError

PICKERS = ("HanActor", "ImpactGreedy", "ShortestQueue")
TICK = 0.005


def experts(*names: str, ready: str = "true") -> str:
    lines = [f'  - {{name: {name}, endpoint: "10.0.0.{ord(name)}:8000", model: m, ready: {ready}}}' for name in names]
    return "experts:\n" + "\n".join(lines) + "\n" if names else "experts: []\n"


def policy(name: str, model: str = "") -> str:
    return (
        "apiVersion: pointsman.io/v1alpha1\nkind: RouterPolicy\n"
        f"metadata: {{name: {name}}}\n"
        f"spec: {{modelName: {model or name}, experts: {{selector: {{matchLabels: {{a: b}}}}}},"
        " telemetry: {source: DirectScrape}}\n"
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "experts.yaml"
    path.write_text(experts("a", "b"))
    return path


def replace(path: Path, text: str) -> None:
    """Write beside and rename over, as editors and careful programs do."""
    beside = path.with_name("new")
    beside.write_text(text)
    beside.rename(path)


def write(path: Path, text: str) -> None:
    path.write_text(text)


def remove(path: Path) -> None:
    path.unlink()


def names(endpoints: tuple[Endpoint, ...]) -> list[str]:
    return [endpoint.name for endpoint in endpoints]


@asynccontextmanager
async def watched(store: ExpertFile | PolicyFile) -> AsyncIterator[None]:
    task = asyncio.create_task(store.run())
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the watcher under test polls, too
            await asyncio.sleep(TICK)


def test_the_file_is_loaded_at_once(path: Path) -> None:
    store = ExpertFile(path)
    assert names(store.endpoints()) == ["a", "b"]
    assert store.problem is None
    assert store.profiles is None


def test_profiles_are_found_beside_the_file(path: Path) -> None:
    path.write_text("profiles: fits.csv\n" + experts("a"))
    assert ExpertFile(path).profiles == path.parent / "fits.csv"


@pytest.mark.parametrize("text", ["", "experts: [", "experts: [{name: A}]"])
def test_an_unusable_file_at_the_start_is_an_error(text: str, path: Path) -> None:
    path.write_text(text)
    with pytest.raises(DocumentError, match=r"experts\.yaml"):
        ExpertFile(path)


@pytest.mark.parametrize("put", [write, replace])
async def test_a_change_reaches_subscribers_with_all_endpoints(put: Callable[[Path, str], None], path: Path) -> None:
    store = ExpertFile(path, interval_seconds=TICK)
    changes: list[list[str]] = []
    store.subscribe(lambda endpoints: changes.append(names(endpoints)))
    async with watched(store):
        put(path, experts("b", "c", "d"))
        await until(lambda: bool(changes))
        put(path, experts())
        await until(lambda: len(changes) == 2)
    assert changes == [["b", "c", "d"], []]
    assert store.endpoints() == ()


async def test_an_expert_whose_description_stays_keeps_its_endpoint(path: Path) -> None:
    store = ExpertFile(path, interval_seconds=TICK)
    a, b = store.endpoints()
    async with watched(store):
        replace(path, experts("c", "b"))
        await until(lambda: names(store.endpoints()) == ["c", "b"])
        assert store.endpoints()[1] is b
        replace(path, experts("b", "a", ready="false"))
        await until(lambda: names(store.endpoints()) == ["b", "a"])
    assert store.endpoints()[0] is not b
    assert store.endpoints()[1] is not a


async def test_a_configmap_style_symlink_swap_is_a_change(tmp_path: Path) -> None:
    for version, text in (("..1", experts("a")), ("..2", experts("b"))):
        (tmp_path / version).mkdir()
        (tmp_path / version / "experts.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "experts.yaml").symlink_to("..data/experts.yaml")
    store = ExpertFile(tmp_path / "experts.yaml", interval_seconds=TICK)
    async with watched(store):
        (tmp_path / "..data_tmp").symlink_to("..2")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        await until(lambda: names(store.endpoints()) == ["b"])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("experts: [{name: a, endp", "is not valid YAML"),
        ("", "exactly one YAML document"),
        ("experts: [{name: a}]", "experts[0].endpoint: required field is missing"),
        ("expert: []", "expert: unknown field"),
        ("\x00", "is not valid YAML"),
        (experts("a", "a"), "two experts have the name 'a'"),
        ("[" * 5_000, "nested too deeply"),
    ],
)
async def test_an_unusable_version_changes_nothing_but_the_problem(
    text: str, problem: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = ExpertFile(path, interval_seconds=TICK)
    good = store.endpoints()
    async with watched(store):
        replace(path, text)
        await until(lambda: store.problem is not None)
        assert store.endpoints() is good
        assert problem in str(store.problem)
        replace(path, text)
        replace(path, experts("c"))
        await until(lambda: store.problem is None)
    assert names(store.endpoints()) == ["c"]
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1


async def test_a_file_that_is_removed_is_a_problem_until_it_is_back(path: Path) -> None:
    store = ExpertFile(path, interval_seconds=TICK)
    async with watched(store):
        remove(path)
        await until(lambda: "cannot be read" in str(store.problem))
        assert names(store.endpoints()) == ["a", "b"]
        write(path, experts("a", "b"))
        await until(lambda: store.problem is None)


async def test_a_subscriber_that_raises_harms_no_other(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(_endpoints: tuple[Endpoint, ...]) -> None:
        raise RuntimeError("bug")

    store = ExpertFile(path, interval_seconds=TICK)
    changes: list[list[str]] = []
    store.subscribe(refuse)
    store.subscribe(lambda endpoints: changes.append(names(endpoints)))
    async with watched(store):
        replace(path, experts("c"))
        await until(lambda: bool(changes))
    assert "was not taken over everywhere" in caplog.text


async def test_policies_of_a_folder_come_and_go_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(policy("one"))
    store = PolicyFile(tmp_path, PICKERS, interval_seconds=TICK)
    changes: list[tuple[RouterPolicy, ...]] = []
    store.subscribe(changes.append)
    [one] = store.policies()
    async with watched(store):
        (tmp_path / "two.yaml").write_text(policy("two"))
        await until(lambda: len(store.policies()) == 2)
        assert store.policies()[0] is one
        (tmp_path / "one.yaml").unlink()
        await until(lambda: [one.key for one in store.policies()] == ["default/two"])
        (tmp_path / "two.yaml").unlink()
        await until(lambda: store.problem is not None)
    assert [one.key for one in store.policies()] == ["default/two"]
    assert [[one.key for one in change] for change in changes] == [["default/one", "default/two"], ["default/two"]]


async def test_an_unusable_policy_keeps_the_last_usable_ones(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(policy("one"))
    store = PolicyFile(path, PICKERS, interval_seconds=TICK)
    async with watched(store):
        path.write_text(policy("one", "x") + "---\n" + policy("two", "x"))
        await until(lambda: "two policies have the modelName 'x'" in str(store.problem))
        assert [one.spec.model_name for one in store.policies()] == ["one"]
        path.write_text(policy("one", "y"))
        await until(lambda: store.problem is None)
    assert [one.spec.model_name for one in store.policies()] == ["y"]
