from pathlib import Path

import pytest

from pointsman_policy.errors import DocumentError
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.registry.registry import Registry
from pointsman_policy.registry.version import PolicyVersion, write_version
from pointsman_policy.retraining.contenders import packaged_policy
from pointsman_policy.retraining.standing import active_contender, active_version, named_cluster, named_picker
from pointsman_policy.rollout.state import RolloutState, VersionName

POLICY = "edge/chat"


def _write(root: Path, name: str, content: str) -> None:
    folder = root / "rollouts" / "edge" / "chat"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content)


def test_a_policy_that_nothing_is_known_of_runs_the_packaged_default(tmp_path: Path) -> None:
    assert active_version(tmp_path, POLICY) == ""
    picker = named_picker(tmp_path, POLICY)
    contender = active_contender(tmp_path, POLICY, "", picker)
    assert contender.picker.name == "HanActor"
    assert contender.calibration == Calibration()
    assert contender.exported is not None
    assert contender.exported.digest == packaged_policy("HanActor").digest


def test_the_picker_that_the_routerpolicy_names_serves_where_no_version_does(tmp_path: Path) -> None:
    _write(tmp_path, "settings.json", '{"policy": "edge/chat", "picker": "ShortestQueue"}')
    contender = active_contender(tmp_path, POLICY, "", named_picker(tmp_path, POLICY))
    assert contender.picker.name == "ShortestQueue"
    assert contender.exported is None


@pytest.mark.parametrize("content", ["", "[]", '{"picker": "../x"}', '{"picker": 3}', '{"picker": "Unknown"}'])
def test_a_picker_that_makes_no_sense_is_taken_for_the_default(tmp_path: Path, content: str) -> None:
    _write(tmp_path, "settings.json", content)
    contender = active_contender(tmp_path, POLICY, "", named_picker(tmp_path, POLICY))
    assert contender.picker.name == "HanActor"


def test_the_active_version_is_that_of_the_rollout(tmp_path: Path) -> None:
    version = PolicyVersion(POLICY, 1.0, "", 10, packaged_policy("ImpactGreedy"), Calibration())
    write_version(tmp_path / "made", version)
    added = Registry(tmp_path).add(POLICY, tmp_path / "made")
    state = RolloutState(active=VersionName(version=added.version, digest=added.digest))
    _write(tmp_path, "state.json", state.model_dump_json(by_alias=True))
    assert active_version(tmp_path, POLICY) == added.version
    contender = active_contender(tmp_path, POLICY, added.version, "HanActor")
    assert contender.picker.name == "ImpactGreedy"
    assert added.version in contender.name


def test_a_damaged_rollout_is_told(tmp_path: Path) -> None:
    _write(tmp_path, "state.json", "{")
    with pytest.raises(DocumentError, match="is not JSON"):
        active_version(tmp_path, POLICY)


def test_the_cluster_that_the_routerpolicy_names_is_known_and_no_other(tmp_path: Path) -> None:
    assert named_cluster(tmp_path, POLICY) == ""
    _write(tmp_path, "settings.json", '{"policy": "edge/chat", "ray": "ray://10.0.0.1:10001"}')
    assert named_cluster(tmp_path, POLICY) == "ray://10.0.0.1:10001"
    _write(tmp_path, "settings.json", '{"policy": "edge/chat", "ray": null}')
    assert named_cluster(tmp_path, POLICY) == ""
