"""Parts: the Parquet files that outcomes rest in, on a local volume or in an object store.

``<table>/<namespace>/<name>/day=YYYY-MM-DD/<unique>.parquet``. A part is written once and whole, never changed. One
that was made of others names them, so that those count no more even where a crash left them. Every page has a checksum.
"""

import datetime
import json
import logging
import os
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from pointsman_policy.errors import DocumentError
from pointsman_policy.experience.journal import sync_folder
from pointsman_policy.experience.policy_key import check_policy_key, is_policy_key

_LOGGER = logging.getLogger(__name__)

_SUFFIX: Final = ".parquet"
_DAMAGED: Final = ".damaged"
_SUMMARY: Final = b"pointsman"
_ROWS_IN_GROUP: Final = 262_144


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a table."""

    policy: str
    day: str
    """In UTC, "YYYY-MM-DD"."""
    path: str
    """As its file system has it."""
    size: int
    """Bytes."""

    @property
    def name(self) -> str:
        """Its name, unique among all parts."""
        return self.path.rpartition("/")[2]


def day_of(at: float) -> str:
    """Return the day of a Unix time, in UTC."""
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d")


class PartFolder:
    """The parts of one table.

    Args:
        url: A local folder, or the URL of a place in an object store, such as "s3://bucket/folder".
        table: Its name.

    Raises:
        DocumentError: If the URL cannot be used.
    """

    def __init__(self, url: str, table: str) -> None:
        self._fs, base = _file_system(url)
        self._base = f"{base.rstrip('/')}/{table}"
        self._local = isinstance(self._fs, fs.LocalFileSystem)

    def parts(self, policy: str = "") -> list[Part]:
        """Return the parts of a policy, or of all, oldest day first.

        Raises:
            OSError: If the place cannot be read.
        """
        base = f"{self._base}/{check_policy_key(policy)}" if policy else self._base
        selector = fs.FileSelector(base, allow_not_found=True, recursive=True)
        found = (self._part(info) for info in self._fs.get_file_info(selector))
        return sorted((part for part in found if part is not None), key=lambda part: (part.day, part.path))

    def write(
        self,
        policy: str,
        day: str,
        table: pa.Table,
        *,
        summary: dict[str, Any],
        names: Sequence[str],
        replaces: Iterable[Part] = (),
    ) -> Part:
        """Write a part; it is there as a whole or not at all.

        Args:
            policy: Whose.
            day: Of its rows.
            table: The rows.
            summary: Kept beside them, for `summary`.
            names: Columns with few different values.
            replaces: Parts that this one holds too; to be deleted by the caller.

        Raises:
            OSError: If it cannot be written.
        """
        told = {**summary, "rows": table.num_rows, "replaces": [part.name for part in replaces]}
        table = table.replace_schema_metadata({_SUMMARY: json.dumps(told).encode()})
        sink = pa.BufferOutputStream()
        pq.write_table(
            table,
            sink,
            row_group_size=_ROWS_IN_GROUP,
            compression="zstd",
            use_dictionary=list(names),
            write_page_checksum=True,
        )
        content = sink.getvalue()
        path = f"{self._base}/{check_policy_key(policy)}/day={day}/{uuid.uuid4().hex}{_SUFFIX}"
        if self._local:
            _write_durably(Path(path), content)
        else:
            with self._fs.open_output_stream(path) as stream:
                stream.write(content)
        return Part(policy, day, path, content.size)

    def open(self, part: Part, names: Sequence[str] = ()) -> pq.ParquetFile:
        """Open a part to read from it.

        Args:
            part: Which.
            names: Columns to be read as dictionaries.

        Raises:
            OSError: If it cannot be read, or is damaged.
        """
        try:
            source = part.path if self._local else self._fs.open_input_file(part.path)
            return pq.ParquetFile(
                source, read_dictionary=list(names) or None, page_checksum_verification=True, memory_map=False
            )
        except pa.ArrowInvalid as error:
            raise OSError(f"{part.path}: is damaged ({error})") from error

    def read(self, part: Part, columns: Sequence[str], names: Sequence[str] = ()) -> pa.Table:
        """Read columns of a part.

        Raises:
            OSError: If it cannot be read, or is damaged, or lacks a column.
        """
        try:
            with self.open(part, names) as file:
                missing = sorted(set(columns) - set(file.schema_arrow.names))
                if missing:
                    raise OSError(f"{part.path}: has no column {missing[0]}; it is of another version of Pointsman")
                return file.read(list(columns), use_threads=False).replace_schema_metadata(None)
        except (pa.ArrowInvalid, pa.ArrowException) as error:
            raise OSError(f"{part.path}: is damaged ({error})") from error

    def summary(self, part: Part) -> dict[str, Any]:
        """Return what was told with a part: its "rows", the parts that it "replaces", and the writer's own.

        Raises:
            OSError: If it cannot be read, or is damaged.
        """
        with self.open(part) as file:
            try:
                told = json.loads((file.schema_arrow.metadata or {})[_SUMMARY])
            except (KeyError, ValueError) as error:
                raise OSError(f"{part.path}: was not written by Pointsman, or is damaged") from error
        if not isinstance(told, dict):
            raise OSError(f"{part.path}: was not written by Pointsman, or is damaged")
        return told

    def delete(self, part: Part) -> None:
        """Delete a part; one that is gone already is no error.

        Raises:
            OSError: If it cannot be deleted.
        """
        try:
            self._fs.delete_file(part.path)
        except FileNotFoundError:
            return

    def set_aside(self, part: Part) -> None:
        """Keep a damaged part for people, where it is not read any more.

        Raises:
            OSError: If it cannot be renamed.
        """
        self._fs.move(part.path, part.path + _DAMAGED)
        _LOGGER.error("%s: is damaged and was set aside as %s%s", part.path, part.name, _DAMAGED)

    def remove_unfinished(self) -> None:
        """Delete what a crash left of parts that were being written.

        Raises:
            OSError: If the place cannot be read or written.
        """
        if self._local:
            for path in Path(self._base).glob(f"*/*/day=*/.*{_SUFFIX}"):
                path.unlink(missing_ok=True)

    def _part(self, info: fs.FileInfo) -> Part | None:
        steps = info.path.removeprefix(f"{self._base}/").split("/")
        if info.type != fs.FileType.File or len(steps) != 4 or not info.path.endswith(_SUFFIX):
            return None
        policy, day, name = f"{steps[0]}/{steps[1]}", steps[2].removeprefix("day="), steps[3]
        if name.startswith(".") or not is_policy_key(policy) or len(day) != 10:
            return None
        return Part(policy, day, info.path, int(info.size))


def _file_system(url: str) -> tuple[fs.FileSystem, str]:
    if "://" not in url:
        return fs.LocalFileSystem(), str(Path(url).absolute())
    try:
        system, path = fs.FileSystem.from_uri(url)
        return system, str(path)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError):
        return _through_fsspec(url)


def _through_fsspec(url: str) -> tuple[fs.FileSystem, str]:
    """Return a file system that pyarrow has not, by fsspec where that is installed."""
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise DocumentError(
            url, f'cannot be used for outcomes ({error}); give a folder, or a URL such as "s3://bucket/folder"'
        ) from error
    return fs.PyFileSystem(fs.FSSpecHandler(system)), str(path)


def _write_durably(path: Path, content: pa.Buffer) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
        for folder in (path.parent, path.parent.parent):
            sync_folder(folder)
    finally:
        unfinished.unlink(missing_ok=True)
