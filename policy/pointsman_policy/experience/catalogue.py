"""The parts of one table that there are, with what is told of each: found at the start, changed with every write."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from pointsman_policy.experience.parts import Part, PartFolder, day_of

_LOGGER = logging.getLogger(__name__)

_DAY_SECONDS: Final = 86_400.0
_SMALL_BYTES: Final = 32 << 20
_LARGEST_MERGE_BYTES: Final = 128 << 20
_MOST_SMALL_PARTS: Final = 8
_FEW_ROWS: Final = 5_000


@dataclass(frozen=True, slots=True)
class Summary:
    """What is told of a part."""

    rows: int
    first_at: float
    last_at: float
    arms: tuple[tuple[str, str, int], ...] = ()
    """Version, arm, rows."""


class Catalogue:
    """The parts of one table.

    Not safe for use from several threads at once; its owner sees to that.

    Args:
        folder: Where they are.
        schema: Of their rows.
        time_column: When each row was, Unix seconds.
        names: Columns with few different values.
    """

    def __init__(self, folder: PartFolder, schema: pa.Schema, time_column: str, names: Sequence[str]) -> None:
        self.folder = folder
        self.schema = schema
        self._time_column = time_column
        self._names = names
        self._parts: dict[Part, Summary] = {}

    def listed(self, policy: str = "") -> list[tuple[Part, Summary]]:
        """Return the parts of a policy, or of all, oldest day first."""
        kept = (item for item in list(self._parts.items()) if policy in ("", item[0].policy))
        return sorted(kept, key=lambda item: (item[0].day, item[0].path))

    @property
    def size(self) -> int:
        """All parts together, bytes."""
        return sum(part.size for part in list(self._parts))

    def find(self, policy: str = "") -> list[str]:
        """Find the parts that there are, changing nothing, and return what is wrong with those that cannot be used.

        Args:
            policy: Whose; empty = all.

        Raises:
            OSError: If the place cannot be read at all.
        """
        damaged, _ = self._find(policy)
        return list(damaged.values())

    def scan(self) -> list[str]:
        """Find all parts, and return what is wrong with those that cannot be used, which are set aside.

        What a crash left is tidied up: parts that are unfinished, and those that another one holds already.

        Raises:
            OSError: If the place cannot be read at all.
        """
        self.folder.remove_unfinished()
        damaged, replaced = self._find()
        self.delete(replaced)
        return [self.set_aside(part, problem) for part, problem in damaged.items()]

    def _find(self, policy: str = "") -> tuple[dict[Part, str], list[Part]]:
        found: dict[Part, Summary] = {}
        damaged: dict[Part, str] = {}
        replaced: set[str] = set()
        for part in self.folder.parts(policy):
            try:
                told = self.folder.summary(part)
                found[part] = _from_json(told)
                replaced.update(map(str, told["replaces"]))
            except FileNotFoundError:
                continue
            except (OSError, KeyError, TypeError, ValueError) as error:
                damaged[part] = str(error)
        self._parts = {part: summary for part, summary in found.items() if part.name not in replaced}
        return damaged, [part for part in found if part.name in replaced]

    def set_aside(self, part: Part, problem: str) -> str:
        """Take a damaged part out of use and return what to say of it."""
        self._parts.pop(part, None)
        try:
            self.folder.set_aside(part)
        except OSError as error:
            return f"{problem}; it cannot be set aside ({error})"
        return f"{problem}; it was set aside"

    def write(self, policy: str, table: pa.Table) -> list[Part]:
        """Write rows, a part for each of their days.

        Raises:
            OSError: If that fails; none of them is there then.
        """
        days = table.column(self._time_column).to_numpy() // _DAY_SECONDS
        made: list[Part] = []
        try:
            for day in np.unique(days):
                rows = table.filter(pa.array(days == day))
                made.append(self._write(policy, day_of(float(day) * _DAY_SECONDS), rows))
        except OSError:
            self.delete(made)
            raise
        return made

    def merge(self, policy: str) -> Part | None:
        """Make one part of the small ones of a day, if any day has many.

        Returns:
            The new part; None = no day has.

        Raises:
            OSError: If one of them cannot be read, or the new one not be written.
        """
        small: dict[str, list[Part]] = {}
        for part, _ in self.listed(policy):
            if part.size < _SMALL_BYTES:
                small.setdefault(part.day, []).append(part)
        for day, parts in small.items():
            if len(parts) > _MOST_SMALL_PARTS:
                return self._merge(policy, day, _first_bytes(parts, _LARGEST_MERGE_BYTES))
        return None

    def delete(self, parts: Iterable[Part]) -> None:
        """Delete parts.

        Raises:
            OSError: If one cannot be deleted.
        """
        for part in parts:
            self.folder.delete(part)
            self._parts.pop(part, None)

    def read(self, part: Part, columns: Sequence[str], names: Sequence[str] = ()) -> pa.Table:
        """Read columns of a part, those of `names` as dictionaries.

        Raises:
            OSError: If it cannot be read or is damaged.
        """
        return self.folder.read(part, columns, names)

    def _merge(self, policy: str, day: str, parts: Sequence[Part]) -> Part:
        table = pa.concat_tables(self._read_or_set_aside(part) for part in parts)
        made = self._write(policy, day, table, parts)
        self.delete(one for one in parts if one in self._parts)
        return made

    def _read_or_set_aside(self, part: Part) -> pa.Table:
        try:
            return self.folder.read(part, self.schema.names)
        except OSError as error:
            _LOGGER.error("%s", self.set_aside(part, str(error)))
            return self.schema.empty_table()

    def _write(self, policy: str, day: str, table: pa.Table, replaces: Sequence[Part] = ()) -> Part:
        summary = summarise(table, self._time_column)
        told = _as_json(summary)
        part = self.folder.write(policy, day, table, summary=told, names=self._names, replaces=replaces)
        self._parts[part] = summary
        return part


def _first_bytes(parts: Sequence[Part], most: int) -> list[Part]:
    """Return the first parts that are no larger together; at least two."""
    sizes = np.cumsum([part.size for part in parts])
    return list(parts[: max(2, int(np.searchsorted(sizes, most, side="right")))])


def summarise(table: pa.Table, time_column: str) -> Summary:
    """Return what is told of a part with these rows."""
    times = table.column(time_column).to_numpy()
    first, last = (float(times.min()), float(times.max())) if len(times) else (0.0, 0.0)
    return Summary(table.num_rows, first, last, _count_arms(table) if "arm" in table.column_names else ())


def _count_arms(table: pa.Table) -> tuple[tuple[str, str, int], ...]:
    if table.num_rows <= _FEW_ROWS:  # where a query engine takes longer to start than Python takes to count
        counted = Counter(zip(table.column("version").to_pylist(), table.column("arm").to_pylist(), strict=True))
        return tuple(sorted((version, arm, rows) for (version, arm), rows in counted.items()))
    groups = table.group_by(["version", "arm"]).aggregate([([], "count_all")]).to_pylist()
    return tuple(sorted((one["version"], one["arm"], one["count_all"]) for one in groups))


def _as_json(summary: Summary) -> dict[str, Any]:
    return {"firstAt": summary.first_at, "lastAt": summary.last_at, "arms": summary.arms}


def _from_json(told: dict[str, Any]) -> Summary:
    arms = tuple((str(version), str(arm), int(rows)) for version, arm, rows in told["arms"])
    return Summary(int(told["rows"]), float(told["firstAt"]), float(told["lastAt"]), arms)
