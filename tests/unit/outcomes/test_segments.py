import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from pointsman_operator.outcomes.frames import frame, sound_frames
from pointsman_operator.outcomes.segments import Chunk, SegmentLog

MANY = 1_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


_open: list[SegmentLog] = []


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while _open:
        _open.pop().close()


def made(folder: Path, most_bytes: int = 1 << 20) -> SegmentLog:
    """A log whose segments have room for two records of ten bytes, or three."""
    _open.append(SegmentLog(folder, most_bytes, segment_bytes=40))
    return _open[-1]


def named(*numbers: int) -> list[bytes]:
    return [b"record%04d" % number for number in numbers]


def read_all(log: SegmentLog, after: int = 0, most_records: int = MANY, most_bytes: int = MANY) -> list[bytes]:
    found: list[bytes] = []
    while (chunk := log.read(after, most_records, most_bytes)).end > after:
        found += chunk.records
        after = chunk.end
    return found


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.records"))


def filled(folder: Path, count: int = 10) -> SegmentLog:
    log = made(folder)
    for number in range(1, count + 1):
        log.append(number, named(number))
    return log


def test_frames_are_read_up_to_the_first_that_is_not_sound() -> None:
    content = frame(b"one") + frame(b"two")
    assert list(sound_frames(content)) == [b"one", b"two"]
    for end in range(len(content)):
        assert list(sound_frames(content[:end])) == ([b"one"] if end >= len(frame(b"one")) else [])
    for place in range(len(frame(b"one")), len(content)):
        flipped = content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]
        assert list(sound_frames(flipped)) == [b"one"]


def test_records_come_back_in_order_over_many_segments(folder: Path) -> None:
    log = filled(folder)
    assert len(files(folder)) > 3
    assert read_all(log) == named(*range(1, 11))
    assert read_all(log, after=4) == named(*range(4, 11))
    assert (log.records, log.end) == (10, 11)


@pytest.mark.parametrize(("most_records", "most_bytes"), [(1, MANY), (2, MANY), (3, MANY), (MANY, 1), (MANY, 25)])
def test_records_can_be_read_in_parts_of_any_size(folder: Path, most_records: int, most_bytes: int) -> None:
    assert read_all(filled(folder), 0, most_records, most_bytes) == named(*range(1, 11))


def test_a_new_process_goes_on_where_the_last_one_ended(folder: Path) -> None:
    filled(folder, 5).close()
    log = made(folder)
    assert log.end == 6
    log.append(100, named(100))
    assert read_all(log) == named(1, 2, 3, 4, 5, 100)
    assert log.records == 6


def test_two_processes_cannot_share_a_folder(folder: Path) -> None:
    log = filled(folder)
    with pytest.raises(OSError, match="another router uses it"):
        made(folder)
    log.close()
    made(folder).close()


def test_what_was_not_written_to_its_end_is_cut_off(folder: Path) -> None:
    log = filled(folder, 4)
    log.append(5, named(5, 6))
    log.close()
    last = files(folder)[-1]
    last.write_bytes(last.read_bytes()[:-3])
    log = made(folder)
    assert log.end == 6
    log.append(6, named(7))
    assert read_all(log) == named(1, 2, 3, 4, 5, 7)


def test_damage_costs_the_rest_of_its_segment_only(folder: Path) -> None:
    log = filled(folder, 9)
    first = files(folder)[0]
    content = bytearray(first.read_bytes())
    content[20] ^= 1
    first.write_bytes(content)
    chunk = log.read(0, MANY, MANY)
    assert chunk == Chunk(tuple(named(1)), 2)
    damaged = log.read(2, MANY, MANY)
    assert damaged.records == ()
    assert damaged.damaged == damaged.end - 2
    assert read_all(log, damaged.end) == named(*range(damaged.end, 10))


def test_a_segment_that_is_gone_counts_as_damaged(folder: Path) -> None:
    log = filled(folder, 9)
    files(folder)[0].unlink()
    chunk = log.read(0, MANY, MANY)
    assert chunk.damaged == chunk.end - 1 > 0
    assert read_all(log, chunk.end) == named(*range(chunk.end, 10))


def test_segments_of_acknowledged_records_are_deleted(folder: Path) -> None:
    log = filled(folder)
    log.acknowledged = 4
    assert log.records == 7
    before = len(files(folder))
    assert log.untidy
    log.tidy()
    assert len(files(folder)) == before - 1
    assert read_all(log, 4) == named(*range(4, 11))
    log.acknowledged = 11
    log.close()
    assert files(folder) == []


def test_the_oldest_records_go_when_room_runs_out(folder: Path) -> None:
    log = made(folder, most_bytes=150)
    lost = sum(log.append(number, named(number)) for number in range(1, 21))
    left = read_all(log)
    assert left == named(*range(21 - len(left), 21))
    assert lost == 20 - len(left)
    assert sum(path.stat().st_size for path in files(folder)) <= 150


def test_acknowledged_records_that_go_are_no_loss(folder: Path) -> None:
    log = made(folder, most_bytes=150)
    lost = 0
    for number in range(1, 21):
        lost += log.append(number, named(number))
        log.acknowledged = number + 1
    assert lost == 0


def test_a_write_that_fails_half_way_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = filled(folder, 1)
    written = files(folder)[0].read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            log.append(2, named(2, 3))
        with pytest.raises(OSError, match="No space left"):
            log.append(2, named(2, 3))
    assert files(folder)[0].read_bytes() == written
    assert log.end == 2
    log.append(2, named(2, 3))
    assert read_all(log) == named(1, 2, 3)
    log.close()
    assert read_all(made(folder)) == named(1, 2, 3)


def test_a_folder_that_vanished_is_made_again(folder: Path) -> None:
    log = filled(folder, 3)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    log.append(50, named(50))
    assert read_all(log)[-1:] == named(50)
