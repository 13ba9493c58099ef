"""Rows that are in the journal and not in a part yet."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pointsman_policy.experience.catalogue import summarise
from pointsman_policy.experience.known_ids import Hashes
from pointsman_policy.experience.stats import PolicyStats


class Rows(NamedTuple):
    """Rows of one policy."""

    policy: str
    table: pa.Table
    """Of the schema OUTCOMES or LABELS."""


class Pending:
    """Rows in the order in which they came."""

    def __init__(self) -> None:
        self._tables: dict[tuple[str, bool], list[pa.Table]] = {}
        self.rows = 0
        self.bytes = 0
        """That they take in memory."""
        self.stats: dict[str, PolicyStats] = {}
        """Of outcomes, by policy."""

    def add(self, rows: Rows, *, outcomes: bool) -> None:
        """Take in rows, which are outcomes or labels."""
        self._tables.setdefault((rows.policy, outcomes), []).append(rows.table)
        self.rows += rows.table.num_rows
        self.bytes += rows.table.nbytes
        if outcomes:
            self.stats.setdefault(rows.policy, PolicyStats()).add(summarise(rows.table, "decided_at"))

    def add_all(self, others: "Pending") -> None:
        """Take in everything that others hold."""
        for (policy, outcomes), tables in others._tables.items():
            for table in tables:
                self.add(Rows(policy, table), outcomes=outcomes)

    def tables(self) -> list[tuple[Rows, bool]]:
        """Return the rows of each policy, and whether they are outcomes."""
        return [
            (Rows(policy, pa.concat_tables(tables)), outcomes) for (policy, outcomes), tables in self._tables.items()
        ]

    def discard(self, policy: str, *, outcomes: bool) -> None:
        """Leave out the outcomes, or the labels, of one policy."""
        for table in self._tables.pop((policy, outcomes)):
            self.rows -= table.num_rows
            self.bytes -= table.nbytes
        if outcomes:
            del self.stats[policy]

    def times(self, policy: str) -> list["np.ndarray[tuple[int], np.dtype[np.float64]]"]:
        """Return when outcomes of a policy were decided, Unix seconds."""
        return [table.column("decided_at").to_numpy() for table in self._tables.get((policy, True), ())]


def hashes_of(table: pa.Table) -> Hashes:
    """Return the hashes of the ids of rows."""
    return np.asarray(table.column("id_hash").to_numpy(), np.uint64)
