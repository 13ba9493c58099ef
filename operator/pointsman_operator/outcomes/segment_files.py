"""The files that a log of records consists of, and what is done to them alone."""

import fcntl
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pointsman_operator.outcomes.frames import HEAD_BYTES, sound_frames

_LOGGER = logging.getLogger(__name__)

_SUFFIX = ".records"
_LOCK = ".lock"
_DIGITS = 20


@dataclass(slots=True)
class Segment:
    """A file of records whose numbers follow each other."""

    path: Path
    first: int
    end: int
    """Number after its last record."""
    bytes: int


def segment_name(first: int) -> str:
    """Return the name of the segment that begins with a record."""
    return f"{first:0{_DIGITS}d}{_SUFFIX}"


def locked(folder: Path) -> BinaryIO:
    """Return a folder's lock, held until it is closed.

    Raises:
        OSError: If another process holds it, or the folder cannot be written.
    """
    lock = (folder / _LOCK).open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise OSError(error.errno, "another router uses it; give each its own folder") from error
    return lock


def found_segments(folder: Path) -> list[Segment]:
    """Return the segments that earlier processes left."""
    segments = []
    for path in sorted(folder.glob(f"{'[0-9]' * _DIGITS}{_SUFFIX}")):
        first, size = int(path.name.removesuffix(_SUFFIX)), path.stat().st_size
        sizes = [HEAD_BYTES + len(record) for record in sound_records(path, 0)]
        if sum(sizes) < size:
            _LOGGER.warning("%s: leaving out %d bytes at its end that are no whole record", path, size - sum(sizes))
        segments.append(Segment(path, first, first + len(sizes), size))
    return segments


def sound_records(path: Path, offset: int) -> Iterator[bytes]:
    """Yield the records in a part of a file, up to the first that is not sound."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read()
    except OSError as error:
        _LOGGER.warning("%s cannot be read (%s)", path, error.strerror)
        return
    yield from sound_frames(content)


def write_through(file: BinaryIO, content: bytes) -> None:
    """Write all of it, to outlast a crash of the machine."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make sure that a new file is found after a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
