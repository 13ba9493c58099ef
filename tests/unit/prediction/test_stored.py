import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pointsman_policy.errors import DocumentError
from pointsman_policy.prediction.fitting import PredictorFit
from pointsman_policy.prediction.hashed_ngrams import HashedNgrams
from pointsman_policy.prediction.stored import read_predictor, write_predictor


@pytest.fixture
def folder(fitted: PredictorFit, tmp_path: Path) -> Path:
    write_predictor(tmp_path / "predictor", fitted.predictor, {"scores": "scores.csv"})
    return tmp_path / "predictor"


def test_a_predictor_reads_back_as_it_was_written(fitted: PredictorFit, folder: Path) -> None:
    read = read_predictor(folder)
    assert read.fits == fitted.predictor.fits
    prompts = ["Add 2 to 3.", "def f(x): return x", ""]
    for one, other in zip(read.predict_all(prompts), fitted.predictor.predict_all(prompts), strict=True):
        np.testing.assert_array_equal(one, other)
    assert json.loads((folder / "manifest.json").read_text())["training"] == {"scores": "scores.csv"}


def test_writing_again_replaces_it(fitted: PredictorFit, folder: Path) -> None:
    write_predictor(folder, fitted.predictor, {"scores": "other.csv"})
    assert read_predictor(folder).models == fitted.predictor.models


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def change_weights(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change the arrays, and make the digest fit."""
    arrays = load_file(folder / "weights.safetensors")
    edit(arrays)
    save_file(arrays, folder / "weights.safetensors")
    digest = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    change(folder, lambda manifest: manifest.update(weightsSha256=digest))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: (folder / "manifest.json").unlink(),
            "manifest.json: cannot be read .* `pointsman predictor fit`",
        ),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json: is not JSON"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"), "manifest.json: is not JSON"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "is no predictor's manifest"),
        (lambda folder: change(folder, lambda one: one.update(kind="policy")), "is no predictor's manifest"),
        (lambda folder: change(folder, lambda one: one.update(schemaVersion=2)), "schema version 2, .* reads 1; fit"),
        (lambda folder: change(folder, lambda one: one.update(models=[])), "models: .*at least 1 item"),
        (lambda folder: change(folder, lambda one: one["models"].pop()), "matrix must be .* of shape"),
        (lambda folder: change(folder, lambda one: one["models"][0]["quality"].pop("mean")), "quality.mean: required"),
        (
            lambda folder: change(folder, lambda one: one["encoder"].update(version=99)),
            "was fitted with encoder 'hashed-ngrams' version 99 .*, but here is .* version 1",
        ),
        (
            lambda folder: change(folder, lambda one: one["encoder"].update(name="sentences")),
            "needs the encoder 'sentences', which is not installed",
        ),
        (lambda folder: (folder / "weights.safetensors").unlink(), "weights.safetensors: cannot be read"),
        (
            lambda folder: (folder / "weights.safetensors").write_bytes(b"\x80\x04K*."),
            "is not the file that the manifest describes",
        ),
        (lambda folder: change_weights(folder, lambda one: one.pop("offset")), "offset must be .* it is missing"),
        (
            lambda folder: change_weights(folder, lambda one: one.update(offset=one["offset"][:-1])),
            r"offset must be finite float32 of shape \(6,\), it is float32 of shape \(5,\)",
        ),
        (
            lambda folder: change_weights(folder, lambda one: one.update(offset=one["offset"] * np.float32(np.nan))),
            "offset must be finite",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(folder)
    with pytest.raises(DocumentError, match=message):
        read_predictor(folder)


def test_bytes_that_are_no_safetensors_are_refused(folder: Path) -> None:
    content = b"\x80\x04K*."
    (folder / "weights.safetensors").write_bytes(content)
    change(folder, lambda one: one.update(weightsSha256=hashlib.sha256(content).hexdigest()))
    with pytest.raises(DocumentError, match="is no safetensors file"):
        read_predictor(folder)


def test_a_folder_that_cannot_be_written_is_said(fitted: PredictorFit, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DocumentError, match="cannot be written to"):
        write_predictor(tmp_path / "file", fitted.predictor, {})


def test_an_installed_package_can_offer_an_encoder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    (site / "toy-1.dist-info").mkdir(parents=True)
    (site / "toy-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1\n")
    (site / "toy-1.dist-info" / "entry_points.txt").write_text("[pointsman.encoders]\ntoy = toy_encoder:Toy\n")
    (site / "toy_encoder.py").write_text(
        "from pointsman_policy.prediction.hashed_ngrams import HashedNgrams\n"
        "class Toy(HashedNgrams):\n    name = 'toy'\n    version = 7\n"
    )
    monkeypatch.syspath_prepend(site)
    change(folder, lambda one: one["encoder"].update(name="toy", version=7))
    read = read_predictor(folder)
    assert isinstance(read.encoder, HashedNgrams)
    assert (read.encoder.name, read.encoder.version) == ("toy", 7)
    assert (read.predict("Add 2 to 3.", 1).quality >= 0).all()
