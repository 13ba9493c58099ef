"""The tables of experience: columns, types, and what a batch of rows must be to be stored.

An outcome is one row. Rows travel and rest as Arrow tables: in the journal as record batches, then as Parquet parts.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

SCHEMA_VERSION: Final = 1

STATUSES: Final = ("completed", "cancelled", "failed", "dropped", "expired")
ARMS: Final = ("control", "canary")

NAME_COLUMNS: Final = (
    "router",
    "version",
    "arm",
    "picker",
    "expert",
    "model",
    "gpu",
    "status",
    "experts",
    "shadow_version",
    "shadow_expert",
)
"""Texts of which there are few different ones."""

OPTIONAL_NUMBERS: Final = (
    "output_tokens",
    "ttft_seconds",
    "duration_seconds",
    "quality",
    "predicted_quality",
    "predicted_output_tokens",
    "predicted_ttft_seconds",
    "predicted_tpot_seconds",
    "predicted_ntpot_seconds",
    "slo_probability",
    "shadow_gain",
)
"""Numbers that may be unknown: null at rest, NaN in memory."""

BULKY_COLUMNS: Final = ("id", "state", "prompt_features", "prompt")
"""Left out when a table is read, unless they are asked for."""

_FLOAT, _TEXT, _BYTES = pa.float32(), pa.string(), pa.binary()

OUTCOMES: Final = pa.schema(
    [
        pa.field("id", _TEXT, nullable=False),
        pa.field("id_hash", pa.uint64(), nullable=False),
        pa.field("decided_at", pa.float64(), nullable=False),
        # True where the router's clock was wrong, and `decided_at` is the time of arrival.
        pa.field("retimed", pa.bool_(), nullable=False),
        *(
            pa.field(name, _TEXT, nullable=False)
            for name in ("router", "version", "arm", "picker", "expert", "model", "gpu", "status")
        ),
        pa.field("prompt_tokens", pa.int32(), nullable=False),
        pa.field("output_tokens", pa.int32()),
        pa.field("ttft_seconds", _FLOAT),
        pa.field("duration_seconds", _FLOAT),
        pa.field("quality", _FLOAT),
        pa.field("predicted_quality", _FLOAT),
        pa.field("predicted_output_tokens", _FLOAT),
        pa.field("predicted_ttft_seconds", _FLOAT),
        pa.field("predicted_tpot_seconds", _FLOAT),
        pa.field("predicted_ntpot_seconds", _FLOAT),
        pa.field("slo_probability", _FLOAT),
        pa.field("ttft_objective_seconds", _FLOAT, nullable=False),
        pa.field("tpot_objective_seconds", _FLOAT, nullable=False),
        pa.field("ntpot_objective_seconds", _FLOAT, nullable=False),
        pa.field("may_drop", pa.bool_(), nullable=False),
        pa.field("load_ratio", _FLOAT, nullable=False),
        pa.field("propensity", _FLOAT, nullable=False),
        pa.field("explored", pa.bool_(), nullable=False),
        pa.field("state", _BYTES),
        pa.field("experts", _TEXT, nullable=False),
        pa.field("prompt_features", _BYTES),
        pa.field("prompt", _TEXT),
        pa.field("shadow_version", _TEXT),
        pa.field("shadow_expert", _TEXT),
        pa.field("shadow_gain", _FLOAT),
    ]
)
"""One row per outcome, all of one policy."""

LABELS: Final = pa.schema(
    [
        pa.field("id_hash", pa.uint64(), nullable=False),
        pa.field("quality", _FLOAT, nullable=False),
        # When it arrived; of two labels for one outcome the later one holds.
        pa.field("labelled_at", pa.float64(), nullable=False),
    ]
)
"""Qualities that were reported after their outcomes."""


def id_hashes(ids: Iterable[str]) -> npt.NDArray[np.uint64]:
    """Return the 64-bit hash of each decision's id, [rows].

    Among ten million ids, the chance that any two share their hash is below one in a hundred thousand.
    """
    digests = b"".join(hashlib.blake2b(one.encode(), digest_size=8).digest() for one in ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64, copy=False)


def outcomes_table(columns: Mapping[str, Any]) -> pa.Table:
    """Return rows of the schema OUTCOMES.

    Args:
        columns: By name, each a sequence of [rows]; "id" and "decided_at" at least. Columns that are left out are
            null where they may be, else 0, False or "".

    Raises:
        ValueError: If a column is unknown, or its values are not of its type.
    """
    unknown = sorted(columns.keys() - set(OUTCOMES.names))
    if unknown:
        raise ValueError(f"outcomes have no column {unknown[0]!r}")
    given = {**columns, "id_hash": id_hashes(columns["id"])}
    count = len(given["id_hash"])
    arrays = [
        pa.array(given[field.name], field.type) if field.name in given else _default(field, count) for field in OUTCOMES
    ]
    return pa.Table.from_arrays(arrays, schema=OUTCOMES)


def _default(field: pa.Field, count: int) -> pa.Array:
    if field.nullable:
        return pa.nulls(count, field.type)
    empty = {pa.string(): "", pa.bool_(): False}.get(field.type, 0)
    return pa.repeat(pa.scalar(empty, field.type), count)
