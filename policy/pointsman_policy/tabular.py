"""Strict CSV files: every mistake is reported with its line and column and what was expected there."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pointsman_policy.errors import DocumentError


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a CSV file below its header."""

    source: str
    line: int
    """Counted from 1, the header included."""
    cells: Mapping[str, str]
    """Column name to text, without surrounding blanks."""

    def text(self, column: str) -> str:
        """Return a cell that must not be empty. Raises: DocumentError."""
        value = self.cells[column]
        if not value:
            raise self.error(column, "is empty; give a value")
        return value

    def number(self, column: str, minimum: float = -math.inf, maximum: float = math.inf) -> float:
        """Return a cell as a finite number within bounds, both inclusive. Raises: DocumentError."""
        text = self.text(column)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(column, f"must be a finite number (got {text[:40]!r})")
        if not minimum <= value <= maximum:
            bounds = f"at least {minimum:.15g}" if maximum == math.inf else f"from {minimum:.15g} to {maximum:.15g}"
            raise self.error(column, f"must be {bounds} (got {text[:40]!r})")
        return value

    def integer(self, column: str, minimum: int, maximum: int = 1_000_000_000) -> int:
        """Return a cell as a whole number within bounds, both inclusive. Raises: DocumentError."""
        value = self.number(column, minimum, maximum)
        if value != int(value):
            raise self.error(column, f"must be a whole number (got {self.cells[column][:40]!r})")
        return int(value)

    def error(self, column: str, problem: str) -> DocumentError:
        """Return the error that names this line and a column."""
        return DocumentError(self.source, f"line {self.line}, column {column}: {problem}")


def read_rows(path: Path, required: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a CSV file with a header; blank lines are skipped, other columns are kept.

    Raises:
        DocumentError: If it cannot be read, is not UTF-8 or CSV, lacks a required column, or a row has gaps.
    """
    source = str(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            _check_header(source, header, required)
            for cells in reader:
                if not any(cells):
                    continue
                if len(cells) != len(header):
                    raise DocumentError(
                        source, f"line {reader.line_num}: has {len(cells)} cells where the header names {len(header)}"
                    )
                yield Row(source, reader.line_num, dict(zip(header, map(str.strip, cells), strict=True)))
    except OSError as error:
        raise DocumentError(source, f"cannot be read ({error.strerror}); check the path and its permissions") from error
    except UnicodeDecodeError as error:
        raise DocumentError(source, f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except csv.Error as error:
        raise DocumentError(source, f"line {reader.line_num}: is not valid CSV ({error})") from error


def _check_header(source: str, header: Sequence[str], required: Sequence[str]) -> None:
    if not header:
        raise DocumentError(source, f"is empty; its first line must name the columns {', '.join(required)}")
    missing = [name for name in required if name not in header]
    if missing:
        shown = ", ".join(header)[:200]
        raise DocumentError(source, f"line 1: lacks the column(s) {', '.join(missing)} (found {shown})")
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise DocumentError(source, f"line 1: names the column {repeated[0]!r} twice; each column needs its own name")
