import json
from pathlib import Path

import pytest
from tests.unit.versions.publisher import POLICY, Files, made_version

from pointsman_operator.versions.kept import KeptAssignment, KeptVersions, VersionName
from pointsman_policy.errors import DocumentError

Made = list[tuple[VersionName, dict[str, bytes]]]


@pytest.fixture
def kept(tmp_path: Path) -> KeptVersions:
    return KeptVersions(tmp_path / "versions")


@pytest.fixture
def made(tmp_path: Path) -> Made:
    versions = [made_version(tmp_path, number) for number in range(4)]
    return [(name, dict(files)) for name, files in versions]


def names_in(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "versions" / "edge" / "chat").iterdir())


def test_a_version_is_read_as_it_was_added(kept: KeptVersions, made: Made) -> None:
    name, files = made[0]
    assert kept.read(POLICY, name) is None
    added = kept.add(POLICY, name, files)
    assert added.digest == name.digest
    read = kept.read(POLICY, name)
    assert read is not None
    assert read.exported.must_serve == added.exported.must_serve


def test_the_files_of_another_version_are_refused(kept: KeptVersions, made: Made, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="is another version than"):
        kept.add(POLICY, made[0][0], made[1][1])
    assert names_in(tmp_path) == []


def test_a_damaged_version_is_replaced(kept: KeptVersions, made: Made, tmp_path: Path) -> None:
    name, files = made[0]
    kept.add(POLICY, name, files)
    damaged = tmp_path / "versions" / "edge" / "chat" / name.version / "calibration.json"
    damaged.write_text("{}")
    with pytest.raises(DocumentError, match=r"calibration\.json"):
        kept.read(POLICY, name)
    kept.add(POLICY, name, files)
    assert kept.read(POLICY, name) is not None
    assert names_in(tmp_path) == [name.version]


def test_versions_that_are_not_needed_go_and_so_does_what_a_killed_process_left(
    kept: KeptVersions, made: Made, tmp_path: Path
) -> None:
    for name, files in made:
        kept.add(POLICY, name, files)
    (tmp_path / "versions" / "edge" / "chat" / ".0123-left").mkdir()
    first, second, third, _ = (name for name, _ in made)
    kept.keep(POLICY, KeptAssignment(active=first, candidate=second, previous=third, canary_percent=5))
    assert names_in(tmp_path) == sorted([first.version, second.version, third.version, "assignment.json"])


def test_an_assignment_is_read_as_it_was_kept(kept: KeptVersions) -> None:
    assert kept.assignment(POLICY) == KeptAssignment()
    name = VersionName(version="0123456789ab", digest="0" * 64)
    assignment = KeptAssignment(active=name, canary_percent=25, exploration_percent=2, store_prompts=True)
    kept.keep(POLICY, assignment)
    assert kept.assignment(POLICY) == assignment
    assert kept.policies() == [POLICY]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "another schema"),
        (json.dumps({"schemaVersion": 2}), "another schema"),
        (json.dumps({"schemaVersion": 1, "active": {"version": "../../etc", "digest": "0"}}), "active.version"),
        (json.dumps({"schemaVersion": 1, "canaryPercent": 500}), "canaryPercent"),
    ],
)
def test_an_assignment_that_is_damaged_is_refused(
    kept: KeptVersions, tmp_path: Path, content: str, problem: str
) -> None:
    kept.keep(POLICY, KeptAssignment())
    (tmp_path / "versions" / "edge" / "chat" / "assignment.json").write_text(content)
    with pytest.raises(DocumentError, match=problem):
        kept.assignment(POLICY)


@pytest.mark.parametrize("policy", ["chat", "../chat", "edge/..", "edge/chat/x", "/etc", "Edge/chat", ""])
def test_no_name_leads_out_of_the_folder(kept: KeptVersions, policy: str) -> None:
    with pytest.raises(DocumentError):
        kept.keep(policy, KeptAssignment())


def test_the_made_versions_differ(made: list[tuple[VersionName, Files]]) -> None:
    assert len({name.digest for name, _ in made}) == len(made)
