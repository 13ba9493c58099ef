"""A training's outcomes as a file in its work folder: one that is interrupted goes on with the same ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pointsman_policy.documents import Document
from pointsman_policy.errors import DocumentError
from pointsman_policy.experience.dataset import Experience
from pointsman_policy.experience.fleet import Fleet

_HEADER = "experience"
_ENDS = ".ends"


class _Header(Document):
    policy: str
    names: dict[str, tuple[str, ...]]
    fleet: Fleet | None
    bytes_columns: tuple[str, ...] = Field(default=())


def write_snapshot(path: Path, experience: Experience) -> None:
    """Write an experience as one safetensors file, in one step.

    Columns of bytes become one array with their ends beside it; those of long texts are left out.

    Raises:
        OSError: If it cannot be written.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    packed: list[str] = []
    for name, values in experience.columns.items():
        if values.dtype != object:
            arrays[name] = np.ascontiguousarray(values)
        elif name == "state":
            contents = [value if isinstance(value, bytes) else b"" for value in values]
            arrays[name] = np.frombuffer(b"".join(contents), np.uint8)
            arrays[name + _ENDS] = np.cumsum([len(content) for content in contents], dtype=np.int64)
            packed.append(name)
    header = _Header(
        policy=experience.policy,
        names=dict(experience.names),
        fleet=experience.fleet,
        bytes_columns=tuple(packed),
    )
    unfinished = path.with_name(f".{path.name}")
    save_file(arrays, unfinished, {_HEADER: header.model_dump_json(by_alias=True)})
    unfinished.replace(path)


def read_snapshot(path: Path) -> Experience:
    """Read what `write_snapshot` wrote.

    Raises:
        DocumentError: If it cannot be read or is damaged.
    """
    try:
        with safe_open(path, "numpy") as file:
            header = _Header.model_validate(json.loads((file.metadata() or {})[_HEADER]))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        columns = {name: values for name, values in arrays.items() if not name.endswith(_ENDS)}
        for name in header.bytes_columns:
            columns[name] = _contents(arrays[name], arrays[name + _ENDS])
    except (OSError, SafetensorError, ValueError, KeyError, ValidationError) as error:
        raise DocumentError(str(path), f"cannot be read ({error}); remove the work folder and train anew") from error
    return Experience(header.policy, columns, header.names, header.fleet)


def _contents(values: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> npt.NDArray[np.object_]:
    starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    contents = np.full(len(ends), None, object)
    whole = values.tobytes()
    for row, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        contents[row] = whole[start:end]
    return contents
