"""A version of a learned policy: a folder with everything that a router needs to decide as it does.

``version.json`` says where it comes from and holds the SHA-256 of every other file; ``policy/`` is an exported policy;
``calibration.json`` is what outcomes taught of the experts. ``gate.json``, beside them, is the verdict on it and no
part of it: what was judged stays the same whatever the verdict.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pointsman_policy.documents import Document, DocumentT, parse
from pointsman_policy.errors import DocumentError
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.runtime.exported import (
    MANIFEST,
    WEIGHTS,
    ExportedPolicy,
    read_exported_policy,
    write_exported_policy,
)

SCHEMA = 1
VERSION, CALIBRATION, GATE, POLICY = "version.json", "calibration.json", "gate.json", "policy"
FILES = (VERSION, CALIBRATION, f"{POLICY}/{MANIFEST}", f"{POLICY}/{WEIGHTS}")
"""Everything that a version may consist of; a policy without a network has no weights."""

_KIND = "pointsman-version"
_VERSION_LENGTH = 12
_LARGEST_BYTES = 64 * 2**20

_Finite = Annotated[float, Field(allow_inf_nan=False)]


class GateScenario(Document):
    """One scenario of the gate: means of QoS over its paired runs."""

    name: str
    candidate_qos: _Finite
    active_qos: _Finite
    rule_qos: _Finite
    """Of ImpactGreedy."""
    gain: _Finite
    """Candidate minus active."""
    gain_low: _Finite
    """Lower bound of its confidence interval."""
    gain_high: _Finite


class GateReport(Document):
    """The verdict on a version before it meets any traffic."""

    passed: bool
    summary: str
    """Why, for people."""
    candidate_qos: _Finite = 0.0
    """Mean over all scenarios."""
    active_qos: _Finite = 0.0
    rule_qos: _Finite = 0.0
    gain_lower_bound: _Finite = 0.0
    """Of candidate minus active over all scenarios."""
    replay_agreement: _Finite = 0.0
    """Share of stored decisions that candidate and active version decide alike."""
    scenarios: tuple[GateScenario, ...] = ()


@dataclass(frozen=True)
class PolicyVersion:
    """A version, apart from its folder."""

    policy: str
    """Key of the RouterPolicy that it was trained for, "namespace/name"."""
    created_at: float
    """Unix seconds."""
    parent: str
    """The version that was active then; empty = the packaged policy."""
    outcomes: int
    """That it rests on."""
    exported: ExportedPolicy
    calibration: Calibration
    training: Mapping[str, str] = field(default_factory=dict)
    """For people."""
    digest: str = ""
    """SHA-256 of all of it, where it was read from a folder."""

    @property
    def version(self) -> str:
        """Its name; the beginning of the digest."""
        return self.digest[:_VERSION_LENGTH]


class _Manifest(Document):
    kind: Literal["pointsman-version"]
    schema_version: int
    policy: str
    created_at: _Finite
    parent: str
    outcomes: int = Field(ge=0)
    training: dict[str, str]
    files: dict[str, str]
    digest: str


def write_version(folder: Path, version: PolicyVersion) -> PolicyVersion:
    """Write a version in one step.

    Args:
        folder: Must not exist yet.
        version: What to write.

    Returns:
        The version as it will be read, with its digest.

    Raises:
        DocumentError: If the folder exists or cannot be written, or the version is not sound.
    """
    if folder.exists():
        raise DocumentError(str(folder), "exists already; a version is never changed, write it to another folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as name:
            made = Path(name) / "new"
            made.mkdir()
            write_exported_policy(made / POLICY, version.exported)
            _write(made / CALIBRATION, version.calibration.model_dump(mode="json", by_alias=True))
            _write(made / VERSION, _manifest(made, version))
            written = read_version(made)
            made.rename(folder)
    except OSError as error:
        raise DocumentError(
            str(folder), f"cannot be written ({error.strerror}); free space or fix its rights"
        ) from error
    return written


def read_version(folder: Path) -> PolicyVersion:
    """Read a version and check that it is whole and that this program can run it.

    Raises:
        DocumentError: If a file is missing, damaged, changed or of a newer schema; the message names it.
    """
    source = str(folder / VERSION)
    value = _read(folder / VERSION)
    if not isinstance(value, dict) or value.get("kind") != _KIND:
        raise DocumentError(source, f"is no version's manifest; its kind must be {_KIND!r}")
    if value.get("schemaVersion") != SCHEMA:
        raise DocumentError(
            source,
            f"has the schema version {str(value.get('schemaVersion'))[:40]}, this program reads {SCHEMA}; "
            "upgrade it, or train anew",
        )
    manifest = parse(_Manifest, value, source)
    if _digest(value) != manifest.digest:
        raise DocumentError(source, "was changed after it was written (its digest differs); copy or fetch it again")
    _check_files(folder, manifest.files)
    return PolicyVersion(
        policy=manifest.policy,
        created_at=manifest.created_at,
        parent=manifest.parent,
        outcomes=manifest.outcomes,
        exported=read_exported_policy(folder / POLICY),
        calibration=_document(Calibration, folder / CALIBRATION),
        training=manifest.training,
        digest=manifest.digest,
    )


def copy_version(source: Path, target: Path) -> PolicyVersion:
    """Copy a version, and the verdict on it if there is one, in one step; a target that is there is left alone.

    Raises:
        DocumentError: If the source is unusable or the target cannot be written.
    """
    read_version(source)
    if target.exists():
        return read_version(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as name:
            made = Path(name) / "new"
            for file in (*FILES, GATE):
                if (source / file).is_file():
                    (made / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source / file, made / file)
            copied = read_version(made)
            made.rename(target)
    except OSError as error:
        raise DocumentError(
            str(target), f"cannot be written ({error.strerror}); free space or fix its rights"
        ) from error
    return copied


def write_gate(folder: Path, report: GateReport) -> None:
    """Put a verdict beside a version, in one step.

    Raises:
        OSError: If it cannot be written.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".gate-") as name:
        made = Path(name) / GATE
        _write(made, report.model_dump(mode="json", by_alias=True))
        made.replace(folder / GATE)


def read_gate(folder: Path) -> GateReport | None:
    """Return the verdict on a version; None = there is none.

    Raises:
        DocumentError: If it is damaged.
    """
    return _document(GateReport, folder / GATE) if (folder / GATE).exists() else None


def _manifest(folder: Path, version: PolicyVersion) -> dict[str, Any]:
    files = {name: _sha256(folder / name) for name in FILES if name != VERSION and (folder / name).exists()}
    document = {
        "kind": _KIND,
        "schemaVersion": SCHEMA,
        "policy": version.policy,
        "createdAt": float(version.created_at),
        "parent": version.parent,
        "outcomes": version.outcomes,
        "training": dict(version.training),
        "files": files,
    }
    return {**document, "digest": _digest(document)}


def _digest(document: Mapping[str, Any]) -> str:
    kept = {name: value for name, value in document.items() if name != "digest"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    for name, digest in files.items():
        if name not in FILES:
            raise DocumentError(str(folder / VERSION), f"files: a version has no file {name[:100]!r}; fetch it again")
        if _sha256(folder / name) != digest:
            raise DocumentError(
                str(folder / name), f"is not the file that {VERSION} describes (its SHA-256 differs); fetch it again"
            )
    if CALIBRATION not in files or f"{POLICY}/{MANIFEST}" not in files:
        raise DocumentError(str(folder / VERSION), "files: lists no policy or no calibration; fetch it again")


def _sha256(path: Path) -> str:
    return hashlib.sha256(_read_bytes(path)).hexdigest()


def _read_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise DocumentError(str(path), "is larger than any file of a version; fetch it again")
        return path.read_bytes()
    except OSError as error:
        raise DocumentError(str(path), f"cannot be read ({error.strerror}); fetch or copy the version again") from error


def _read(path: Path) -> Any:
    try:
        return json.loads(_read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise DocumentError(str(path), "is not JSON; fetch or copy the version again") from error


def _document(model: type[DocumentT], path: Path) -> DocumentT:
    return parse(model, _read(path), str(path))


def _write(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
