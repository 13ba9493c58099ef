"""Columns of parquet, CSV and JSONL files, checked; the file's ending tells which it is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from pointsman_policy.errors import DocumentError

_TEXT_COLUMNS = ("prompt_id", "model", "prompt", "question")
_LARGEST_BLOCK = 2**31 - 1


def read_columns(path: Path, required: Sequence[str | tuple[str, ...]], optional: Sequence[str] = ()) -> pa.Table:
    """Return the named columns of a file; other columns are left out.

    Args:
        path: A file that ends in .parquet, .csv, .jsonl or .ndjson.
        required: Names; of a tuple's names the first is the column's name here, any of them its name in the file.
        optional: Names of columns that may be absent.

    Raises:
        DocumentError: If the file is unusable, empty or lacks a required column.
    """
    source = str(path)
    table = _read(path)
    chosen = {}
    for names in required:
        accepted = (names,) if isinstance(names, str) else names
        present = [name for name in accepted if name in table.column_names]
        if not present:
            found = ", ".join(table.column_names)[:200]
            raise DocumentError(source, f"lacks the column {accepted[0]!r} (found {found or 'no column'})")
        if table.column_names.count(present[0]) > 1:
            raise DocumentError(source, f"names the column {present[0]!r} twice; each column needs its own name")
        chosen[accepted[0]] = table.column(present[0])
    for name in optional:
        if name in table.column_names:
            chosen[name] = table.column(name)
    if table.num_rows == 0:
        raise DocumentError(source, "has no rows; it must hold at least one")
    return pa.table(chosen)


def text_column(source: str, table: pa.Table, name: str) -> pa.Array:
    """Return a column as text; whole numbers are written out. Raises: DocumentError on other types and on gaps."""
    column = table.column(name).combine_chunks()
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
        raise DocumentError(source, f"column {name!r} must be text, not {kind}")
    text = column.cast(pa.large_string())
    missing = first_row(pc.or_kleene(pc.is_null(text), pc.equal(text, "")).fill_null(True).to_numpy(False))
    if missing is not None:
        raise DocumentError(source, f"row {missing + 1}: {name} is missing; every row needs one")
    return text


def number_column(
    source: str, table: pa.Table, name: str, minimum: float, maximum: float, advice: str
) -> npt.NDArray[np.float64]:
    """Return a column as numbers within bounds, NaN where missing. Raises: DocumentError."""
    column = table.column(name).combine_chunks()
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
        raise DocumentError(source, f"column {name!r} must be numbers, not {kind}{_first_text(column)}")
    values: npt.NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(False)
    wrong = first_row((values < minimum) | (values > maximum))
    if wrong is not None:
        raise DocumentError(
            source, f"row {wrong + 1}: {name} is {values[wrong]:.15g}, not from {minimum:g} to {maximum:.15g}; {advice}"
        )
    return values


def first_row(mask: npt.NDArray[np.bool_]) -> int | None:
    """Return the first row where a mask holds, if any."""
    return int(np.argmax(mask)) if mask.any() else None


def _first_text(column: pa.Array) -> str:
    """Tell which row of a text column made it one."""
    if not pa.types.is_string(column.type):
        return ""
    for row, value in enumerate(column.to_pylist()):
        try:
            float(value or "nan")
        except ValueError:
            return f" (row {row + 1} is {value[:40]!r})"
    return ""


def _read(path: Path) -> pa.Table:
    source = str(path)
    try:
        size = path.stat().st_size
        match path.suffix.lower():
            case ".parquet":
                return pa.parquet.read_table(path)
            case ".csv":
                return pa.csv.read_csv(
                    path,
                    read_options=pa.csv.ReadOptions(block_size=min(max(size, 1), _LARGEST_BLOCK)),
                    parse_options=pa.csv.ParseOptions(newlines_in_values=True),
                    convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(_TEXT_COLUMNS, pa.string())),
                )
            case ".jsonl" | ".ndjson":
                options = pa.json.ReadOptions(block_size=min(max(size, 1), _LARGEST_BLOCK))
                return pa.json.read_json(path, read_options=options)
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())[:160]
        raise DocumentError(
            source, f"cannot be parsed as {path.suffix.lower()} ({reason}); check its content and its name's ending"
        ) from error
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())[:160]
        raise DocumentError(source, f"cannot be read ({reason}); check the path and the file") from error
    raise DocumentError(source, "must end in .parquet, .csv or .jsonl")
