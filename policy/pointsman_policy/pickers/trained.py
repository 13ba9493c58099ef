"""Exported policies as pickers, and pickers as policies to be exported."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pointsman_policy.errors import DocumentError
from pointsman_policy.pickers import han_actor, impact_greedy
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.runtime.exported import MANIFEST, ExportedPolicy, Rows, read_exported_policy
from pointsman_policy.runtime.packing import pack_network
from pointsman_policy.runtime.size import NetworkSize

TRAINABLE = {module.PICKER.name: module for module in (impact_greedy, han_actor)}
"""Modules of the pickers that can be exported."""

_ABOVE_ZERO = ("pessimism", "spread")


def load_picker(folder: Path) -> Picker:
    """Return the picker that a folder holds, its parameters replaced by those of the folder.

    Args:
        folder: As written by `pointsman_policy.runtime.exported.write_exported_policy`.

    Raises:
        DocumentError: If the folder is unusable; the message says why and what to do.
    """
    return as_picker(read_exported_policy(folder), str(folder / MANIFEST))


def as_picker(policy: ExportedPolicy, source: str = "policy") -> Picker:
    """Return an exported policy as a picker.

    Args:
        policy: What was trained.
        source: Where it comes from, for errors.

    Raises:
        DocumentError: If there is no such picker here, or it takes other parameters.
    """
    if policy.picker not in TRAINABLE:
        known = ", ".join(sorted(TRAINABLE))
        raise DocumentError(source, f"picker: no trainable picker is named {policy.picker!r}; there are {known}")
    module = TRAINABLE[policy.picker]
    if policy.must_serve:
        _check_columns(source, policy, module.COLUMNS)
    tables = np.array([policy.must_serve, policy.may_drop], np.float64).ravel()
    if module is impact_greedy:
        if not policy.must_serve or policy.size is not None:
            raise DocumentError(source, f"{policy.picker} takes tables and no network")
        parameters: Sequence[float] = tables.tolist()
    else:
        if policy.size is None:
            raise DocumentError(source, f"{policy.picker} needs a network, and there is none")
        alone = 0.0 if policy.must_serve else 1.0
        parameters = [alone, float(tables.size), *tables.tolist(), *pack_network(policy.weights, policy.size).tolist()]
    picker: Picker = module.PICKER
    return dataclasses.replace(picker, parameters=tuple(parameters), version=policy.version)


def tables_of(parameters: Sequence[float], width: int) -> tuple[Rows, Rows]:
    """Return flat tables, must-serve first, as rows."""
    rows = tuple(tuple(parameters[start : start + width]) for start in range(0, len(parameters), width))
    return rows[: len(rows) // 2], rows[len(rows) // 2 :]


def impact_greedy_policy(
    picker: Picker, training: Mapping[str, str] | None = None, scores: Mapping[str, float] | None = None
) -> ExportedPolicy:
    """Return an ImpactGreedy as a policy to be exported."""
    must_serve, may_drop = tables_of(picker.parameters, len(impact_greedy.COLUMNS))
    return ExportedPolicy(
        picker=picker.name,
        columns=impact_greedy.COLUMNS,
        must_serve=must_serve,
        may_drop=may_drop,
        training=training or {},
        scores=scores or {},
    )


def han_actor_policy(
    picker: Picker,
    size: NetworkSize,
    weights: Mapping[str, npt.NDArray[np.float32]],
    training: Mapping[str, str] | None = None,
    scores: Mapping[str, float] | None = None,
) -> ExportedPolicy:
    """Return a HanActor as a policy to be exported.

    Args:
        picker: With or without tables.
        size: Of its network.
        weights: Of its network, by name.
        training: For people.
        scores: For people.
    """
    end = 2 + int(picker.parameters[1])
    must_serve, may_drop = tables_of(picker.parameters[2:end], len(han_actor.COLUMNS))
    return ExportedPolicy(
        picker=picker.name,
        columns=han_actor.COLUMNS if must_serve else (),
        must_serve=must_serve,
        may_drop=may_drop,
        size=size,
        weights=weights,
        training=training or {},
        scores=scores or {},
    )


def _check_columns(source: str, policy: ExportedPolicy, columns: tuple[str, ...]) -> None:
    if policy.columns != columns:
        raise DocumentError(
            source,
            f"columns: {policy.picker} takes {', '.join(columns)} here, the export has {', '.join(policy.columns)}; "
            "train it with this version of Pointsman",
        )
    for name in _ABOVE_ZERO:
        place = columns.index(name)
        if min(row[place] for row in (*policy.must_serve, *policy.may_drop)) <= 0:
            raise DocumentError(source, f"{name} must be above 0 in every row")
