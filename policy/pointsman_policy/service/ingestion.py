"""Takes batches of records: durable in the store before they are acknowledged, each outcome once."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman_policy.experience.errors import StoreFullError
from pointsman_policy.experience.fleet import Fleet
from pointsman_policy.experience.pending import Rows
from pointsman_policy.experience.store import OutcomeStore
from pointsman_policy.service.records import (
    RecordError,
    Row,
    labels_table,
    read_fleet,
    read_label,
    read_outcome,
    rows_table,
)

MOST_RECORDS = 1_000


@dataclass
class _Batch:
    rows: dict[str, list[Row]] = field(default_factory=dict)
    labels: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    fleets: list[Fleet] = field(default_factory=list)
    refused: int = 0
    problem: str = ""

    def refuse(self, problem: str) -> None:
        self.refused += 1
        self.problem = self.problem or problem


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a batch."""

    response: pb.SubmitOutcomesResponse
    fresh: tuple[Rows, ...]
    """Outcomes that are new."""
    retimed: int
    """Of these, how many had a time that cannot be."""


class Ingestion:
    """Takes batches of records; may be called from several threads.

    Args:
        store: Keeps them.
        clock: Unix seconds.
        keeps_prompts: Tells whether prompts of a policy may be kept; else they are left out, whoever sends them.
    """

    def __init__(self, store: OutcomeStore, clock: Callable[[], float], keeps_prompts: Callable[[str], bool]) -> None:
        self._store = store
        self._clock = clock
        self._keeps_prompts = keeps_prompts
        self._lock = threading.Lock()
        self.full = ""
        """Why the store takes nothing now; empty = it does."""
        self.counted: Counter[str] = Counter()
        """Records since the start: "stored", "duplicate", "refused", "label" and "retimed"."""

    def take(self, request: pb.SubmitOutcomesRequest) -> Taken:
        """Store a batch; its records are on disk, or refused for good, when this returns.

        Raises:
            StoreFullError: If nothing can be stored now; nothing of the batch is acknowledged.
        """
        batch = self._read(request)
        try:
            for fleet in batch.fleets:
                self._store.tell_fleet(fleet)
            outcomes = [Rows(policy, rows_table(rows)) for policy, rows in batch.rows.items()]
            labels = [Rows(policy, labels_table(some, self._clock())) for policy, some in batch.labels.items()]
            fresh = tuple(self._store.add(outcomes, labels))
        except StoreFullError as error:
            self.full = str(error)
            raise
        self.full = ""
        return self._taken(request, batch, fresh)

    def _read(self, request: pb.SubmitOutcomesRequest) -> _Batch:
        batch = _Batch()
        now = self._clock()
        told: dict[str, Fleet] = {}
        for number, record in enumerate(request.records):
            if number >= MOST_RECORDS:
                batch.refuse(f"a batch holds at most {MOST_RECORDS} records")
                continue
            try:
                self._read_record(record, request.router, now, told, batch)
            except RecordError as error:
                batch.refuse(str(error))
        batch.fleets = list(told.values())
        return batch

    def _read_record(self, record: pb.Record, router: str, now: float, told: dict[str, Fleet], batch: _Batch) -> None:
        kind = record.WhichOneof("kind")
        if kind == "outcome":
            row = read_outcome(
                record.outcome, router, now, lambda policy: told.get(policy) or self._store.fleet(policy)
            )
            if not self._keeps_prompts(row["policy"]):
                row["prompt"] = None
            batch.rows.setdefault(row["policy"], []).append(row)
        elif kind == "label":
            policy, name, quality = read_label(record.label)
            batch.labels.setdefault(policy, []).append((name, quality))
        elif kind == "fleet":
            fleet = read_fleet(record.fleet, now)
            told[fleet.policy] = fleet
        else:
            raise RecordError("a record is neither outcome nor label nor fleet; it may be of a newer router")

    def _taken(self, request: pb.SubmitOutcomesRequest, batch: _Batch, fresh: tuple[Rows, ...]) -> Taken:
        outcomes = sum(map(len, batch.rows.values()))
        labels = sum(map(len, batch.labels.values()))
        stored = sum(rows.table.num_rows for rows in fresh)
        retimed = sum(int(rows.table.column("retimed").to_numpy().sum()) for rows in fresh)
        response = pb.SubmitOutcomesResponse(
            sequence=request.sequence,
            stored=stored + labels + len(batch.fleets),
            duplicates=outcomes - stored,
            refused=batch.refused,
            problem=batch.problem,
        )
        with self._lock:
            self.counted.update(
                stored=stored, duplicate=outcomes - stored, refused=batch.refused, label=labels, retimed=retimed
            )
        return Taken(response, fresh, retimed)
