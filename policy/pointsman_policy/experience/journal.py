"""The journal: what was acknowledged is on disk, whatever happens next.

Segments are files of frames: length, CRC-32 of the content, content. A segment is only ever appended to by the process
that made it; after a restart the old ones are read, and new ones written. The frames of a broken write stand at a
segment's end and were never acknowledged: they are left out, as is a frame whose checksum differs.
"""

import logging
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

_LOGGER = logging.getLogger(__name__)

_MAGIC: Final = b"PMJOURN1"
_HEADER: Final = struct.Struct("<II")
_LONGEST_FRAME: Final = 64 << 20
_SUFFIX: Final = ".journal"

write_some = os.write
"""How bytes get to a file."""


class Journal:
    """Appends frames durably.

    Not safe for use from several threads at once; its owner sees to that.

    Args:
        folder: Made if needed; no other process may write to it.

    Raises:
        OSError: If the folder cannot be made or read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._next = 1 + max((_number(path) for path in self.segments()), default=0)
        self._file: int | None = None
        self._path: Path | None = None
        self._end = 0

    def segments(self) -> list[Path]:
        """Return the segments there are, oldest first."""
        return sorted(self._folder.glob(f"*{_SUFFIX}"), key=_number)

    def append(self, frames: Sequence[bytes]) -> None:
        """Write frames and wait until they are on disk; all of them or none.

        Raises:
            OSError: If they cannot be written now. Nothing of them will be read back.
        """
        content = b"".join(_HEADER.pack(len(one), zlib.crc32(one)) + one for one in frames)
        file = self._open()
        try:
            _write_all(file, content)
            os.fdatasync(file)
        except OSError:
            self._take_back(file)
            raise
        self._end += len(content)

    def rotate(self) -> list[Path]:
        """Go on in a new segment from the next frame on, and return the segments before it."""
        self._close()
        return self.segments()

    def close(self) -> None:
        """Close the segment in use; it stays."""
        self._close()

    def _open(self) -> int:
        if self._file is not None:
            return self._file
        path = self._folder / f"{self._next:08d}{_SUFFIX}"
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            _write_all(file, _MAGIC)
            os.fsync(file)
            sync_folder(self._folder)
        except OSError:
            os.close(file)
            path.unlink(missing_ok=True)
            raise
        self._next += 1
        self._file, self._path, self._end = file, path, len(_MAGIC)
        return file

    def _take_back(self, file: int) -> None:
        """Cut off what a failed write left; where even that fails, the segment is used no more."""
        try:
            os.ftruncate(file, self._end)
            os.lseek(file, self._end, os.SEEK_SET)
            os.fsync(file)
        except OSError:
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                os.close(self._file)
            if self._end == len(_MAGIC) and self._path is not None:
                self._path.unlink(missing_ok=True)
        self._file = None


def read_segment(path: Path) -> Iterator[bytes]:
    """Yield a segment's frames; what is broken is left out and logged.

    Raises:
        OSError: If the file cannot be read.
    """
    content = path.read_bytes()
    if content[: len(_MAGIC)] != _MAGIC:
        if content:
            _LOGGER.warning("%s: is no journal; left out", path)
        return
    place = len(_MAGIC)
    while place < len(content):
        start = place + _HEADER.size
        length, checksum = _HEADER.unpack_from(content, place) if start <= len(content) else (0, 0)
        end = start + length
        if length == 0 or end > len(content) or length > _LONGEST_FRAME:
            rest = len(content) - place
            _LOGGER.warning("%s: ends in a broken write at byte %d; %d bytes left out", path, place, rest)
            return
        frame = content[start:end]
        if zlib.crc32(frame) == checksum:
            yield frame
        else:
            _LOGGER.error("%s: the frame at byte %d is damaged; %d bytes left out", path, place, end - place)
        place = end


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk.

    Raises:
        OSError: If that fails.
    """
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _write_all(file: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[write_some(file, rest) :]


def _number(path: Path) -> int:
    return int(path.stem) if path.stem.isdigit() else 0
