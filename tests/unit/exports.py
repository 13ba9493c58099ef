"""Policies to be exported, for what reads or runs one."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pointsman_policy.pickers import han_actor, impact_greedy
from pointsman_policy.pickers.trained import impact_greedy_policy
from pointsman_policy.runtime.exported import ExportedPolicy
from pointsman_policy.runtime.size import NetworkSize, weight_shapes

SMALL = NetworkSize(channels=4, heads=2, hidden=8)

Weights: TypeAlias = dict[str, npt.NDArray[np.float32]]


def drawn_weights(size: NetworkSize = SMALL, seed: int = 0) -> Weights:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in weight_shapes(size).items()}


def greedy_export(price: float = 0.01) -> ExportedPolicy:
    """Return an ImpactGreedy of one row."""
    row = {**dict.fromkeys(impact_greedy.COLUMNS, 0.5), "price": price}
    rows = (tuple(row.values()),)
    training, scores = {"seed": "1"}, {"qos": 0.5}
    return ExportedPolicy("ImpactGreedy", impact_greedy.COLUMNS, rows, rows, training=training, scores=scores)


def han_export(trust: float = 0.5, size: NetworkSize = SMALL, seed: int = 0) -> ExportedPolicy:
    """Return a HanActor on ImpactGreedy's tables."""
    base = impact_greedy_policy(impact_greedy.PICKER)
    must_serve, may_drop = (tuple((*row, trust) for row in rows) for rows in (base.must_serve, base.may_drop))
    return ExportedPolicy("HanActor", han_actor.COLUMNS, must_serve, may_drop, size, drawn_weights(size, seed))
