from pathlib import Path

import numpy as np
import pytest
from tests.unit.twin.experience import make_experience, make_situation

from pointsman_policy.errors import DocumentError
from pointsman_policy.retraining.snapshot import read_snapshot, write_snapshot


def test_outcomes_come_back_as_they_were(tmp_path: Path) -> None:
    experience = make_experience(make_situation(count=60), sampled_share=0.5)
    write_snapshot(tmp_path / "outcomes", experience)
    found = read_snapshot(tmp_path / "outcomes")
    assert found.fleet == experience.fleet
    assert found.names == experience.names
    assert found.policy == experience.policy
    for name in experience.columns.keys() - {"state"}:
        np.testing.assert_array_equal(found[name], experience[name])
    assert [one or None for one in found["state"]] == list(experience["state"])


def test_no_outcomes_at_all_come_back_too(tmp_path: Path) -> None:
    experience = make_experience(make_situation(count=20)).rows(np.zeros(20, np.bool_))
    write_snapshot(tmp_path / "outcomes", experience)
    assert len(read_snapshot(tmp_path / "outcomes")) == 0


@pytest.mark.parametrize("damage", ["cut", "header", "missing"])
def test_damage_is_told(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "outcomes"
    write_snapshot(path, make_experience(make_situation(count=20)))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "header":
        path.write_bytes(b"nonsense" + path.read_bytes()[8:])
    else:
        path.unlink()
    with pytest.raises(DocumentError, match="remove the work folder and train anew"):
        read_snapshot(path)
