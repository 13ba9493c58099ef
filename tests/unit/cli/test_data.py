import json
from pathlib import Path

import numpy as np
import pytest
from tests.unit.cli.conftest import Run
from tests.unit.experience.rows import NOON, POLICY, some_labels, some_outcomes

from pointsman_policy.experience.dataset import load
from pointsman_policy.experience.location import StoreLocation
from pointsman_policy.experience.pending import Rows
from pointsman_policy.experience.retention import Retention
from pointsman_policy.experience.schema import OUTCOMES
from pointsman_policy.experience.store import OutcomeStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store = OutcomeStore(StoreLocation(tmp_path / "from"), Retention(), lambda: NOON)
    table = some_outcomes(
        ["a", "b", "c"], state=[b"\0\xff", None, b""], quality=[0.5, None, None], version=["", "", "v1"]
    )
    store.add([Rows(POLICY, table)], [Rows(POLICY, some_labels({"b": 0.25}))])
    store.compact()
    store.close()
    return tmp_path / "from"


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_what_is_exported_can_be_imported(run: Run, root: Path, tmp_path: Path, ending: str) -> None:
    file, other = tmp_path / f"outcomes.{ending}", tmp_path / "to"
    result = run("data", "export", POLICY, file, "--root", root)
    assert (result.code, result.out.startswith("3 outcomes of edge/chat")) == (0, True)
    assert "3 of 3 outcomes are new" in run("data", "import", POLICY, file, "--root", other).out
    assert "0 of 3 outcomes are new" in run("data", "import", POLICY, file, "--root", other).out
    before, after = (load(one, POLICY, columns=OUTCOMES.names) for one in (root, other))
    for name in OUTCOMES.names:
        if name in before.names:
            assert list(before.text(name)) == list(after.text(name)), name
        else:
            np.testing.assert_array_equal(before[name], after[name], name)
    np.testing.assert_allclose(after["quality"], [0.5, 0.25, np.nan])


def test_outcomes_are_counted_by_version_and_arm(run: Run, root: Path) -> None:
    result = run("data", "stats", "--root", root)
    rows = [line.split() for line in result.out.splitlines()]
    assert ["packaged", "control", "2"] in rows
    assert ["v1", "control", "1"] in rows
    assert any(row[:2] == [POLICY, "3"] for row in rows)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("nonsense", "line 1: is no outcome"),
        ("[]", "line 1: is no outcome"),
        ('{"id": "a"}', "lacks the column arm"),
        ('{"id": "a", "decided_at": 1.0, "arm": "control", "status": "well"}', "status: 'well' is none of completed"),
        ('{"id": "a", "decided_at": "x", "arm": "control", "status": "failed"}', "value of a wrong type"),
        ('{"id": 7, "decided_at": 1.0, "arm": "control", "status": "failed"}', "value of a wrong type"),
        ('{"id": "a", "decided_at": 1.0, "arm": "control", "status": "failed", "colour": 1}', "colour: outcomes have"),
        ('{"id": "a", "decided_at": 1.0, "arm": "control", "status": "failed", "state": "?"}', "line 1: is no outcome"),
        ('{"id": "a", "decided_at": 1.0, "arm": "control", "status": "failed", "quality": 7}', "between 0 and 1"),
        ('{"id": "a", "decided_at": NaN, "arm": "control", "status": "failed"}', "decided_at: must be"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(run: Run, tmp_path: Path, content: str, problem: str) -> None:
    file = tmp_path / "outcomes.jsonl"
    file.write_text(content + "\n")
    result = run("data", "import", POLICY, file, "--root", tmp_path / "root")
    assert (result.code, problem in result.err) == (2, True), result.err


def test_an_import_beside_a_running_service_is_refused(run: Run, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outcomes.jsonl").write_text(json.dumps({}) + "\n")
    store = OutcomeStore(StoreLocation(root), Retention(), lambda: NOON)
    result = run("data", "import", POLICY, tmp_path / "outcomes.jsonl", "--root", root)
    store.close()
    assert (result.code, "another process has this store" in result.err) == (2, True)


def test_other_endings_are_refused(run: Run, root: Path, tmp_path: Path) -> None:
    result = run("data", "export", POLICY, tmp_path / "outcomes.csv", "--root", root)
    assert (result.code, "must end in .parquet or .jsonl" in result.err) == (2, True)
