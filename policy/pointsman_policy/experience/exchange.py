"""Outcomes as files of their own, Parquet or JSON lines: out of one store, into another, or to and from other tools."""

import base64
import itertools
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pointsman_policy.errors import DocumentError
from pointsman_policy.experience.labels import Labels, read_labels
from pointsman_policy.experience.location import labels_catalogue, outcomes_catalogue, read_location
from pointsman_policy.experience.pending import Rows
from pointsman_policy.experience.policy_key import check_policy_key
from pointsman_policy.experience.schema import ARMS, NAME_COLUMNS, OUTCOMES, STATUSES, outcomes_table
from pointsman_policy.experience.store import OutcomeStore

_ROWS_AT_ONCE: Final = 50_000
_ROWS_IN_JOURNAL: Final = 500_000
_BINARY: Final = tuple(field.name for field in OUTCOMES if field.type == pa.binary())
_EXPORTED: Final = tuple(name for name in OUTCOMES.names if name != "id_hash")
_SHARES: Final = ("quality", "propensity")


def export_outcomes(root: Path, policy: str, path: Path) -> tuple[int, list[str]]:
    """Write all outcomes of a policy that are in parts, with the labels that came for them.

    Args:
        root: Of a policy service, which may run meanwhile.
        policy: Its key.
        path: File to write, ".parquet" or ".jsonl".

    Returns:
        How many there are, and what is wrong with parts that are left out.

    Raises:
        DocumentError: If the key or the file's ending is none.
        OSError: If the store cannot be read, or the file not be written.
    """
    location = read_location(root)
    _check_ending(path)
    outcomes = outcomes_catalogue(location)
    problems = outcomes.find(check_policy_key(policy))
    labels = read_labels(labels_catalogue(location), policy, problems)
    count = 0
    with ExitStack() as stack:
        write = _writer(path, stack)
        for part, _ in outcomes.listed(policy):
            try:
                table = outcomes.read(part, OUTCOMES.names)
            except OSError as error:
                problems.append(str(error))
                continue
            write(_labelled(table, labels).select(_EXPORTED))
            count += table.num_rows
    return count, problems


def import_outcomes(store: OutcomeStore, policy: str, path: Path) -> tuple[int, int]:
    """Take outcomes from a file as `export_outcomes` writes them; those that are known already are left out.

    Args:
        store: Gets them.
        policy: Whose they become.
        path: File to read, ".parquet" or ".jsonl".

    Returns:
        How many are new, and how many the file has.

    Raises:
        DocumentError: If the file is none, or a row of it makes no sense; the rows before it are kept.
        StoreFullError: If the volume is full; the rows before are kept.
        OSError: If the file cannot be read.
    """
    new = total = waiting = 0
    for table in _reader(path):
        total += table.num_rows
        waiting += table.num_rows
        new += sum(rows.table.num_rows for rows in store.add([Rows(check_policy_key(policy), table)]))
        if waiting >= _ROWS_IN_JOURNAL:
            store.compact()
            waiting = 0
    store.compact()
    return new, total


def _labelled(table: pa.Table, labels: Labels) -> pa.Table:
    quality = np.asarray(table.column("quality").cast(pa.float32()).to_numpy(), np.float32)
    merged = labels.over(quality, np.asarray(table.column("id_hash").to_numpy(), np.uint64))
    column = pa.array(merged, pa.float32(), from_pandas=True)  # NaN is unknown, hence null
    return table.set_column(table.schema.get_field_index("quality"), OUTCOMES.field("quality"), column)


def _writer(path: Path, stack: ExitStack) -> Any:
    if path.suffix == ".jsonl":
        file = stack.enter_context(path.open("w", encoding="utf-8"))
        return lambda table: file.writelines(map(_line, table.to_pylist()))
    schema = pa.schema([OUTCOMES.field(name) for name in _EXPORTED])
    writer = stack.enter_context(
        pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=list(NAME_COLUMNS), write_page_checksum=True)
    )
    return writer.write_table


def _line(row: dict[str, Any]) -> str:
    for name in _BINARY:
        if row[name] is not None:
            row[name] = base64.b64encode(row[name]).decode()
    return json.dumps({name: value for name, value in row.items() if value is not None}) + "\n"


def _reader(path: Path) -> Iterator[pa.Table]:
    _check_ending(path)
    return _read_lines(path) if path.suffix == ".jsonl" else _read_parquet(path)


def _read_parquet(path: Path) -> Iterator[pa.Table]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            known = [name for name in file.schema_arrow.names if name in _EXPORTED]
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=known):
                yield _checked({name: batch.column(name) for name in known}, str(path))
    except pa.ArrowException as error:
        raise DocumentError(str(path), f"is no Parquet file of outcomes ({error}); export it again") from error


def _read_lines(path: Path) -> Iterator[pa.Table]:
    with path.open(encoding="utf-8") as file:
        lines = enumerate(file, start=1)
        while some := list(itertools.islice(lines, _ROWS_AT_ONCE)):
            rows = [_row(line, f"{path} line {number}") for number, line in some if line.strip()]
            names = set().union(*rows)
            yield _checked({name: [row.get(name, _absent(name)) for row in rows] for name in names}, str(path))


def _row(line: str, source: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        for name in _BINARY:
            if row.get(name) is not None:
                row[name] = base64.b64decode(row[name], validate=True)
    except (ValueError, AttributeError, TypeError) as error:
        raise DocumentError(source, f"is no outcome ({error}); write one JSON object a line") from error
    unknown = sorted(set(row) - set(_EXPORTED))
    if unknown:
        raise DocumentError(source, f"{unknown[0]}: outcomes have no such column; remove it")
    return dict(row)


def _absent(name: str) -> Any:
    field = OUTCOMES.field(name)
    return None if field.nullable else {pa.string(): "", pa.bool_(): False}.get(field.type, 0)


def _checked(columns: dict[str, Any], source: str) -> pa.Table:
    missing = sorted({"id", "decided_at", "arm", "status"} - columns.keys())
    if missing:
        raise DocumentError(source, f"lacks the column {missing[0]}; export it again")
    try:
        table = outcomes_table({**columns, "id": _as_list(columns["id"])})
        table.validate(full=True)
    except (pa.ArrowException, ValueError, TypeError, AttributeError) as error:
        raise DocumentError(source, f"holds a value of a wrong type ({error}); mend that row") from error
    for name, known in (("arm", ARMS), ("status", STATUSES)):
        wrong = sorted(set(table.column(name).to_pylist()) - set(known))
        if wrong:
            raise DocumentError(source, f"{name}: {wrong[0][:40]!r} is none of {', '.join(known)}")
    for name in _SHARES:
        values = np.asarray(table.column(name).cast(pa.float32()).to_numpy())
        if ((values < 0.0) | (values > 1.0)).any():
            raise DocumentError(source, f"{name}: must be between 0 and 1")
    if not np.isfinite(table.column("decided_at").to_numpy()).all():
        raise DocumentError(source, "decided_at: must be a finite number of Unix seconds")
    return table


def _as_list(values: Any) -> list[str]:
    return list(values) if isinstance(values, list) else list(values.to_pylist())


def _check_ending(path: Path) -> None:
    if path.suffix not in (".parquet", ".jsonl"):
        raise DocumentError(str(path), "must end in .parquet or .jsonl, which says how it is written")
