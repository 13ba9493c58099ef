"""Numbered records in files of a folder, oldest first, of which the oldest go when room runs out.

A segment is named after the number of its first record; the others in it follow without a gap. What a process that was
killed had not finished to write ends its last segment, and is cut off there.
"""

import contextlib
import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pointsman_operator.outcomes.frames import HEAD_BYTES, frame
from pointsman_operator.outcomes.segment_files import (
    Segment,
    found_segments,
    locked,
    segment_name,
    sound_records,
    sync_folder,
    write_through,
)

_LOGGER = logging.getLogger(__name__)


class Chunk(NamedTuple):
    """Records that follow each other."""

    records: tuple[bytes, ...]
    end: int
    """The number at which to go on."""
    damaged: int = 0
    """Records before that which cannot be read any more."""


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
        self._lock = locked(folder)
        self._segments = found_segments(folder)
        self.acknowledged = 0
        """Records before this number may go; to be set by whoever reads."""

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
            write_through(self._file or self._create(current.path), content)
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
        for record in itertools.islice(sound_records(segment.path, offset), segment.end - number):
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

    @property
    def untidy(self) -> bool:
        """Whether there are segments of nothing but acknowledged records, the one being written left aside."""
        return bool(self._segments) and self._is_done(self._segments[0])

    def tidy(self) -> None:
        """Delete those segments.

        Raises:
            OSError: If one cannot be deleted; it stays for the next time.
        """
        while self.untidy:
            self._delete_oldest()

    def close(self) -> None:
        """Close the files; what is acknowledged is deleted.

        Raises:
            OSError: If that fails.
        """
        self._close_file()
        try:
            self.tidy()
        finally:
            self._lock.close()

    def _is_done(self, oldest: Segment) -> bool:
        written = self._file is not None and len(self._segments) == 1
        return oldest.end <= self.acknowledged and not written

    def _current(self, first: int) -> Segment:
        """Return the segment to write to, a new one if needed."""
        if self._file is None or self.end != first:
            self._close_file()
            path = self._folder / segment_name(first)
            self._segments = [one for one in self._segments if one.path != path]
            self._segments.append(Segment(path, first, first, 0))
        return self._segments[-1]

    def _create(self, path: Path) -> BinaryIO:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb", buffering=0)
        sync_folder(self._folder)
        return self._file

    def _abandon(self, current: Segment) -> None:
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
