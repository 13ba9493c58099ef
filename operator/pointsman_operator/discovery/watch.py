"""Keeps the content of a file, or of a folder of files, up to date while the process runs.

Files are polled: inotify sees neither every symlink swap of a mounted ConfigMap nor changes on network file systems,
and a stat costs microseconds. A change is read once the file has been the same for two polls, so that a file being
written is left to its writer; an unusable file changes nothing but `problem`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Generic, TypeVar

from pointsman_policy.errors import DocumentError

_LOGGER = logging.getLogger(__name__)

ContentT = TypeVar("ContentT")
_Signature = tuple[tuple[str, int, int, int, int], ...] | None


class FileWatch(Generic[ContentT]):
    """Loads a path at once, and again whenever it changes.

    Args:
        path: A file, or a folder whose ``*.yaml`` files count together. Symlinks are followed.
        load: Reads the content, given the one before (None at first); called in a thread, except for the first time.
        interval_seconds: From one poll to the next; a change shows after one to two intervals.
        sleep: Waits for some seconds.

    Raises:
        DocumentError: If the path cannot be loaded at first.
    """

    def __init__(
        self,
        path: Path,
        load: Callable[[ContentT | None], ContentT],
        *,
        interval_seconds: float = 0.25,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._path = path
        self._load = load
        self._interval_seconds = interval_seconds
        self._sleep = sleep
        self._callbacks: list[Callable[[ContentT], None]] = []
        # Taken before loading, so that what changes meanwhile is loaded again.
        self._tried = self._seen = _signature(path)
        self.content = load(None)
        """The last content that was usable."""
        self.problem: str | None = None
        """Why the path as it is now is not in use; None = it is."""

    def subscribe(self, callback: Callable[[ContentT], None]) -> None:
        """Call back on the event loop with each new content; its exceptions are logged and go no further."""
        self._callbacks.append(callback)

    async def run(self) -> None:
        """Poll for ever; ends only by cancellation."""
        while True:
            await self._sleep(self._interval_seconds)
            await self.poll()

    async def poll(self) -> None:
        """Look once, and load what has changed and settled. Never raises but on cancellation."""
        signature = _signature(self._path)
        settled = signature == self._seen
        self._seen = signature
        if not settled or signature == self._tried:
            return
        content, problem = await asyncio.to_thread(self._attempt)
        if _signature(self._path) != signature:
            return
        self._tried = signature
        if problem is not None and problem != self.problem:
            _LOGGER.warning("Keeping the last usable version: %s", problem)
        self.problem = problem
        if content is not None and content != self.content:
            _LOGGER.info("Taking over the new version of %s", self._path)
            self.content = content
            self._notify(content)

    def _attempt(self) -> tuple[ContentT | None, str | None]:
        """Return the content or the reason why there is none; runs in a thread."""
        try:
            return self._load(self.content), None
        except DocumentError as error:
            return None, str(error)
        except Exception as error:
            return None, f"{self._path}: cannot be loaded ({type(error).__name__}); restore a version that worked"

    def _notify(self, content: ContentT) -> None:
        for callback in self._callbacks:
            try:
                callback(content)
            except Exception:
                _LOGGER.exception("A change of %s was not taken over everywhere", self._path)


def _signature(path: Path) -> _Signature:
    """Return what changes whenever the content does, or None if there is nothing to read."""
    try:
        files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
        return tuple(_file_signature(file) for file in files)
    except OSError:
        return None


def _file_signature(file: Path) -> tuple[str, int, int, int, int]:
    status = file.stat()
    return file.name, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
