"""Fitted predictors on disk: a folder of `manifest.json` and `weights.safetensors` (format: docs/predictors.md)."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pointsman_policy.documents import Document, parse
from pointsman_policy.errors import DocumentError
from pointsman_policy.prediction.encoder import Encoder, find_encoder
from pointsman_policy.prediction.fitted import Fit, FittedPredictor, ModelFit, Weights

SCHEMA = 1
_MANIFEST, _WEIGHTS = "manifest.json", "weights.safetensors"
_KIND = "pointsman-predictor"

_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Count = Annotated[int, Field(strict=True, ge=0)]


class _FitDocument(Document):
    rows: _Count
    mean: _Finite
    shared_weight: _Finite
    own_weight: _Finite
    explained: _Finite


class _ModelDocument(Document):
    model: str
    quality: _FitDocument
    length: _FitDocument
    log_length_deviation: _Finite


class _EncoderDocument(Document):
    name: str
    version: int
    dimension: Annotated[int, Field(strict=True, ge=1)]


class _Manifest(Document):
    kind: Literal["pointsman-predictor"]
    schema_version: int
    encoder: _EncoderDocument
    models: tuple[_ModelDocument, ...] = Field(min_length=1)
    training: dict[str, str]
    weights_sha256: str


def write_predictor(folder: Path, predictor: FittedPredictor, training: Mapping[str, str]) -> None:
    """Write a predictor; a folder that already holds one is replaced file by file, the manifest last.

    Args:
        folder: Made if needed.
        predictor: What to write.
        training: For people: what it was fitted on, and by which command.

    Raises:
        DocumentError: If the folder cannot be written to.
    """
    weights = save({name: np.ascontiguousarray(values) for name, values in asdict(predictor.weights).items()})
    encoder = predictor.encoder
    manifest = _Manifest(
        kind=_KIND,
        schema_version=SCHEMA,
        encoder=_EncoderDocument(name=encoder.name, version=encoder.version, dimension=encoder.dimension),
        models=tuple(_ModelDocument.model_validate(asdict(fit)) for fit in predictor.fits),
        training=dict(training),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _WEIGHTS).write_bytes(weights)
        (folder / _MANIFEST).write_text(manifest.model_dump_json(by_alias=True, indent=1) + "\n", "utf-8")
    except OSError as error:
        raise DocumentError(str(folder), f"cannot be written to ({error.strerror}); choose another folder") from error


def read_predictor(folder: Path, encoder: Encoder | None = None) -> FittedPredictor:
    """Read a predictor and check that it is whole and fits this version.

    Args:
        folder: As written by `write_predictor`.
        encoder: The one that it was fitted with; None = found by the name in the manifest.

    Raises:
        DocumentError: If a file is missing, damaged or of another version, or the encoder is not the one of fitting.
    """
    source = str(folder / _MANIFEST)
    manifest = parse(_Manifest, _read_manifest(folder), source)
    encoder = _check_encoder(source, manifest.encoder, encoder or find_encoder(manifest.encoder.name))
    content = _read_bytes(folder / _WEIGHTS)
    if hashlib.sha256(content).hexdigest() != manifest.weights_sha256:
        raise DocumentError(
            str(folder / _WEIGHTS), "is not the file that the manifest describes (its SHA-256 differs); copy both again"
        )
    weights = _read_weights(str(folder / _WEIGHTS), content, len(manifest.models), encoder.dimension)
    return FittedPredictor(encoder, [_model_fit(document) for document in manifest.models], weights)


def _read_manifest(folder: Path) -> dict[str, Any]:
    source = str(folder / _MANIFEST)
    try:
        value = json.loads(_read_bytes(folder / _MANIFEST))
    except (ValueError, RecursionError) as error:
        raise DocumentError(source, "is not JSON; copy the folder again, or fit the predictor anew") from error
    if not isinstance(value, dict) or value.get("kind") != _KIND:
        raise DocumentError(source, f"is no predictor's manifest; its kind must be {_KIND!r}")
    if value.get("schemaVersion") != SCHEMA:
        shown = repr(value.get("schemaVersion"))[:40]
        raise DocumentError(
            source, f"has the schema version {shown}, this version of Pointsman reads {SCHEMA}; fit the predictor anew"
        )
    return value


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DocumentError(
            str(path), f"cannot be read ({error.strerror}); give a folder written by `pointsman predictor fit`"
        ) from error


def _check_encoder(source: str, fitted: _EncoderDocument, encoder: Encoder | None) -> Encoder:
    if encoder is None:
        raise DocumentError(
            source, f"needs the encoder {fitted.name!r}, which is not installed; install the package that offers it"
        )
    found = _EncoderDocument(name=encoder.name, version=encoder.version, dimension=encoder.dimension)
    if found != fitted:
        raise DocumentError(
            source,
            f"was fitted with {_describe(fitted)}, but here is {_describe(found)}; "
            "install the encoder of fitting, or fit the predictor anew",
        )
    return encoder


def _describe(encoder: _EncoderDocument) -> str:
    return f"encoder {encoder.name!r} version {encoder.version} of {encoder.dimension} features"


def _read_weights(source: str, content: bytes, models: int, dimension: int) -> Weights:
    try:
        arrays = load(content)
    except (SafetensorError, ValueError) as error:
        raise DocumentError(source, "is no safetensors file; copy it again, or fit the predictor anew") from error
    shapes: dict[str, tuple[int, ...]] = {
        "matrix": (2 * models, dimension),
        "offset": (2 * models,),
        "log_length_bounds": (2, models),
        "length_intercept": (models,),
        "length_slope": (models,),
    }
    chosen = {name: _checked(source, name, arrays.get(name), shape) for name, shape in shapes.items()}
    return Weights(**chosen)


def _checked(source: str, name: str, array: npt.NDArray[Any] | None, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    if array is None or array.shape != shape or array.dtype != np.float32 or not np.isfinite(array).all():
        found = "missing" if array is None else f"{array.dtype} of shape {array.shape}"
        raise DocumentError(
            source, f"{name} must be finite float32 of shape {shape}, it is {found}; fit the predictor anew"
        )
    return array


def _model_fit(document: _ModelDocument) -> ModelFit:
    quality, length = (Fit(**part.model_dump()) for part in (document.quality, document.length))
    return ModelFit(document.model, quality, length, document.log_length_deviation)
