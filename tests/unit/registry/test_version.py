import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pointsman_policy.errors import DocumentError
from pointsman_policy.experts import Expert
from pointsman_policy.registry.calibration import (
    Calibration,
    ExpertCalibration,
    ModelCalibration,
    calibrated,
    kind_of,
)
from pointsman_policy.registry.version import (
    GateReport,
    GateScenario,
    PolicyVersion,
    copy_version,
    read_gate,
    read_version,
    write_gate,
    write_version,
)
from pointsman_policy.runtime.exported import ARTEFACTS, read_exported_policy

SLOW = ExpertCalibration(
    base_seconds=0.02,
    per_sequence_seconds=1e-4,
    per_context_token_seconds=1e-7,
    per_prefill_token_seconds=5e-5,
    outcomes=300,
)
CALIBRATION = Calibration(
    experts={"large-0": SLOW},
    kinds={kind_of("big", "L4"): SLOW.model_copy(update={"base_seconds": 0.03})},
    models={"big": ModelCalibration(quality=0.614, output_tokens=88.6, labels=40, outcomes=300)},
)


def a_version(created_at: float = 1_700_000_000.0) -> PolicyVersion:
    return PolicyVersion(
        policy="edge/chat",
        created_at=created_at,
        parent="",
        outcomes=2_000,
        exported=read_exported_policy(ARTEFACTS / "han"),
        calibration=CALIBRATION,
        training={"seed": "0"},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    written = tmp_path / "versions" / "first"
    write_version(written, a_version())
    return written


def test_a_version_is_read_as_it_was_written(folder: Path) -> None:
    version = read_version(folder)
    assert len(version.digest) == 64
    assert version.version == version.digest[:12]
    assert version.calibration == CALIBRATION
    assert version.exported.picker == "HanActor"
    assert version.exported.digest == read_exported_policy(ARTEFACTS / "han").digest
    assert (version.policy, version.parent, version.outcomes) == ("edge/chat", "", 2_000)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["first"]


def test_the_digest_tells_versions_apart(folder: Path, tmp_path: Path) -> None:
    again = write_version(tmp_path / "again", a_version())
    later = write_version(tmp_path / "later", a_version(created_at=1_700_000_001.0))
    assert again.digest == read_version(folder).digest
    assert later.digest != again.digest


def test_a_version_is_never_written_over(folder: Path) -> None:
    with pytest.raises(DocumentError, match="exists already"):
        write_version(folder, a_version())


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "file", ["version.json", "calibration.json", "policy/manifest.json", "policy/weights.safetensors"]
)
@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_damage_is_noticed_and_named(folder: Path, file: str, damage: Callable[[Path], None]) -> None:
    damage(folder / file)
    with pytest.raises(DocumentError) as error:
        read_version(folder)
    assert file in error.value.source or "version.json" in error.value.source


def test_a_newer_schema_is_refused(folder: Path) -> None:
    document = json.loads((folder / "version.json").read_text())
    document["schemaVersion"] = 2
    document["novelty"] = True
    (folder / "version.json").write_text(json.dumps(document))
    with pytest.raises(DocumentError, match=r"schema version 2, this program reads 1; upgrade it"):
        read_version(folder)


def test_files_outside_a_version_are_refused(folder: Path) -> None:
    document = json.loads((folder / "version.json").read_text())
    document["files"]["../../secret"] = "0" * 64
    (folder / "version.json").write_text(json.dumps(document))
    with pytest.raises(DocumentError, match="digest differs"):
        read_version(folder)


def test_a_verdict_is_no_part_of_the_version(folder: Path) -> None:
    digest = read_version(folder).digest
    assert read_gate(folder) is None
    scenario = GateScenario(
        name="load 0.9", candidate_qos=0.5, active_qos=0.4, rule_qos=0.45, gain=0.1, gain_low=0.05, gain_high=0.15
    )
    report = GateReport(passed=True, summary="better", candidate_qos=0.5, scenarios=(scenario,))
    write_gate(folder, report)
    assert read_gate(folder) == report
    assert read_version(folder).digest == digest


def test_a_copy_is_whole(folder: Path, tmp_path: Path) -> None:
    write_gate(folder, GateReport(passed=False, summary="no gain"))
    target = tmp_path / "elsewhere" / "copy"
    assert copy_version(folder, target).digest == read_version(folder).digest
    assert read_gate(target) == GateReport(passed=False, summary="no gain")
    flip(folder / "calibration.json")
    with pytest.raises(DocumentError, match=r"calibration\.json"):
        copy_version(folder, tmp_path / "another")
    assert not (tmp_path / "another").exists()


def an_expert(**fields: object) -> Expert:
    return Expert.model_validate(
        {"name": "large-0", "endpoint": "127.0.0.1:8000", "model": "big", "gpu": "L4", **fields}
    )


def test_an_expert_is_known_by_its_name_before_its_kind() -> None:
    known = calibrated(an_expert(), CALIBRATION)
    assert known.iteration_time is not None
    assert list(known.iteration_time.model_dump().values()) == pytest.approx([20.0, 0.1, 1e-4, 0.05])
    assert (known.quality_prior_percent, known.output_tokens_prior) == (61, 89)
    new = calibrated(an_expert(name="large-7"), CALIBRATION)
    assert new.iteration_time is not None
    assert new.iteration_time.base_milliseconds == pytest.approx(30.0)


def test_an_unknown_expert_stays_as_declared() -> None:
    other = an_expert(name="small-0", model="small")
    assert calibrated(other, CALIBRATION) == other
    assert calibrated(an_expert(), Calibration()) == an_expert()
