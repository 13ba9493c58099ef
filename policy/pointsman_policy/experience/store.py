"""The store of outcomes: everything that routers tell, kept once and for good.

What is added is in the journal before `add` returns. `compact` moves it into Parquet parts, one set a day; a crash in
between does no harm, since rows that are in a part already are left out when the journal is read again.
"""

import logging
import os
import threading
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from pointsman_policy.experience.errors import StoreFullError
from pointsman_policy.experience.fleet import Fleet, Fleets
from pointsman_policy.experience.frames import read_frame, write_frame
from pointsman_policy.experience.journal import Journal, read_segment
from pointsman_policy.experience.known_ids import Hashes, KnownIds
from pointsman_policy.experience.location import StoreLocation, labels_catalogue, lock_root, outcomes_catalogue
from pointsman_policy.experience.parts import Part
from pointsman_policy.experience.pending import Pending, Rows, hashes_of
from pointsman_policy.experience.retention import Retention
from pointsman_policy.experience.stats import PolicyStats, count_rows

_LOGGER = logging.getLogger(__name__)

_MOST_PENDING_BYTES = 512 << 20


class OutcomeStore:
    """Keeps outcomes, labels and fleets.

    Safe for use from several threads. Only one process may have a store.

    Args:
        location: Where.
        retention: How long.
        clock: Unix seconds.

    Raises:
        StoreInUseError: If another process has it.
        DocumentError: If the place of the parts cannot be used.
        OSError: If it cannot be read.
    """

    def __init__(self, location: StoreLocation, retention: Retention, clock: Callable[[], float]) -> None:
        self.location = location
        self._retention = retention
        self._clock = clock
        location.root.mkdir(parents=True, exist_ok=True)
        self._lock_file = lock_root(location.root)
        location.write()
        self._lock = threading.Lock()
        self._compacting = threading.Lock()
        self._catalogues = {True: outcomes_catalogue(location), False: labels_catalogue(location)}
        self._known: dict[str, KnownIds] = {}
        self._pending = Pending()
        self._writing = Pending()
        self._fleets = Fleets(location.root)
        self.problems: list[str] = []
        """What was found damaged and set aside."""
        self.deleted_rows = 0
        """Outcomes that retention has taken, since the start."""
        self._scan()
        self._journal = Journal(location.root / "journal")
        self._replay()

    def add(self, outcomes: Sequence[Rows], labels: Sequence[Rows] = ()) -> list[Rows]:
        """Keep rows; they are on disk when this returns.

        Args:
            outcomes: Those that are known already are left out.
            labels: Of outcomes, which may arrive before or after them.

        Returns:
            The outcomes that are new.

        Raises:
            StoreFullError: If they cannot be written now; none of them is kept.
        """
        with self._lock:
            self._check_pending()
            fresh = [self._fresh(rows) for rows in outcomes if rows.table.num_rows]
            kept = [rows for rows in fresh if rows.table.num_rows]
            told = [rows for rows in labels if rows.table.num_rows]
            frames = [write_frame(rows.policy, rows.table, outcomes=True) for rows in kept]
            frames += [write_frame(rows.policy, rows.table, outcomes=False) for rows in told]
            try:
                if frames:
                    self._journal.append(frames)
            except OSError as error:
                raise StoreFullError(
                    f"outcomes cannot be written ({error.strerror}); free space on the volume"
                ) from error
            for rows in kept:
                self._take(rows, outcomes=True)
            for rows in told:
                self._take(rows, outcomes=False)
            return fresh

    def tell_fleet(self, fleet: Fleet) -> None:
        """Keep a policy's fleet, unless a later one is known.

        Raises:
            StoreFullError: If it cannot be written now.
        """
        try:
            with self._lock:
                self._fleets.tell(fleet)
        except OSError as error:
            raise StoreFullError(f"the fleet cannot be written ({error.strerror}); free space on the volume") from error

    def fleet(self, policy: str) -> Fleet | None:
        """Return a policy's fleet; None = it was never told."""
        with self._lock:
            return self._fleets.get(policy)

    def compact(self) -> None:
        """Move what is pending into parts, merge small ones and delete outdated ones.

        Raises:
            OSError: If parts cannot be written now; everything stays in the journal.
        """
        with self._compacting:
            with self._lock:
                segments = self._journal.rotate()
                self._pending, self._writing = Pending(), self._pending
            try:
                self._write_parts()
            except OSError:
                with self._lock:
                    self._writing.add_all(self._pending)
                    self._pending, self._writing = self._writing, Pending()
                raise
            for segment in segments:
                segment.unlink(missing_ok=True)
            self._merge()
            self._retain()

    def stats(self) -> dict[str, PolicyStats]:
        """Return what is kept of each policy."""
        with self._lock:
            result = count_rows(self._catalogues[True].listed())
            for pending in (self._writing, self._pending):
                for policy, stats in pending.stats.items():
                    result.setdefault(policy, PolicyStats()).add_stats(stats)
            return result

    def count_since(self, policy: str, at: float) -> int:
        """Return how many outcomes of a policy were decided after some time.

        Raises:
            OSError: If a part cannot be read.
        """
        with self._lock:
            times = [*self._writing.times(policy), *self._pending.times(policy)]
            listed = self._catalogues[True].listed(policy)
        count = sum(int((some > at).sum()) for some in times)
        for part, summary in listed:
            if summary.first_at > at:
                count += summary.rows
            elif summary.last_at > at:
                count += int((self._catalogues[True].read(part, ["decided_at"]).column(0).to_numpy() > at).sum())
        return count

    @property
    def pending_rows(self) -> int:
        """Rows that are in the journal only."""
        with self._lock:
            return self._pending.rows + self._writing.rows

    @property
    def size(self) -> int:
        """All parts together, bytes."""
        with self._lock:
            return sum(catalogue.size for catalogue in self._catalogues.values())

    def close(self) -> None:
        """Let another process have the store; what is pending stays in the journal."""
        with self._compacting, self._lock:
            self._journal.close()
            os.close(self._lock_file)

    def _fresh(self, rows: Rows) -> Rows:
        """Leave out what is known already."""
        fresh = self._ids(rows.policy).fresh(hashes_of(rows.table))
        return rows if fresh.all() else Rows(rows.policy, rows.table.filter(pa.array(fresh)))

    def _ids(self, policy: str) -> KnownIds:
        return self._known.setdefault(policy, KnownIds())

    def _take(self, rows: Rows, *, outcomes: bool) -> None:
        self._pending.add(rows, outcomes=outcomes)
        if outcomes:
            self._ids(rows.policy).add_recent(hashes_of(rows.table))

    def _check_pending(self) -> None:
        if self._pending.bytes + self._writing.bytes > _MOST_PENDING_BYTES:
            raise StoreFullError("too many outcomes wait to be moved into parts; see the service's log for what fails")

    def _scan(self) -> None:
        for catalogue in self._catalogues.values():
            self.problems += catalogue.scan()
        hashes: dict[str, list[Hashes]] = {}
        for part, _ in self._catalogues[True].listed():
            try:
                hashes.setdefault(part.policy, []).append(hashes_of(self._catalogues[True].read(part, ["id_hash"])))
            except OSError as error:
                self.problems.append(self._catalogues[True].set_aside(part, str(error)))
        for policy, found in hashes.items():
            self._ids(policy).add_parts(found)

    def _replay(self) -> None:
        for segment in self._journal.segments():
            for frame in read_segment(segment):
                read = read_frame(frame, str(segment))
                if read is None:
                    continue
                policy, table, outcomes = read
                rows = self._fresh(Rows(policy, table)) if outcomes else Rows(policy, table)
                if rows.table.num_rows:
                    self._take(rows, outcomes=outcomes)

    def _write_parts(self) -> None:
        for rows, outcomes in self._writing.tables():
            self._catalogues[outcomes].write(rows.policy, rows.table)
            with self._lock:
                self._writing.discard(rows.policy, outcomes=outcomes)
                if outcomes:
                    self._ids(rows.policy).add_parts([hashes_of(rows.table)])

    def _merge(self) -> None:
        for catalogue in self._catalogues.values():
            for policy in {part.policy for part, _ in catalogue.listed()}:
                catalogue.merge(policy)

    def _retain(self) -> None:
        now = self._clock()
        for outcomes, catalogue in self._catalogues.items():
            listed = dict(catalogue.listed())
            outdated = self._retention.outdated(listed, now)
            if outcomes:
                self._forget(outdated)
                self.deleted_rows += sum(listed[part].rows for part in outdated)
            catalogue.delete(outdated)

    def _forget(self, parts: Sequence[Part]) -> None:
        hashes: dict[str, list[Hashes]] = {}
        for part in parts:
            try:
                hashes.setdefault(part.policy, []).append(hashes_of(self._catalogues[True].read(part, ["id_hash"])))
            except OSError as error:  # its ids stay known, which does no harm
                _LOGGER.warning("%s; deleting it all the same", error)
        for policy, some in hashes.items():
            with self._lock:
                self._ids(policy).forget(np.concatenate(some))
