"""Exported policies."""

import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from safetensors.numpy import load, save
from tests.unit.exports import han_export
from tests.unit.malformed.case import Case, Surface, Trial, without_folder

from pointsman_policy.errors import DocumentError
from pointsman_policy.pickers.registry import with_trained
from pointsman_policy.runtime.exported import MANIFEST, WEIGHTS, manifest_digest, write_exported_policy

Spoil: TypeAlias = Callable[[Path], object]


def edited(change: Callable[[dict[str, Any]], object], *, signed: bool = True) -> Spoil:
    """Change the manifest, and its digest unless it was not signed anew."""

    def spoil(folder: Path) -> None:
        path = folder / MANIFEST
        manifest = json.loads(path.read_text())
        change(manifest)
        if signed:
            manifest["digest"] = manifest_digest(manifest)
        path.write_text(json.dumps(manifest))

    return spoil


def content(name: str, change: Callable[[bytes], bytes]) -> Spoil:
    """Change the bytes of a file."""
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def weights(change: Callable[[bytes], bytes]) -> Spoil:
    """Change the bytes of the weights, and sign them anew."""

    def spoil(folder: Path) -> None:
        content(WEIGHTS, change)(folder)
        digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
        edited(lambda manifest: manifest["network"].update(weightsSha256=digest))(folder)

    return spoil


def arrays(change: Callable[[dict[str, Any]], object]) -> Spoil:
    """Change the arrays of the weights, and sign them anew."""

    def spoil(data: bytes) -> bytes:
        found = load(data)
        change(found)
        return save(found)

    return weights(spoil)


def _without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda found: found.pop(name)


@asynccontextmanager
async def _trained(folder: Path) -> AsyncIterator[Trial]:
    """Read a policy as the router does at its start."""
    good, path = folder / "good", folder / "policy"
    write_exported_policy(good, han_export())

    def renewed() -> None:
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(good, path)

    async def give(given: Spoil) -> str:
        renewed()
        given(path)
        with pytest.raises(DocumentError) as caught:
            with_trained([path])
        return without_folder(str(caught.value), folder)

    async def works() -> None:
        renewed()
        assert with_trained([path])["HanActor"].version

    yield Trial(give, works)


EXPORTED_POLICY = Surface(
    "Exported policy",
    "The router and `pointsman bench sim` end with exit code 2 before anything has run.",
    _trained,
    (
        Case(
            "no manifest",
            lambda folder: (folder / MANIFEST).unlink(),
            "policy/manifest.json: cannot be read (No such file or directory); "
            "give a folder written by `pointsman train`",
        ),
        Case(
            "a manifest cut short",
            content(MANIFEST, lambda data: data[:200]),
            "policy/manifest.json: is not JSON; copy or export it again",
        ),
        Case(
            "a manifest of something else",
            edited(lambda manifest: manifest.update(kind="pointsman-predictor")),
            "policy/manifest.json: is no exported policy's manifest; its kind must be 'pointsman-policy'",
        ),
        Case(
            "a newer schema",
            edited(lambda manifest: manifest.update(schemaVersion=2)),
            "policy/manifest.json: has the schema version 2, this version of Pointsman reads 1; export the policy anew",
        ),
        Case(
            "a number changed by hand",
            edited(lambda manifest: manifest["mustServe"][0].__setitem__(1, 2.5), signed=False),
            "policy/manifest.json: was changed after its export (its digest differs); copy or export it again",
        ),
        Case(
            "an unknown field",
            edited(lambda manifest: manifest.update(pikcer="HanActor")),
            "policy/manifest.json: pikcer: unknown field; did you mean picker?",
        ),
        Case(
            "a number that is none",
            edited(lambda manifest: manifest["mayDrop"][0].__setitem__(1, float("nan"))),
            "policy/manifest.json: mayDrop[0][1]: Input should be a finite number (got nan)",
        ),
        Case(
            "a row too short",
            edited(lambda manifest: manifest["mayDrop"][0].pop()),
            "policy/manifest.json: mayDrop[0]: has … numbers for … columns",
        ),
        Case(
            "loads out of order",
            edited(lambda manifest: manifest["mustServe"].reverse()),
            "policy/manifest.json: mustServe: loads, its first column, must rise from row to row",
        ),
        Case(
            "an unknown picker",
            edited(lambda manifest: manifest.update(picker="Oracle")),
            "policy/manifest.json: picker: no trainable picker is named 'Oracle'; there are HanActor, ImpactGreedy",
        ),
        Case(
            "other columns",
            edited(lambda manifest: manifest["columns"].__setitem__(1, "luck")),
            "policy/manifest.json: columns: HanActor takes load, …; train it with this version of Pointsman",
        ),
        Case(
            "no network where there must be one",
            edited(lambda manifest: manifest.update(network=None)),
            "policy/manifest.json: HanActor needs a network, and there is none",
        ),
        Case(
            "a network trained on other features",
            edited(
                lambda manifest: (
                    manifest["network"].update(featuresDigest="0" * 64),
                    manifest["network"]["features"]["request"].__setitem__(0, "weather"),
                )
            ),
            "policy/manifest.json: was trained on other features than those of this version "
            "(lacks request.prompt_tokens and has request.weather); train the policy with this version of Pointsman",
        ),
        Case(
            "channels that cannot be split",
            edited(lambda manifest: manifest["network"].update(heads=3)),
            "policy/manifest.json: network.channels: 4 cannot be split among 3 heads",
        ),
        Case(
            "no weights",
            lambda folder: (folder / WEIGHTS).unlink(),
            "policy/weights.safetensors: cannot be read (No such file or directory); "
            "give a folder written by `pointsman train`",
        ),
        Case(
            "weights cut short",
            content(WEIGHTS, lambda data: data[:-1]),
            "policy/weights.safetensors: is not the file that the manifest describes (its SHA-256 differs); "
            "copy both again",
        ),
        Case(
            "weights with a bit flipped",
            content(WEIGHTS, lambda data: data[:-1] + bytes([data[-1] ^ 1])),
            "policy/weights.safetensors: is not the file that the manifest describes (its SHA-256 differs); "
            "copy both again",
        ),
        Case(
            "weights in another format",
            weights(lambda data: b"\x80\x04]\x94."),
            "policy/weights.safetensors: is no safetensors file; copy or export it again",
        ),
        Case(
            "a weight left out",
            arrays(_without("drop.last.bias")),
            "policy/weights.safetensors: drop.last.bias: this weight is missing; export it again",
        ),
        Case(
            "a weight too many",
            arrays(lambda found: found.update(extra=np.zeros(1, np.float32))),
            "policy/weights.safetensors: extra: no weight of this network has that name; export it again",
        ),
        Case(
            "a weight of another shape",
            arrays(lambda found: found.update({"drop.last.bias": np.zeros(2, np.float32)})),
            "policy/weights.safetensors: drop.last.bias: must be float32 of shape (1,), is float32 of (2,)",
        ),
        Case(
            "a weight that is not a number",
            arrays(lambda found: found["drop.last.bias"].fill(np.nan)),
            "policy/weights.safetensors: drop.last.bias: holds numbers that are not finite; "
            "training has failed, train again",
        ),
    ),
)
