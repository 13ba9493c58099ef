import json
from pathlib import Path

import pytest
from tests.unit.exports import greedy_export

from pointsman_policy.errors import DocumentError
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.registry.registry import KEPT_VERSIONS, Registry
from pointsman_policy.registry.version import GateReport, PolicyVersion, write_gate, write_version

POLICY = "edge/chat"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "root")


def make(folder: Path, number: int = 0, policy: str = POLICY) -> str:
    version = PolicyVersion(policy, 1000.0 + number, "", 5, greedy_export(0.01 + 0.001 * number), Calibration())
    written = write_version(folder, version)
    write_gate(folder, GateReport(passed=number % 2 == 0, summary=f"number {number}"))
    return written.version


def test_versions_are_listed_newest_first_with_their_verdicts(registry: Registry, tmp_path: Path) -> None:
    names = [make(tmp_path / f"made{number}", number) for number in range(3)]
    for number in range(3):
        registry.add(POLICY, tmp_path / f"made{number}")
    listed = registry.listed(POLICY)
    assert [one.name for one in listed] == names[::-1]
    assert [one.gate.summary for one in listed if one.gate] == ["number 2", "number 1", "number 0"]
    assert registry.read(POLICY, names[1]).created_at == 1001.0
    assert registry.listed("edge/other") == []


def test_adding_twice_is_adding_once(registry: Registry, tmp_path: Path) -> None:
    make(tmp_path / "made")
    assert registry.add(POLICY, tmp_path / "made") == registry.add(POLICY, tmp_path / "made")
    assert len(registry.listed(POLICY)) == 1


def test_a_version_for_another_policy_is_refused(registry: Registry, tmp_path: Path) -> None:
    make(tmp_path / "made", policy="edge/other")
    with pytest.raises(DocumentError, match="for policy edge/other, not for edge/chat"):
        registry.add(POLICY, tmp_path / "made")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "newer"])
def test_a_damaged_version_is_shown_and_never_given_out(registry: Registry, tmp_path: Path, damage: str) -> None:
    name = make(tmp_path / "made")
    registry.add(POLICY, tmp_path / "made")
    path = registry.folder(POLICY, name) / "policy" / "manifest.json"
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[:-3])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "missing":
        path.unlink()
    else:
        path = registry.folder(POLICY, name) / "version.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "schemaVersion": 7}))
    with pytest.raises(DocumentError):
        registry.files(POLICY, name)
    (listed,) = registry.listed(POLICY)
    assert listed.name == name
    assert ("schema version 7" if damage == "newer" else "manifest.json") in listed.problem


def test_old_versions_go_and_those_in_use_stay(registry: Registry, tmp_path: Path) -> None:
    names = []
    for number in range(KEPT_VERSIONS + 3):
        names.append(make(tmp_path / f"made{number}", number))
        registry.add(POLICY, tmp_path / f"made{number}")
    leftover = registry.folder(POLICY, names[0]).parent / ".half-copied"
    leftover.mkdir()
    assert sorted(registry.prune(POLICY, [names[0]])) == sorted(names[1:3])
    assert registry.contains(POLICY, names[0])
    assert not leftover.exists()
    assert len(registry.listed(POLICY)) == KEPT_VERSIONS + 1


@pytest.mark.parametrize("name", ["../../../etc", "..", "", "abcdef01234", "ABCDEF012345", "abcdef01234\n"])
def test_a_name_that_is_none_leads_nowhere(registry: Registry, name: str) -> None:
    with pytest.raises(DocumentError, match="12 hexadecimal digits"):
        registry.folder(POLICY, name)
