import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.unit.experience.rows import DAY, NOON, POLICY, some_labels, some_outcomes

from pointsman_policy.errors import DocumentError
from pointsman_policy.experience import journal
from pointsman_policy.experience.dataset import load
from pointsman_policy.experience.errors import StoreFullError, StoreInUseError
from pointsman_policy.experience.fleet import Fleet, FleetExpert
from pointsman_policy.experience.location import StoreLocation
from pointsman_policy.experience.pending import Rows
from pointsman_policy.experience.retention import Retention
from pointsman_policy.experience.store import OutcomeStore

Open = Callable[..., OutcomeStore]

KEEP_ALL = Retention()


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Open]:
    opened: list[OutcomeStore] = []

    def open_it(retention: Retention = KEEP_ALL, url: str = "", at: float = NOON) -> OutcomeStore:
        opened.append(OutcomeStore(StoreLocation(tmp_path, url), retention, lambda: at))
        return opened[-1]

    yield open_it
    for store in opened:
        try:
            store.close()
        except OSError:
            continue


def add(store: OutcomeStore, *names: str, at: float = NOON, policy: str = POLICY) -> int:
    return sum(rows.table.num_rows for rows in store.add([Rows(policy, some_outcomes(names, at))]))


def ids(root: Path, **options: object) -> list[str]:
    return list(load(root, POLICY, columns=("id",), **options)["id"])  # type: ignore[arg-type]


def parts_of(root: Path) -> list[Path]:
    return sorted(root.glob("outcomes/*/*/*/*.parquet"))


def test_what_was_added_is_loaded_in_order_of_time(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    add(store, "late", at=NOON + 2 * DAY)
    add(store, "early", "next")
    store.compact()
    assert ids(tmp_path) == ["early", "next", "late"]
    assert ids(tmp_path, limit=2) == ["next", "late"]
    assert ids(tmp_path, since=NOON + 1) == ["next", "late"]
    assert ids(tmp_path, since=NOON + 3 * DAY) == []


def test_an_outcome_is_kept_once_however_often_it_comes(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    assert add(store, "a", "b", "a") == 2
    assert add(store, "b", "c") == 1
    store.compact()
    assert add(store, "c", "a", "d") == 1
    store.close()
    store = open_store()
    assert add(store, "d", "b") == 0
    store.compact()
    assert sorted(ids(tmp_path)) == ["a", "b", "c", "d"]


def test_policies_do_not_see_each_others_outcomes(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    assert add(store, "a") == 1
    assert add(store, "a", policy="edge/other") == 1
    store.compact()
    assert ids(tmp_path) == ["a"]
    assert {policy: stats.rows for policy, stats in store.stats().items()} == {POLICY: 1, "edge/other": 1}


def test_what_was_added_outlives_the_process(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    add(store, "a", "b")
    store.close()
    store = open_store()
    assert store.pending_rows == 2
    store.compact()
    assert ids(tmp_path) == ["a", "b"]
    assert list((tmp_path / "journal").iterdir()) == []


def test_a_torn_write_costs_nothing_that_was_acknowledged(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    add(store, "a")
    add(store, "b")
    store.close()
    (segment,) = (tmp_path / "journal").iterdir()
    segment.write_bytes(segment.read_bytes()[:-5])
    store = open_store()
    assert add(store, "a", "b") == 1
    store.compact()
    assert sorted(ids(tmp_path)) == ["a", "b"]


def test_a_flipped_bit_in_the_journal_costs_one_batch(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    for name in "abc":
        add(store, name)
    store.close()
    (segment,) = (tmp_path / "journal").iterdir()
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    store = open_store()
    store.compact()
    assert ids(tmp_path) == ["a", "c"]


def test_a_crash_between_writing_parts_and_deleting_the_journal_does_no_harm(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    add(store, "a", "b")
    (segment,) = (tmp_path / "journal").iterdir()
    kept = segment.read_bytes()
    store.compact()
    store.close()
    segment.write_bytes(kept)
    store = open_store()
    store.compact()
    assert ids(tmp_path) == ["a", "b"]


def test_small_parts_of_a_day_become_one_and_a_crash_meanwhile_doubles_nothing(
    open_store: Open, tmp_path: Path
) -> None:
    store = open_store()
    for number in range(8):
        add(store, f"n{number}")
        store.compact()
    before = {path: path.read_bytes() for path in parts_of(tmp_path)}
    assert len(before) == 8
    add(store, "n8")
    store.compact()
    assert len(parts_of(tmp_path)) == 1
    store.close()
    for path, content in before.items():
        path.write_bytes(content)
    assert len(ids(tmp_path)) == 9
    store = open_store()
    assert len(parts_of(tmp_path)) == 1
    assert add(store, "n0", "n8") == 0


def test_a_full_disk_refuses_new_outcomes_and_loses_none(
    open_store: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    add(store, "a")

    class FullDisk:
        """Takes some bytes and then no more."""

        def __init__(self) -> None:
            self.left = 700

        def __call__(self, file: int, content: memoryview) -> int:
            if self.left <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = os.write(file, content[: self.left])
            self.left -= written
            return written

    with monkeypatch.context() as patched:
        patched.setattr(journal, "write_some", FullDisk())
        with pytest.raises(StoreFullError, match=r"No space left on device.*free space"):
            add(store, "b")
    assert add(store, "b", "c") == 2
    store.close()
    store = open_store()
    store.compact()
    assert sorted(ids(tmp_path)) == ["a", "b", "c"]


def test_parts_that_cannot_be_written_leave_everything_in_the_journal(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    store.add([Rows(POLICY, some_outcomes(["a"])), Rows(POLICY, some_outcomes(["b"], NOON + DAY))])
    (tmp_path / "outcomes").write_text("in the way")
    with pytest.raises(OSError, match="outcomes"):
        store.compact()
    assert store.pending_rows == 2
    (tmp_path / "outcomes").unlink()
    store.compact()
    assert store.pending_rows == 0
    assert ids(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_part_is_set_aside_and_the_rest_goes_on(open_store: Open, tmp_path: Path, damage: str) -> None:
    store = open_store()
    add(store, "a")
    store.compact()
    (path,) = parts_of(tmp_path)
    content = bytearray(path.read_bytes())
    add(store, "b", at=NOON + DAY)
    store.compact()
    store.close()
    if damage == "flipped":
        content[content.index(b"a", 4) + 1] ^= 0x10
    path.write_bytes({"truncated": bytes(content[:-20]), "flipped": bytes(content), "empty": b""}[damage])
    experience = load(tmp_path, POLICY, columns=("id", "id_hash"))
    assert (list(experience["id"]), len(experience.problems)) == (["b"], 1)
    store = open_store()
    if damage == "flipped":  # seen when its rows are read
        return
    assert len(store.problems) == 1
    assert "set aside" in store.problems[0]
    assert path.with_name(path.name + ".damaged").exists()
    assert ids(tmp_path) == ["b"]


def test_retention_takes_the_oldest_days_first_and_their_ids_are_forgotten(open_store: Open, tmp_path: Path) -> None:
    store = open_store(Retention(days=10), at=NOON + 12 * DAY)
    add(store, "old", at=NOON)
    add(store, "new", at=NOON + 11 * DAY)
    store.compact()
    assert ids(tmp_path) == ["new"]
    assert store.deleted_rows == 1
    assert add(store, "old", "new", at=NOON + 12 * DAY) == 1
    store.close()
    store = open_store(Retention(bytes=1), at=NOON + 12 * DAY)
    store.compact()
    assert ids(tmp_path) == []
    assert store.deleted_rows == 2


def test_labels_come_before_or_after_their_outcomes_and_the_last_one_holds(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    store.add([], [Rows(POLICY, some_labels({"a": 0.2, "unknown": 0.1}))])
    reported = np.array([0.7, 0.8, np.nan], np.float32)
    table = some_outcomes(["a", "b", "c"], quality=[None if np.isnan(one) else one for one in reported])
    store.add([Rows(POLICY, table)], [Rows(POLICY, some_labels({"a": 0.4}, NOON + 1))])
    store.compact()
    store.add([], [Rows(POLICY, some_labels({"a": 0.3}, NOON + 0.5))])
    store.compact()
    np.testing.assert_allclose(load(tmp_path, POLICY)["quality"], [0.4, 0.8, np.nan], rtol=1e-6)


def test_unknown_numbers_are_nan_and_names_are_codes(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    store.add([Rows(POLICY, some_outcomes(["a", "b"], output_tokens=[None, 5], expert=["x", "y"]))])
    store.compact()
    store.add([Rows(POLICY, some_outcomes(["c"], NOON + 9, expert=["x"], shadow_expert=["y"], state=[b"\0\1"]))])
    store.compact()
    experience = load(tmp_path, POLICY, columns=("expert", "shadow_expert", "output_tokens", "state"))
    assert list(experience.text("expert")) == ["x", "y", "x"]
    assert list(experience.text("shadow_expert")) == ["", "", "y"]
    assert list(experience["state"]) == [None, None, b"\0\1"]
    np.testing.assert_array_equal(experience["output_tokens"], np.array([np.nan, 5, 11], np.float32))
    chosen = experience.rows(experience["expert"] == experience.code("expert", "x"))
    assert len(chosen) == 2


def test_the_fleet_is_the_last_one_that_was_told(open_store: Open, tmp_path: Path) -> None:
    expert = FleetExpert(
        name="a",
        model="m",
        gpu="L4",
        base_seconds=0.01,
        per_sequence_seconds=0.0,
        per_context_token_seconds=0.0,
        per_prefill_token_seconds=0.0,
        kv_capacity_tokens=0,
        maximum_running=8,
        quality_prior=0.5,
        output_tokens_prior=100,
    )
    store = open_store()
    store.tell_fleet(Fleet(policy=POLICY, at=2.0, experts=(expert,)))
    store.tell_fleet(Fleet(policy=POLICY, at=1.0, experts=()))
    store.close()
    store = open_store()
    assert store.fleet(POLICY) == Fleet(policy=POLICY, at=2.0, experts=(expert,))
    assert load(tmp_path, POLICY).fleet == store.fleet(POLICY)
    assert store.fleet("edge/other") is None


def test_parts_may_be_in_an_object_store(open_store: Open, tmp_path: Path) -> None:
    store = open_store(url=f"memory://{tmp_path.name}")
    add(store, "a", "b")
    store.compact()
    assert not (tmp_path / "outcomes").exists()
    assert ids(tmp_path) == ["a", "b"]
    store.close()
    store = open_store(url=f"memory://{tmp_path.name}")
    assert add(store, "b", "c") == 1


def test_one_process_has_a_store(open_store: Open) -> None:
    open_store()
    with pytest.raises(StoreInUseError, match="another process"):
        open_store()


@pytest.mark.parametrize("key", ["chat", "edge/../chat", "../chat", "/chat", "edge/Chat", "edge/chat\n", "a/b/c", ""])
def test_a_key_that_is_none_leads_nowhere(tmp_path: Path, key: str) -> None:
    with pytest.raises(DocumentError, match="namespace/name"):
        load(tmp_path, key)


def test_a_store_of_a_newer_version_is_refused(open_store: Open, tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text('{"schemaVersion": 99, "outcomesUrl": ""}')
    with pytest.raises(DocumentError, match=r"schema 99.*update Pointsman"):
        open_store()
