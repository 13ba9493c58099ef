"""The watcher itself, poll by poll."""

import os
from pathlib import Path

import pytest

from pointsman_operator.discovery.watch import FileWatch
from pointsman_policy.errors import DocumentError


def load(path: Path) -> str:
    text = path.read_text()
    if "bad" in text:
        raise DocumentError(str(path), f"{text}; write something good")
    return text.strip()


class Watched:
    """A watched file that says "good" at first."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "file.yaml"
        self.path.write_text("good")
        self.loads = 0
        self.changes: list[str] = []
        self.watch = FileWatch(self.path, self._load)
        self.watch.subscribe(self.changes.append)

    def _load(self, _before: str | None) -> str:
        self.loads += 1
        return load(self.path)

    def write(self, text: str) -> None:
        self.path.write_text(text)

    def replace_unnoticeably(self, text: str) -> None:
        """Keep inode, size and mtime; the clock of the file system moves in steps, so try until ctime has moved."""
        before = after = self.path.stat()
        while after.st_ctime_ns == before.st_ctime_ns:
            self.path.write_text(text)
            os.utime(self.path, ns=(before.st_atime_ns, before.st_mtime_ns))
            after = self.path.stat()
        assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)

    async def settle(self) -> None:
        await self.watch.poll()
        await self.watch.poll()


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


async def test_a_file_that_stays_is_not_loaded_again(watched: Watched) -> None:
    await watched.settle()
    await watched.settle()
    assert watched.loads == 1


async def test_a_file_still_being_written_is_left_to_its_writer(watched: Watched) -> None:
    whole = "a rather long text"
    for end in range(1, len(whole)):
        watched.write(whole[:end])
        await watched.watch.poll()
    watched.write(whole)
    await watched.settle()
    assert watched.changes == [whole]
    assert watched.loads == 2


async def test_a_rewritten_file_with_the_same_content_is_no_change(watched: Watched) -> None:
    watched.write("good ")
    await watched.settle()
    assert watched.loads == 2
    assert watched.changes == []


async def test_an_edit_that_keeps_size_and_mtime_is_a_change(watched: Watched) -> None:
    watched.replace_unnoticeably("mood")
    await watched.settle()
    assert watched.changes == ["mood"]


async def test_an_unusable_version_is_loaded_once_and_reported_once(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.write("bad")
    await watched.settle()
    await watched.settle()
    assert watched.loads == 2
    assert (watched.watch.content, watched.changes) == ("good", [])
    assert watched.watch.problem == f"{watched.path}: bad; write something good"
    assert len(caplog.records) == 1
    watched.write("very bad")
    await watched.settle()
    assert watched.loads == 3
    assert len(caplog.records) == 2


async def test_a_file_put_back_as_it_was_is_no_change_and_no_problem(watched: Watched) -> None:
    watched.write("bad")
    await watched.settle()
    watched.write("good")
    await watched.settle()
    assert watched.watch.problem is None
    assert watched.changes == []


async def test_a_bug_in_loading_keeps_the_last_version(watched: Watched) -> None:
    watched.path.write_bytes(b"\xff\xfe")
    await watched.settle()
    assert watched.watch.content == "good"
    assert "cannot be loaded (UnicodeDecodeError); restore a version that worked" in str(watched.watch.problem)
