"""The process of a training lets everything else go first."""

import fcntl
import os
import re
import sys
from pathlib import Path

import pytest

from pointsman_policy.service.training_process import run_training

WEIGHS_SESSIONS = Path("/proc/self/autogroup").exists()


async def test_a_training_yields_to_everything_else_on_the_machine(tmp_path: Path) -> None:
    seen: dict[str, int] = {}

    def look(process: int) -> None:
        seen["nice"] = os.getpriority(os.PRIO_PROCESS, process)
        seen["processors"] = len(os.sched_getaffinity(process))
        group = Path(f"/proc/{process}/autogroup")
        if WEIGHS_SESSIONS and (found := re.search(r"nice (-?\d+)", group.read_text())):
            seen["session"] = int(found[1])

    command = (sys.executable, "-c", "import sys; sys.exit(0)")
    ended = await run_training(command, tmp_path / "log", tmp_path / "lock", 1, look)
    assert ended.code == 0
    assert (seen["nice"], seen["processors"]) == (19, 1)
    assert seen.get("session", 19) == 19


async def test_the_last_words_of_a_training_are_told(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "print('once'); print('the end'); raise SystemExit(3)")
    ended = await run_training(command, tmp_path / "log", tmp_path / "lock", 1, lambda process: None)
    assert (ended.code, ended.last_words) == (3, "the end")


async def test_two_trainings_never_share_a_work_folder(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "pass")
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            await run_training(command, tmp_path / "log", tmp_path / "lock", 1, lambda process: None)
