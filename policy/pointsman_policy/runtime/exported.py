"""Exported policies: a trained picker as a folder (format: docs/exported-policies.md).

``manifest.json`` says which picker it is, holds its tables and tells where it comes from; ``weights.safetensors`` holds
a network's weights. Both are covered by one digest; nothing in them is code.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pointsman_policy.documents import Document, parse
from pointsman_policy.errors import DocumentError
from pointsman_policy.runtime.features import FEATURES, FEATURES_VERSION, feature_digest
from pointsman_policy.runtime.size import NetworkSize, weight_shapes

SCHEMA = 1
ARTEFACTS = Path(__file__).parents[1] / "artefacts"
"""Folders of the policies that come with this package."""

MANIFEST, WEIGHTS = "manifest.json", "weights.safetensors"
_KIND = "pointsman-policy"
_VERSION_LENGTH = 12

Rows = tuple[tuple[float, ...], ...]

_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Rows = Annotated[tuple[tuple[_Finite, ...], ...], Field(min_length=1, max_length=100)]


@dataclass(frozen=True)
class ExportedPolicy:
    """A trained picker, apart from its code."""

    picker: str
    """Its name in the registry."""
    columns: tuple[str, ...] = ()
    """Of both tables, the load first."""
    must_serve: Rows = ()
    """Parameters by load for requests that must be served; empty = the policy goes by the network's scores alone."""
    may_drop: Rows = ()
    """The same for requests that may be shed; as many rows."""
    size: NetworkSize | None = None
    """None = no network."""
    weights: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    """As in `weight_shapes`."""
    training: Mapping[str, str] = field(default_factory=dict)
    """For people: the command, the data, the seed."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """For people: what it reached, and on what."""
    digest: str = ""
    """SHA-256 of all of it, where it was read from a folder."""

    @property
    def version(self) -> str:
        """What is shown with every decision."""
        return self.digest[:_VERSION_LENGTH]


class _NetworkDocument(Document):
    channels: int = Field(ge=1, le=1_024)
    heads: int = Field(ge=1, le=1_024)
    hidden: int = Field(ge=1, le=1_024)
    graph: bool
    features_version: int
    features_digest: str
    features: dict[str, tuple[str, ...]]
    weights_sha256: str


class _Manifest(Document):
    kind: Literal["pointsman-policy"]
    schema_version: int
    picker: str = Field(min_length=1)
    columns: tuple[str, ...]
    must_serve: _Rows | None
    may_drop: _Rows | None
    network: _NetworkDocument | None
    training: dict[str, str]
    scores: dict[str, _Finite]
    digest: str


def write_exported_policy(folder: Path, policy: ExportedPolicy) -> ExportedPolicy:
    """Write a policy; a policy that the folder holds is replaced as a whole.

    Args:
        folder: Made if needed.
        policy: What to write.

    Returns:
        The policy as it will be read, with its digest.

    Raises:
        DocumentError: If the folder cannot be written or holds something else, or the policy itself is not sound.
    """
    content = save({name: np.ascontiguousarray(values) for name, values in policy.weights.items()})
    document = _document(policy, hashlib.sha256(content).hexdigest())
    parse(_Manifest, document, str(folder))
    if folder.exists() and not (folder / MANIFEST).exists() and any(folder.iterdir()):
        raise DocumentError(str(folder), "holds something that is no exported policy; choose another folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as name:
            made = Path(name) / "new"
            made.mkdir()
            (made / MANIFEST).write_text(json.dumps(document, indent=1) + "\n", "utf-8")
            if policy.size is not None:
                (made / WEIGHTS).write_bytes(content)
            written = _checked(made, folder)
            if folder.exists():
                shutil.move(folder, Path(name) / "old")
            made.rename(folder)
    except OSError as error:
        raise DocumentError(str(folder), f"cannot be written to ({error.strerror}); choose another folder") from error
    return written


def read_exported_policy(folder: Path) -> ExportedPolicy:
    """Read a policy and check that it is whole and fits this version.

    Args:
        folder: As written by `write_exported_policy`.

    Raises:
        DocumentError: If a file is missing, damaged, changed or of another version, or its numbers make no policy.
    """
    source = str(folder / MANIFEST)
    value = _read_manifest(folder)
    manifest = parse(_Manifest, value, source)
    if manifest_digest(value) != manifest.digest:
        raise DocumentError(source, "was changed after its export (its digest differs); copy or export it again")
    _check_tables(source, manifest)
    policy = ExportedPolicy(
        picker=manifest.picker,
        columns=manifest.columns,
        must_serve=manifest.must_serve or (),
        may_drop=manifest.may_drop or (),
        training=manifest.training,
        scores=manifest.scores,
        digest=manifest.digest,
    )
    if manifest.network is None:
        return policy
    return _with_network(policy, manifest.network, folder)


def _checked(made: Path, folder: Path) -> ExportedPolicy:
    """Read what was just written; an error names the folder that was asked for."""
    try:
        return read_exported_policy(made)
    except DocumentError as error:
        raise DocumentError(str(folder), f"not written, since it could not be read: {error.problem}") from error


def _document(policy: ExportedPolicy, weights_digest: str) -> dict[str, Any]:
    """Return the manifest as JSON has it."""
    network = None
    if policy.size is not None:
        network = {
            **policy.size._asdict(),
            "featuresVersion": FEATURES_VERSION,
            "featuresDigest": feature_digest(),
            "features": {table: list(names) for table, names in FEATURES.items()},
            "weightsSha256": weights_digest,
        }
    document = {
        "kind": _KIND,
        "schemaVersion": SCHEMA,
        "picker": policy.picker,
        "columns": list(policy.columns),
        "mustServe": [list(map(float, row)) for row in policy.must_serve] or None,
        "mayDrop": [list(map(float, row)) for row in policy.may_drop] or None,
        "network": network,
        "training": dict(policy.training),
        "scores": {name: float(value) for name, value in policy.scores.items()},
    }
    return {**document, "digest": manifest_digest(document)}


def manifest_digest(document: Mapping[str, Any]) -> str:
    """Return the digest of a manifest, which includes that of the weights."""
    kept = {name: value for name, value in document.items() if name != "digest"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _read_manifest(folder: Path) -> dict[str, Any]:
    source = str(folder / MANIFEST)
    try:
        value = json.loads(_read_bytes(folder / MANIFEST))
    except (ValueError, RecursionError) as error:
        raise DocumentError(source, "is not JSON; copy or export it again") from error
    if not isinstance(value, dict) or value.get("kind") != _KIND:
        raise DocumentError(source, f"is no exported policy's manifest; its kind must be {_KIND!r}")
    version = value.get("schemaVersion")
    if version != SCHEMA:
        shown = repr(version)[:40]
        raise DocumentError(
            source, f"has the schema version {shown}, this version of Pointsman reads {SCHEMA}; export the policy anew"
        )
    return value


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DocumentError(
            str(path), f"cannot be read ({error.strerror}); give a folder written by `pointsman train`"
        ) from error


def _check_tables(source: str, manifest: _Manifest) -> None:
    if (manifest.must_serve is None) != (manifest.may_drop is None):
        raise DocumentError(source, "has only one of mustServe and mayDrop; give both or neither")
    if manifest.must_serve is None or manifest.may_drop is None:
        return
    if len(manifest.must_serve) != len(manifest.may_drop):
        raise DocumentError(source, "mustServe and mayDrop must have as many rows as each other")
    for name, rows in (("mustServe", manifest.must_serve), ("mayDrop", manifest.may_drop)):
        for index, row in enumerate(rows):
            if len(row) != len(manifest.columns):
                raise DocumentError(
                    source, f"{name}[{index}]: has {len(row)} numbers for {len(manifest.columns)} columns"
                )
        loads = [row[0] for row in rows if row]
        if loads != sorted(set(loads)):
            raise DocumentError(source, f"{name}: loads, its first column, must rise from row to row")


def _with_network(policy: ExportedPolicy, network: _NetworkDocument, folder: Path) -> ExportedPolicy:
    source = str(folder / MANIFEST)
    if network.features_digest != feature_digest():
        raise DocumentError(source, f"{_other_features(network)}; train the policy with this version of Pointsman")
    if network.channels % network.heads:
        raise DocumentError(source, f"network.channels: {network.channels} cannot be split among {network.heads} heads")
    size = NetworkSize(network.channels, network.heads, network.hidden, network.graph)
    content = _read_bytes(folder / WEIGHTS)
    if hashlib.sha256(content).hexdigest() != network.weights_sha256:
        raise DocumentError(
            str(folder / WEIGHTS), "is not the file that the manifest describes (its SHA-256 differs); copy both again"
        )
    weights = _read_weights(str(folder / WEIGHTS), content, weight_shapes(size))
    return ExportedPolicy(**{**vars(policy), "size": size, "weights": weights})


def _other_features(network: _NetworkDocument) -> str:
    here = {f"{table}.{name}" for table, names in FEATURES.items() for name in names}
    there = {f"{table}.{name}" for table, names in network.features.items() for name in names}
    missing, unknown = sorted(here - there), sorted(there - here)
    parts = [f"{what} {', '.join(names)}" for what, names in (("lacks", missing), ("has", unknown)) if names]
    differing = " and ".join(parts) or f"is for version {network.features_version}, here is {FEATURES_VERSION}"
    return f"was trained on other features than those of this version ({differing})"


def _read_weights(
    source: str, content: bytes, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, npt.NDArray[np.float32]]:
    try:
        arrays = load(content)
    except (SafetensorError, ValueError) as error:
        raise DocumentError(source, "is no safetensors file; copy or export it again") from error
    unknown = sorted(arrays.keys() - shapes.keys())
    if unknown:
        raise DocumentError(source, f"{unknown[0]}: no weight of this network has that name; export it again")
    for name, shape in shapes.items():
        array = arrays.get(name)
        if array is None:
            raise DocumentError(source, f"{name}: this weight is missing; export it again")
        if array.shape != shape or array.dtype != np.float32:
            raise DocumentError(source, f"{name}: must be float32 of shape {shape}, is {array.dtype} of {array.shape}")
        if not np.isfinite(array).all():
            raise DocumentError(source, f"{name}: holds numbers that are not finite; training has failed, train again")
    return arrays
