"""Outcomes for tests."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pointsman_policy.experience.schema import LABELS, id_hashes, outcomes_table

POLICY = "edge/chat"
NOON = 1_790_000_000.0 // 86_400 * 86_400 + 43_200
DAY = 86_400.0


def some_outcomes(names: Sequence[str], at: float = NOON, **columns: Any) -> pa.Table:
    """Return a row for each name, a second apart."""
    count = len(names)
    defaults: dict[str, Any] = {
        "decided_at": at + np.arange(count),
        "arm": ["control"] * count,
        "expert": ["small"] * count,
        "model": ["tiny"] * count,
        "status": ["completed"] * count,
        "output_tokens": np.full(count, 11, np.int32),
        "ttft_seconds": np.full(count, 0.1, np.float32),
        "duration_seconds": np.full(count, 1.1, np.float32),
    }
    return outcomes_table({"id": list(names), **defaults, **columns})


def some_labels(qualities: dict[str, float], at: float = NOON) -> pa.Table:
    """Return a label for each id."""
    columns = [id_hashes(qualities), np.array(list(qualities.values()), np.float32), np.full(len(qualities), at)]
    return pa.Table.from_arrays([pa.array(one) for one in columns], schema=LABELS)
