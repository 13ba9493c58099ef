import asyncio
import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.outcomes.spools import STARTED_AT, eventually, spooling

from pointsman_operator.outcomes import segments

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture(params=["disk", "memory"])
def anywhere(request: pytest.FixtureRequest, folder: Path) -> Path | None:
    return folder if request.param == "disk" else None


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.records"))


def flip_last_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


async def test_records_come_out_in_order_and_once(anywhere: Path | None) -> None:
    async with spooling(anywhere) as made:
        made.append("a", "b")
        assert await made.take_all(2) == ["a", "b"]
        waits = asyncio.create_task(made.take())
        made.append("c")
        assert await waits == ["c"]


async def test_batches_keep_to_their_limits(anywhere: Path | None) -> None:
    async with spooling(anywhere) as made:
        made.append(*"abcde", size=1_000)
        await eventually(lambda: made.value("outcome_spool_records") == 5)
        if anywhere:
            await made.written()
        assert await made.take(most_records=2) == ["a", "b"]
        assert await made.take(most_bytes=2_500) == ["c", "d"]
        assert await made.take(most_bytes=1) == ["e"]


async def test_what_is_not_acknowledged_comes_again_after_rewinding(anywhere: Path | None) -> None:
    async with spooling(anywhere) as made:
        made.append(*"abcd")
        if anywhere:
            await made.written()
        first = await made.spool.take(1, 1_000)
        second = await made.spool.take(1, 1_000)
        made.spool.acknowledge(first)
        made.spool.rewind()
        made.spool.acknowledge(second)
        assert await made.take() == ["b", "c", "d"]


async def test_acknowledged_records_are_counted_out(anywhere: Path | None) -> None:
    async with spooling(anywhere) as made:
        made.append(*"abcd")
        assert made.value("outcome_spool_records") == 4
        if anywhere:
            await made.written()
        made.spool.acknowledge(await made.spool.take(3, 1_000))
        await eventually(lambda: made.value("outcome_spool_records") == 1)
        made.spool.acknowledge(await made.spool.take(3, 1_000))
        await eventually(lambda: made.value("outcome_spool_records") == 0)
        assert made.value("outcomes_recorded_total") == 4


async def test_a_restart_goes_on_with_what_was_not_acknowledged(folder: Path) -> None:
    async with spooling(folder) as made:
        made.append(*"abc")
    async with spooling(folder, STARTED_AT + 5) as made:
        made.append("d")
        assert await made.take_all(4) == ["a", "b", "c", "d"]


async def test_a_restart_after_the_clock_was_set_back_loses_nothing(folder: Path) -> None:
    async with spooling(folder) as made:
        made.append(*"abc")
    for count, name in ((4, "d"), (5, "e")):
        async with spooling(folder, STARTED_AT - 1e6) as made:
            made.append(name)
            assert await made.take_all(count) == list("abcde")[:count]


async def test_nothing_is_left_on_disk_of_what_was_acknowledged(folder: Path) -> None:
    async with spooling(folder) as made:
        made.append(*"abc")
        await made.written()
        made.spool.acknowledge(await made.spool.take(10, 1_000))
    assert files(folder) == []


async def test_a_record_that_is_too_large_is_left_out(anywhere: Path | None) -> None:
    async with spooling(anywhere) as made:
        made.append("a", size=600_000)
        made.append("b")
        assert await made.take() == ["b"]
        assert made.value("outcomes_dropped_total", reason="too_large") == 1


async def test_the_oldest_records_go_when_the_disk_budget_is_spent(folder: Path) -> None:
    async with spooling(folder, most_disk_bytes=3 << 20) as made:
        for start in range(0, 4_000, 100):
            made.append(*map(str, range(start, start + 100)), size=1_000)
            await made.written()
        lost = int(made.value("outcomes_dropped_total", reason="disk"))
        assert 800 < lost < 3_000
        found = await made.take_all(4_000 - lost)
        assert found == [str(number) for number in range(lost, 4_000)]


async def test_the_oldest_records_go_when_there_is_no_disk_and_memory_is_spent() -> None:
    async with spooling(None, most_memory_records=3) as made:
        made.append(*"abcde")
        assert await made.take() == ["c", "d", "e"]
        assert made.value("outcomes_dropped_total", reason="memory") == 2


async def test_a_damaged_file_costs_what_is_damaged_and_is_counted(folder: Path) -> None:
    async with spooling(folder) as made:
        made.append(*"abcd")
        await made.written()
        flip_last_bit(files(folder)[0])
        assert await made.take_all(3) == ["a", "b", "c"]
        waits = asyncio.create_task(made.take())
        await eventually(lambda: made.value("outcomes_dropped_total", reason="damaged") == 1)
        made.append("e")
        assert await waits == ["e"]


async def test_a_full_disk_keeps_records_in_memory_until_it_has_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with spooling(folder, most_memory_records=3) as made:
        made.append("a")
        await made.written()
        with monkeypatch.context() as patch:
            patch.setattr(segments, "write_through", full)
            made.append(*"bcdef")
            await eventually(lambda: bool(made.spool.problem))
            assert "No space left on device" in made.spool.problem
            assert await made.take_all(4) == ["a", "d", "e", "f"]
            assert made.value("outcomes_dropped_total", reason="memory") == 2
        await made.written()
        await eventually(lambda: not made.spool.problem)
        assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 1
    async with spooling(folder, STARTED_AT + 5) as made:
        assert await made.take_all(4) == ["a", "d", "e", "f"]


def move_away(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.write_text("in the way")


def move_back(folder: Path) -> None:
    folder.unlink()
    folder.with_name("moved").rename(folder)


async def test_a_folder_that_cannot_be_used_at_first_is_taken_into_use_later(folder: Path) -> None:
    async with spooling(folder) as made:
        made.append(*"ab")
    move_away(folder)
    async with spooling(folder, STARTED_AT + 5) as made:
        made.append("c")
        batch = await made.spool.take(10, 1_000)
        assert made.spool.problem
        made.append("d")
        move_back(folder)
        await eventually(lambda: not made.spool.problem)
        made.spool.acknowledge(batch)
        assert await made.take_all(4) == ["a", "b", "c", "d"]


def killed_after(folder: Path, lines: int) -> int:
    """Kill a process that appends records; return the last one that it said was on disk."""
    command = [sys.executable, "-m", "tests.unit.outcomes.appender", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        told = [int(next(process.stdout)) for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        told += [int(line) for line in process.stdout if line.endswith("\n")]
    return told[-1]


@pytest.mark.parametrize("lines", [1, 7])
async def test_records_that_are_on_disk_survive_a_kill(folder: Path, lines: int) -> None:
    last = await asyncio.to_thread(killed_after, folder, lines)
    async with spooling(folder, STARTED_AT + 5) as made:
        found = await made.take_all(last + 1)
        assert found == [str(number) for number in range(len(found))]
