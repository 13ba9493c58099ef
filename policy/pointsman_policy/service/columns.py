"""Outcomes as plain columns, whether they have just come or rest in the store."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pointsman_policy.experience.dataset import Experience
from pointsman_policy.experience.schema import NAME_COLUMNS, OPTIONAL_NUMBERS

Columns = Mapping[str, npt.NDArray[Any]]
"""By name, [rows]: texts as such, "" = none; numbers that are not known are NaN."""


def columns_of(table: pa.Table, names: Iterable[str]) -> Columns:
    """Return columns of new outcomes."""
    result: dict[str, npt.NDArray[Any]] = {}
    for name in names:
        column = table.column(name)
        if name in OPTIONAL_NUMBERS:
            column = column.cast(pa.float32())
        values = np.asarray(column.to_numpy())
        result[name] = np.where(values == None, "", values) if name in NAME_COLUMNS else values  # noqa: E711
    return result


def columns_from(experience: Experience, names: Iterable[str]) -> Columns:
    """Return columns of stored outcomes."""
    return {name: experience.text(name) if name in NAME_COLUMNS else experience[name] for name in names}
