"""Experience in memory: the newest outcomes of a policy as arrays, for calibration, training and the gate."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pointsman_policy.experience.catalogue import Catalogue
from pointsman_policy.experience.fleet import Fleet, read_fleet
from pointsman_policy.experience.labels import Labels, read_labels
from pointsman_policy.experience.location import labels_catalogue, outcomes_catalogue, read_location
from pointsman_policy.experience.parts import Part
from pointsman_policy.experience.schema import BULKY_COLUMNS, NAME_COLUMNS, OPTIONAL_NUMBERS, OUTCOMES

_LOGGER = logging.getLogger(__name__)

DEFAULT_COLUMNS: Final = tuple(name for name in OUTCOMES.names if name not in BULKY_COLUMNS)
LARGEST_TRAINING_SET: Final = 1_000_000
_ATTEMPTS: Final = 5


@dataclass(frozen=True)
class Experience:
    """Outcomes of one policy, oldest first."""

    policy: str
    columns: Mapping[str, npt.NDArray[Any]]
    """By name, [rows]. Numbers that are not known are NaN; texts of which there are few are codes (int32, -1 = none)
    of `names`; bytes and long texts are objects, None = none."""
    names: Mapping[str, tuple[str, ...]]
    """What the codes of a column stand for."""
    fleet: Fleet | None
    """What the policy's experts are; None = routers never told."""
    problems: tuple[str, ...] = ()
    """Parts that are damaged, which were left out."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def __getitem__(self, column: str) -> npt.NDArray[Any]:
        return self.columns[column]

    def text(self, column: str) -> npt.NDArray[np.object_]:
        """Return the texts of a column of codes, [rows]; "" = none."""
        texts: npt.NDArray[np.object_] = np.array([*self.names[column], ""], object)
        chosen: npt.NDArray[np.object_] = texts[self.columns[column]]
        return chosen

    def code(self, column: str, text: str) -> int:
        """Return the code of a text; -2 = no row has it."""
        names = self.names[column]
        return names.index(text) if text in names else -2

    def rows(self, which: npt.NDArray[Any]) -> "Experience":
        """Return some of the rows.

        Args:
            which: A mask, or indices.
        """
        columns = {name: values[which] for name, values in self.columns.items()}
        return Experience(self.policy, columns, self.names, self.fleet, self.problems)


def load(
    root: Path,
    policy: str,
    *,
    since: float = 0.0,
    limit: int = LARGEST_TRAINING_SET,
    columns: Sequence[str] = DEFAULT_COLUMNS,
) -> Experience:
    """Read the newest outcomes of a policy, with the labels that came for them.

    What the policy service has not moved into parts yet is not seen; it does so before it starts a training.

    Args:
        root: Of the policy service, or of a copy of its volume.
        policy: Its key.
        since: Outcomes decided before are left out, Unix seconds.
        limit: At most so many rows: it bounds the memory that is needed.
        columns: Of OUTCOMES; `decided_at` is always there.

    Raises:
        DocumentError: If the key, or what the root says of its store, is wrong.
        OSError: If the store cannot be read.
    """
    location = read_location(root)
    wanted = list(dict.fromkeys(("decided_at", "id_hash", *columns)))
    for _ in range(_ATTEMPTS):
        outcomes = outcomes_catalogue(location)
        problems = outcomes.find(policy)
        try:
            first = _first_time(outcomes, policy, since, limit)
            table = _read(outcomes, policy, first, wanted, problems)
            break
        except FileNotFoundError:  # the service merges or deletes parts just now
            _LOGGER.info("%s: its parts changed while they were read; reading again", policy)
    else:
        raise OSError(f"the outcomes of {policy} change faster than they can be read; try again")
    labels = read_labels(labels_catalogue(location), policy, problems) if "quality" in columns else None
    return _experience(policy, table, columns, limit, labels, read_fleet(root, policy), problems)


def _first_time(outcomes: Catalogue, policy: str, since: float, limit: int) -> float:
    """Return the time of the oldest row to read."""
    needed: list[Part] = []
    rows, oldest = 0, float("inf")
    for part, summary in sorted(outcomes.listed(policy), key=lambda item: -item[1].last_at):
        # Once there are enough rows, only parts that reach into their time can hold newer ones.
        if summary.last_at < since or (rows >= limit and summary.last_at < oldest):
            break
        needed.append(part)
        rows, oldest = rows + summary.rows, min(oldest, summary.first_at)
    if rows <= limit:
        return since
    times = np.concatenate([_times(outcomes, part) for part in needed])
    if len(times) <= limit:
        return since
    return max(since, float(np.partition(times, -limit)[-limit]))


def _times(outcomes: Catalogue, part: Part) -> npt.NDArray[np.float64]:
    try:
        return np.asarray(outcomes.read(part, ["decided_at"]).column(0).to_numpy(), np.float64)
    except FileNotFoundError:
        raise
    except OSError:  # reported when its rows are read
        return np.empty(0)


def _read(outcomes: Catalogue, policy: str, first: float, columns: Sequence[str], problems: list[str]) -> pa.Table:
    schema = pa.schema([_in_memory(OUTCOMES.field(name)) for name in columns])
    tables = [schema.empty_table()]
    for part, summary in outcomes.listed(policy):
        if summary.last_at < first:
            continue
        try:
            table = outcomes.read(part, columns, [name for name in columns if name in NAME_COLUMNS])
        except FileNotFoundError:
            raise
        except OSError as error:
            problems.append(str(error))
            continue
        if summary.first_at < first:
            table = table.filter(pa.array(table.column("decided_at").to_numpy() >= first))
        tables.append(table.cast(schema))
    return pa.concat_tables(tables).unify_dictionaries()


def _in_memory(field: pa.Field) -> pa.Field:
    return pa.field(field.name, pa.dictionary(pa.int32(), pa.string()) if field.name in NAME_COLUMNS else field.type)


def _experience(
    policy: str,
    table: pa.Table,
    columns: Sequence[str],
    limit: int,
    labels: Labels | None,
    fleet: Fleet | None,
    problems: Sequence[str],
) -> Experience:
    times = table.column("decided_at").to_numpy()
    order = np.argsort(times, kind="stable")[-limit:]
    arrays: dict[str, npt.NDArray[Any]] = {}
    names: dict[str, tuple[str, ...]] = {}
    hashes = table.column("id_hash").to_numpy()[order]
    for name in dict.fromkeys(("decided_at", *columns)):
        column = table.column(name).combine_chunks()
        table = table.drop_columns([name])  # so that its memory is free before the next one is made
        if name in NAME_COLUMNS:
            arrays[name], names[name] = _codes(column, order)
        else:
            arrays[name] = _values(name, column)[order]
    if labels is not None:
        arrays["quality"] = labels.over(arrays["quality"], hashes)
    return Experience(policy, arrays, names, fleet, tuple(problems))


def _codes(column: Any, order: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    (chunk,) = column.chunks if isinstance(column, pa.ChunkedArray) else (column,)
    codes = chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    return codes[order], tuple(chunk.dictionary.to_pylist())


def _values(name: str, column: Any) -> npt.NDArray[Any]:
    if name in OPTIONAL_NUMBERS:
        return np.asarray(column.cast(pa.float32()).to_numpy(zero_copy_only=False), np.float32)
    return np.asarray(column.to_numpy(zero_copy_only=False))
