"""Numbered records in files of a folder, oldest first, of which the oldest go when room runs out.

A segment is named after the number of its first record; the others in it follow without a gap. What a process that was
killed had not finished to write ends its last segment, and is cut off there.
"""

import contextlib
import fcntl
import itertools
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pointsman_operator.outcomes.frames import HEAD_BYTES, frame, sound_frames

_LOGGER = logging.getLogger(__name__)

_SUFFIX = ".records"
_LOCK = ".lock"
_DIGITS = 20


class Chunk(NamedTuple):
    """Records that follow each other."""

    records: tuple[bytes, ...]
    end: int
    """The number at which to go on."""
    damaged: int = 0
    """Records before that which cannot be read any more."""


@dataclass(slots=True)
class _Segment:
    path: Path
    first: int
    end: int
    """Number after its last record."""
    bytes: int


class SegmentLog:
    """Writes and reads segments. Every method may block on the disk; call them in one thread at a time.

    Args:
        folder: Made if needed; locked, since two processes would take each other's segments for their own.
        most_bytes: Of all segments together.
        segment_bytes: From which size on the next segment begins.

    Raises:
        OSError: If the folder cannot be read or locked.
    """

    def __init__(self, folder: Path, most_bytes: int, segment_bytes: int = 1 << 20) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._segment_bytes = segment_bytes
        self._file: BinaryIO | None = None
        self._read_on = (0, 0)
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(folder)
        self._segments = _found(folder)
        self.acknowledged = 0
        """Records before this number may go."""

    @property
    def end(self) -> int:
        """Number after the last record; 0 = there is none."""
        return self._segments[-1].end if self._segments else 0

    @property
    def size_bytes(self) -> int:
        """Size of all segments."""
        return sum(segment.bytes for segment in self._segments)

    @property
    def records(self) -> int:
        """Those that are not acknowledged."""
        return sum(max(one.end - max(one.first, self.acknowledged), 0) for one in self._segments)

    def append(self, first: int, records: Sequence[bytes]) -> int:
        """Write records so that they outlast a crash of the machine.

        Args:
            first: Number of the first one, at least `end`.
            records: At least one.

        Returns:
            How many old records that nobody had acknowledged went to make room.

        Raises:
            OSError: If that fails; none of the records is there then, as far as this log knows.
        """
        content = b"".join(map(frame, records))
        lost = self._make_room(len(content))
        current = self._current(first)
        try:
            _write(self._file or self._create(current.path), content)
        except OSError:
            self._abandon(current)
            raise
        current.end += len(records)
        current.bytes += len(content)
        if current.bytes >= self._segment_bytes:
            self._close_file()
        return lost

    def read(self, after: int, most_records: int, most_bytes: int) -> Chunk:
        """Return records from a number on, some of them if there are any.

        What is damaged is passed over, up to the next segment, and counted.
        """
        segment = next((one for one in self._segments if one.end > after), None)
        if segment is None:
            return Chunk((), after)
        after = max(after, segment.first)
        number, offset = self._read_on
        if number != after or number == segment.first:
            number, offset = segment.first, 0
        found: list[bytes] = []
        size = 0
        for record in itertools.islice(_sound(segment.path, offset), segment.end - number):
            if number >= after:
                if len(found) >= most_records or (found and size + len(record) > most_bytes):
                    break
                found.append(record)
                size += len(record)
            number += 1
            offset += HEAD_BYTES + len(record)
        if found:
            self._read_on = number, offset
            return Chunk(tuple(found), number)
        _LOGGER.warning("%s is damaged; %d records in it are lost", segment.path, segment.end - after)
        if segment is self._segments[-1]:
            self._close_file()  # nobody would find what is written behind the damage
        return Chunk((), segment.end, segment.end - after)

    def forget(self, before: int) -> None:
        """Let records before a number go; segments of nothing else are deleted, the one being written once it is full.

        Raises:
            OSError: If a segment cannot be deleted; it stays for the next time.
        """
        self.acknowledged = max(self.acknowledged, before)
        while self._segments and self._segments[0].end <= self.acknowledged:
            if len(self._segments) == 1 and self._file is not None:
                return
            self._delete_oldest()

    def close(self) -> None:
        """Close the files; what is acknowledged is deleted.

        Raises:
            OSError: If that fails.
        """
        self._close_file()
        try:
            self.forget(self.acknowledged)
        finally:
            self._lock.close()

    def _current(self, first: int) -> _Segment:
        """Return the segment to write to, a new one if needed."""
        if self._file is None or self.end != first:
            self._close_file()
            path = self._folder / f"{first:0{_DIGITS}d}{_SUFFIX}"
            self._segments = [one for one in self._segments if one.path != path]
            self._segments.append(_Segment(path, first, first, 0))
        return self._segments[-1]

    def _create(self, path: Path) -> BinaryIO:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb", buffering=0)
        _sync_folder(self._folder)
        return self._file

    def _abandon(self, current: _Segment) -> None:
        """Stop writing a segment, which may end in a part of what could not be written."""
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.truncate(current.bytes)
        self._close_file()
        if current.end == current.first:
            self._segments.remove(current)
            with contextlib.suppress(OSError):
                current.path.unlink(missing_ok=True)

    def _make_room(self, needed: int) -> int:
        lost = 0
        while self._segments and self.size_bytes + needed > self._most_bytes:
            if len(self._segments) == 1:
                self._close_file()
            oldest = self._segments[0]
            lost += max(oldest.end - max(oldest.first, self.acknowledged), 0)
            self._delete_oldest()
        return lost

    def _delete_oldest(self) -> None:
        self._segments[0].path.unlink(missing_ok=True)
        del self._segments[0]

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _locked(folder: Path) -> BinaryIO:
    lock = (folder / _LOCK).open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise OSError(error.errno, "another router uses it; give each its own folder") from error
    return lock


def _found(folder: Path) -> list[_Segment]:
    """Return the segments that earlier processes left."""
    segments = []
    for path in sorted(folder.glob(f"{'[0-9]' * _DIGITS}{_SUFFIX}")):
        first, size = int(path.name.removesuffix(_SUFFIX)), path.stat().st_size
        sizes = [HEAD_BYTES + len(record) for record in _sound(path, 0)]
        if sum(sizes) < size:
            _LOGGER.warning("%s: leaving out %d bytes at its end that are no whole record", path, size - sum(sizes))
        segments.append(_Segment(path, first, first + len(sizes), size))
    return segments


def _sound(path: Path, offset: int) -> Iterator[bytes]:
    """Yield the records in a part of a file, up to the first that is not sound."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read()
    except OSError as error:
        _LOGGER.warning("%s cannot be read (%s)", path, error.strerror)
        return
    yield from sound_frames(content)


def _write(file: BinaryIO, content: bytes) -> None:
    """Write all of it, to outlast a crash of the machine."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make sure that a new file is found after a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
