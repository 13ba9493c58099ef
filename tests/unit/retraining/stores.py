"""A policy service's folder with simulated outcomes in it."""

from pathlib import Path
from typing import Any

import numpy as np

from pointsman_policy.experience.dataset import Experience
from pointsman_policy.experience.location import StoreLocation
from pointsman_policy.experience.pending import Rows
from pointsman_policy.experience.retention import Retention
from pointsman_policy.experience.schema import NAME_COLUMNS, OPTIONAL_NUMBERS, outcomes_table
from pointsman_policy.experience.store import OutcomeStore

POLICY = "edge/chat"
_SHADOW = ("shadow_version", "shadow_expert")


def store_experience(root: Path, experience: Experience) -> None:
    """Put outcomes and their fleet where a training finds them."""
    count = len(experience)
    columns: dict[str, Any] = {"id": [f"decision-{row}" for row in range(count)]}
    for name, values in experience.columns.items():
        if name in NAME_COLUMNS:
            if name not in _SHADOW:
                columns[name] = list(experience.text(name))
        elif name == "state":
            columns[name] = list(values)
        elif name in OPTIONAL_NUMBERS:
            columns[name] = [None if np.isnan(value) else float(value) for value in values]
        elif name != "id_hash":
            columns[name] = values
    columns["output_tokens"] = [None if np.isnan(one) else int(one) for one in experience["output_tokens"]]
    assert experience.fleet is not None
    end = float(experience["decided_at"][-1]) + 60.0
    store = OutcomeStore(StoreLocation(root), Retention(), lambda: end)
    store.add([Rows(POLICY, outcomes_table(columns))])
    store.tell_fleet(experience.fleet.model_copy(update={"policy": POLICY}))
    store.compact()
    store.close()
