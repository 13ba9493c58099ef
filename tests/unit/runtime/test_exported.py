import json
from pathlib import Path

import numpy as np
import pytest
from tests.unit.exports import SMALL, greedy_export, han_export

from pointsman_policy.errors import DocumentError
from pointsman_policy.runtime.exported import (
    MANIFEST,
    WEIGHTS,
    ExportedPolicy,
    read_exported_policy,
    write_exported_policy,
)
from pointsman_policy.runtime.size import NetworkSize

ROW = (0.5,) * len(han_export().columns)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    policy = han_export()
    written = write_exported_policy(tmp_path / "new" / "policy", policy)
    read = read_exported_policy(tmp_path / "new" / "policy")
    for name in ("picker", "columns", "must_serve", "may_drop", "size", "training", "scores"):
        assert getattr(read, name) == getattr(policy, name), name
    assert read.weights.keys() == policy.weights.keys()
    for name, array in policy.weights.items():
        np.testing.assert_array_equal(read.weights[name], array)
    assert read.digest == written.digest
    assert len(read.digest) == 64
    assert read.version == read.digest[:12]


def test_a_policy_without_a_network_is_one_file(tmp_path: Path) -> None:
    write_exported_policy(tmp_path / "policy", greedy_export())
    assert [path.name for path in (tmp_path / "policy").iterdir()] == [MANIFEST]
    assert read_exported_policy(tmp_path / "policy").size is None
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


def test_the_digest_tells_policies_apart_and_is_the_same_for_the_same(tmp_path: Path) -> None:
    policies = (han_export(), han_export(), han_export(seed=1), han_export(trust=0.25))
    digests = [write_exported_policy(tmp_path / f"{i}", policy).digest for i, policy in enumerate(policies)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_a_policy_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    write_exported_policy(folder, han_export())
    write_exported_policy(folder, greedy_export())
    assert [path.name for path in folder.iterdir()] == [MANIFEST]
    assert read_exported_policy(folder).picker == "ImpactGreedy"
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DocumentError, match="holds something that is no exported policy"):
        write_exported_policy(tmp_path, greedy_export())
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"weights": {}}, "this weight is missing"),
        ({"size": NetworkSize(4, 2, 6)}, "must be float32 of shape"),
        ({"must_serve": (ROW, ROW), "may_drop": (ROW, ROW)}, "loads, its first column, must rise"),
        ({"may_drop": (ROW,)}, "must have as many rows as each other"),
        ({"may_drop": ()}, "has only one of mustServe and mayDrop"),
        ({"scores": {"qos": float("nan")}}, "scores.qos"),
    ],
)
def test_an_unsound_policy_is_not_written(change: dict[str, object], problem: str, tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    before = write_exported_policy(folder, han_export())
    with pytest.raises(DocumentError, match=problem) as caught:
        write_exported_policy(folder, ExportedPolicy(**{**vars(han_export()), **change}))
    assert caught.value.source == str(folder)
    assert read_exported_policy(folder).digest == before.digest
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    policy = han_export()
    policy.weights["drop.last.bias"][:] = np.nan
    with pytest.raises(DocumentError, match=r"drop\.last\.bias: holds numbers that are not finite"):
        write_exported_policy(tmp_path / "policy", policy)


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS])
def test_every_flipped_bit_is_noticed(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    write_exported_policy(folder, han_export())
    good = (folder / name).read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(len(good), size=60):
        for bad in (good[:place], good[:place] + bytes([good[place] ^ 1 << rng.integers(8)]) + good[place + 1 :]):
            (folder / name).write_bytes(bad)
            if name == MANIFEST and _same(good, bad):
                continue  # blanks between values
            with pytest.raises(DocumentError):
                read_exported_policy(folder)
    (folder / name).write_bytes(good)
    assert read_exported_policy(folder).size == SMALL


def _same(good: bytes, bad: bytes) -> bool:
    try:
        return bool(json.loads(good) == json.loads(bad))
    except ValueError:
        return False


def test_a_policy_cannot_be_written_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DocumentError, match="cannot be written to"):
        write_exported_policy(tmp_path / "file" / "policy", greedy_export())


def test_a_network_without_the_graph_is_smaller(tmp_path: Path) -> None:
    whole, flat = (
        write_exported_policy(tmp_path / str(graph), han_export(size=SMALL._replace(graph=graph)))
        for graph in (True, False)
    )
    assert sum(array.size for array in flat.weights.values()) < sum(array.size for array in whole.weights.values())
