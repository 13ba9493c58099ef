"""Keeps records until the policy service has them: in memory for a moment, then on disk.

Appending never touches the disk. A task writes what came in a few times a second, in a thread; what was written
outlasts any crash, and is read from there. While the disk takes nothing (full, read-only, gone), records are read from
memory all the same. Where room runs out, the oldest records go.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman_operator.outcomes.frames import LARGEST_RECORD
from pointsman_operator.outcomes.metrics import LearningMetrics
from pointsman_operator.outcomes.segments import Chunk, SegmentLog
from pointsman_operator.outcomes.waiting import WaitingRecords

_LOGGER = logging.getLogger(__name__)

_NUMBERS_PER_SECOND = 1 << 20
_FLUSH_RECORDS = 1_000
_FLUSH_BYTES = 1 << 20
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolSettings:
    """How much is kept, and where."""

    folder: Path | None = None
    """None = in memory only, which a restart empties."""
    most_disk_bytes: int = 256 << 20
    most_memory_bytes: int = 32 << 20
    most_memory_records: int = 50_000
    flush_seconds: float = 0.2
    """A crash loses what came later than this before it."""
    retry_seconds: float = 2.0
    """From one attempt to the next while the disk takes nothing."""


class Batch(NamedTuple):
    """Records that were read, to be acknowledged together."""

    records: tuple[bytes, ...]
    end: int
    """Rises from batch to batch, also over restarts."""
    epoch: int


class Spool:
    """A queue of records. All methods belong on one event loop.

    Args:
        settings: How much is kept, and where.
        metrics: Told what comes and what is lost.
        unix_clock: Unix seconds, at the start; records are numbered from there, so that numbers rise over restarts.
        sleep: Waits for some seconds.
    """

    def __init__(
        self,
        settings: SpoolSettings,
        metrics: LearningMetrics,
        unix_clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._sleep = sleep
        self._waiting = WaitingRecords(
            int(unix_clock()) * _NUMBERS_PER_SECOND, settings.most_memory_records, settings.most_memory_bytes
        )
        self._cursor = self._acknowledged = self._epoch = 0
        self._made: list[SegmentLog] = []
        self._log: SegmentLog | None = None
        self._problem = ""
        self._thread = ThreadPoolExecutor(1, "spool")
        self._opened = asyncio.Event()
        self._news = asyncio.Event()
        metrics.watch_spool(lambda: self.record_count, self._bytes)

    @property
    def problem(self) -> str:
        """Why nothing is written to disk, for people; empty = it is, or need not be."""
        return self._problem

    @property
    def record_count(self) -> int:
        """Records that are not acknowledged."""
        return len(self._waiting) + (0 if self._log is None else self._log.records)

    def append(self, record: pb.Record) -> None:
        """Take a record; takes microseconds."""
        content = record.SerializeToString()
        self._metrics.recorded()
        if len(content) > LARGEST_RECORD:
            self._metrics.dropped("too_large", 1)
            return
        self._metrics.dropped("memory", self._waiting.append(content))
        self._news.set()

    async def run(self) -> None:
        """Write what comes to disk until cancelled."""
        while True:
            try:
                written = await self._flush()
            except Exception:
                _LOGGER.exception("Writing records failed; trying again")
                written = False
            self._opened.set()
            await self._sleep(self._settings.flush_seconds if written else self._settings.retry_seconds)

    async def close(self) -> None:
        """Write what is left, and close the files; call it once `run` has ended."""
        await self._in_thread(lambda: None)  # what was under way when `run` was cancelled ends first
        log = self._take_over()
        if log is not None:
            self._end_writing(log)
        await self._flush()
        if self._log is not None:
            await self._attempt(self._log.close)
        self._thread.shutdown(wait=False)

    async def take(self, most_records: int, most_bytes: int) -> Batch:
        """Wait for records and return those that come next."""
        await self._opened.wait()
        while True:
            self._news.clear()
            epoch = self._epoch
            chunk = await self._read(most_records, most_bytes)
            if epoch != self._epoch:
                continue
            self._cursor = chunk.end
            if chunk.records:
                return Batch(chunk.records, chunk.end, epoch)
            if chunk.damaged:
                self._metrics.dropped("damaged", chunk.damaged)
            else:
                await self._news.wait()

    def rewind(self) -> None:
        """Return to the first record that is not acknowledged; batches taken before can be acknowledged no more."""
        self._cursor = self._acknowledged
        self._epoch += 1
        self._news.set()

    def acknowledge(self, batch: Batch) -> None:
        """Let a batch go, and everything before it."""
        if batch.epoch != self._epoch:
            return
        self._acknowledged = max(self._acknowledged, batch.end)
        self._waiting.forget(self._acknowledged)
        if self._log is not None:
            self._log.acknowledged = self._acknowledged

    async def _read(self, most_records: int, most_bytes: int) -> Chunk:
        log, after = self._log, self._cursor
        if log is not None and after < log.end:
            return await self._in_thread(lambda: log.read(after, most_records, most_bytes))
        if self._settings.folder is None or self._problem:
            return self._waiting.read(after, most_records, most_bytes)
        return Chunk((), after)  # soon on disk

    async def _flush(self) -> bool:
        """Write everything that waits; tell whether the disk took it."""
        if self._settings.folder is None:
            return True
        log = self._log or await self._open(self._settings.folder)
        if log is None:
            return False
        if log.untidy and not await self._attempt(log.tidy):
            return False
        while self._waiting:
            if not await self._write(log):
                return False
        self._set_problem("")
        return True

    async def _open(self, folder: Path) -> SegmentLog | None:
        await self._attempt(lambda: self._made.append(SegmentLog(folder, self._settings.most_disk_bytes)))
        return self._take_over()

    def _take_over(self) -> SegmentLog | None:
        """Go on with what an earlier process left, once the log is open; its numbers come before those in memory."""
        if self._log is None and self._made:
            self._log = log = self._made.pop()
            if log.records:
                _LOGGER.info("%d records of an earlier run wait for the policy service", log.records)
            self._acknowledged = 0
            self._waiting.move_behind(log.end)
            self.rewind()
        return self._log

    async def _write(self, log: SegmentLog) -> bool:
        """Write the first records that wait; tell whether the disk took them."""
        run = self._waiting.start_writing(_FLUSH_RECORDS, _FLUSH_BYTES)
        records = [one.content for one in run]

        def write() -> None:
            self._metrics.dropped("disk", log.append(run[0].number, records))

        written = await self._attempt(write)
        self._end_writing(log)
        self._news.set()
        return written

    def _end_writing(self, log: SegmentLog) -> None:
        self._metrics.dropped("memory", self._waiting.end_writing(log.end))

    async def _attempt(self, work: Callable[[], None]) -> bool:
        """Do something with the disk in the thread; tell whether that went well."""
        try:
            await self._in_thread(work)
        except OSError as error:
            self._set_problem(f"{self._settings.folder}: records wait in memory only ({error.strerror or error})")
            self._news.set()
            return False
        return True

    async def _in_thread(self, work: Callable[[], ResultT]) -> ResultT:
        """Do something in the thread, to its end even if the caller is cancelled."""
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))

    def _set_problem(self, problem: str) -> None:
        if problem != self._problem:
            if problem:
                _LOGGER.warning("%s; free space or make it writable", problem)
            else:
                _LOGGER.info("Records are written to %s again", self._settings.folder)
        self._problem = problem

    def _bytes(self) -> int:
        return self._waiting.size_bytes + (0 if self._log is None else self._log.size_bytes)
