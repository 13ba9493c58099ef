"""Numbered records in memory, on their way to the disk or, where that takes nothing, straight to the reader."""

import itertools
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from pointsman_operator.outcomes.segments import Chunk


class Numbered(NamedTuple):
    """A record and its number."""

    number: int
    content: bytes


class WaitingRecords:
    """A bounded queue whose oldest records go when there are too many.

    Args:
        end: Number that the first record gets; the others follow.
        most_records: That it holds.
        most_bytes: That it holds, with those being written.
    """

    def __init__(self, end: int, most_records: int, most_bytes: int) -> None:
        self._end = end
        self._most_records = most_records
        self._most_bytes = most_bytes
        self._waiting: deque[Numbered] = deque()
        self._writing: Sequence[Numbered] = ()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._writing)

    def append(self, content: bytes) -> int:
        """Take a record; return how many went for it."""
        self._waiting.append(Numbered(self._end, content))
        self._end += 1
        self.size_bytes += len(content)
        return self._trim()

    def read(self, after: int, most_records: int, most_bytes: int) -> Chunk:
        """Return records from a number on, at least one if there are any."""
        found: list[bytes] = []
        size, end = 0, after
        for number, content in itertools.chain(self._writing, self._waiting):
            if number < after:
                continue
            size += len(content)
            if len(found) >= most_records or (found and size > most_bytes):
                break
            found.append(content)
            end = number + 1
        return Chunk(tuple(found), end)

    def forget(self, before: int) -> None:
        """Let the records before a number go, but for those being written."""
        while self._waiting and self._waiting[0].number < before:
            self.size_bytes -= len(self._waiting.popleft().content)

    def start_writing(self, most_records: int, most_bytes: int) -> Sequence[Numbered]:
        """Return the first records, as far as they follow each other without a gap; `end_writing` must follow."""
        run: list[Numbered] = []
        size = 0
        while self._waiting and size < most_bytes and len(run) < most_records:
            if run and self._waiting[0].number != run[-1].number + 1:
                break
            run.append(self._waiting.popleft())
            size += len(run[-1].content)
        self._writing = run
        return run

    def end_writing(self, end: int) -> int:
        """Let go what was written, and put back the rest.

        Args:
            end: What was to be written and has this number or a later one is not written.

        Returns:
            How many records went, since there are too many.
        """
        back = [one for one in self._writing if one.number >= end]
        self.size_bytes -= sum(len(one.content) for one in self._writing if one.number < end)
        self._waiting.extendleft(reversed(back))
        self._writing = ()
        return self._trim()

    def move_behind(self, number: int) -> None:
        """Give the records new numbers if theirs are not all at least this one; none may be under way to the disk."""
        if number > self._end - len(self._waiting):
            self._waiting = deque(Numbered(at, one.content) for at, one in enumerate(self._waiting, number))
            self._end = number + len(self._waiting)

    def _trim(self) -> int:
        count = 0
        while self._waiting and (self.size_bytes > self._most_bytes or len(self._waiting) > self._most_records):
            self.size_bytes -= len(self._waiting.popleft().content)
            count += 1
        return count
