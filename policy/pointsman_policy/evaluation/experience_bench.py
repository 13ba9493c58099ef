"""How the store of outcomes does with a year's worth of them: writing, opening, retention, loading a training set."""

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rich import box
from rich.table import Table

from pointsman_policy.experience.dataset import LARGEST_TRAINING_SET, load
from pointsman_policy.experience.location import StoreLocation, outcomes_catalogue
from pointsman_policy.experience.retention import Retention
from pointsman_policy.experience.schema import OUTCOMES
from pointsman_policy.experience.store import OutcomeStore

POLICY = "bench/chat"
YEAR_DAYS = 365
_DAY_SECONDS = 86_400.0
_EXPERTS = 12
_STATE_BYTES = 600
_STATES_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was measured."""

    name: str
    rows: int
    seconds: float
    peak_bytes: int
    """Largest resident memory of this process so far."""


def measure(root: Path, rows: int, seed: int, note: Callable[[str], None]) -> tuple[list[Step], int]:
    """Write outcomes over a year, then open the store, apply retention and load a training set.

    Args:
        root: An empty folder.
        rows: Outcomes.
        seed: Of what is drawn.
        note: Called with what is done now.

    Returns:
        What each step took, and the bytes on disk after the first.

    Raises:
        OSError: If the folder cannot be written.
    """
    steps: list[Step] = []
    end = _DAY_SECONDS * (1_790_000_000 // _DAY_SECONDS)
    location = StoreLocation(root)
    note("writing")
    with _timed(steps, "write a year of outcomes", rows):
        _write(location, rows, end, np.random.default_rng(seed))
    catalogue = outcomes_catalogue(location)
    catalogue.find()
    size = catalogue.size
    note("opening")
    with _timed(steps, "open the store, with the ids of all", rows):
        store = OutcomeStore(location, Retention(days=YEAR_DAYS, bytes=0.9 * size), lambda: end)
    note("deleting")
    before = store.size
    with _timed(steps, "apply retention: 90 % of the bytes", rows):
        store.compact()
    kept = store.stats()[POLICY].rows
    if not store.size <= 0.9 * size <= before:
        raise RuntimeError(f"retention kept {store.size} of {before} bytes")
    store.close()
    note("loading")
    with _timed(steps, "load a training set: the newest of all", min(kept, LARGEST_TRAINING_SET)):
        experience = load(root, POLICY)
    if len(experience) != min(kept, LARGEST_TRAINING_SET):
        raise RuntimeError(f"{len(experience)} outcomes were loaded")
    del experience
    with _timed(steps, "load what calibrations need, of all", kept):
        load(root, POLICY, limit=rows, columns=("expert", "prompt_tokens", "output_tokens", "ttft_seconds"))
    return steps, size


def table(steps: list[Step], size: int) -> Table:
    """Return the measurements for people."""
    result = Table(
        title=f"Experience: {size / 2**20:,.0f} MiB on disk, {size / steps[0].rows:.0f} bytes an outcome",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for heading in ("Step", "Outcomes", "Seconds", "Peak memory MiB"):
        result.add_column(heading, justify="left" if heading == "Step" else "right")
    for step in steps:
        result.add_row(step.name, f"{step.rows:,}", f"{step.seconds:.1f}", f"{step.peak_bytes / 2**20:,.0f}")
    return result


@contextmanager
def _timed(steps: list[Step], name: str, rows: int) -> Iterator[None]:
    started = time.perf_counter()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    steps.append(Step(name, rows, time.perf_counter() - started, peak))


def _write(location: StoreLocation, rows: int, end: float, rng: np.random.Generator) -> None:
    catalogue = outcomes_catalogue(location)
    days = np.linspace(0, rows, YEAR_DAYS + 1).astype(int)
    for day, count in enumerate(np.diff(days)):
        if count:
            catalogue.write(POLICY, _outcomes(count, end - (YEAR_DAYS - day) * _DAY_SECONDS, rng))


def _outcomes(count: int, start: float, rng: np.random.Generator) -> pa.Table:
    """Return outcomes of one day; the hashes of their ids are drawn, not computed: that only takes less time."""
    hashes = rng.integers(0, 2**63, count, dtype=np.uint64)
    expert = rng.integers(0, _EXPERTS, count)
    names = pa.array([f"expert-{number}" for number in range(_EXPERTS)])
    models = pa.array([f"model-{number % 3}" for number in range(_EXPERTS)])
    sampled = rng.random(count) < _STATES_SHARE
    columns: dict[str, Any] = {
        "id": pa.array(np.char.mod("%016x", hashes)),
        "id_hash": pa.array(hashes),
        "decided_at": pa.array(np.sort(start + rng.random(count) * _DAY_SECONDS)),
        "expert": names.take(pa.array(expert)),
        "model": models.take(pa.array(expert)),
        "state": pa.array([rng.bytes(_STATE_BYTES) if one else None for one in sampled.tolist()], pa.binary()),
        "quality": pa.array(
            np.where(rng.random(count) < 0.1, rng.random(count), np.nan), pa.float32(), from_pandas=True
        ),
    }
    return pa.Table.from_arrays(
        [columns[field.name] if field.name in columns else _drawn(field, count, rng) for field in OUTCOMES],
        schema=OUTCOMES,
    )


def _drawn(field: pa.Field, count: int, rng: np.random.Generator) -> pa.Array:
    texts = {"arm": "control", "status": "completed", "picker": "HanActor", "router": "router-0", "gpu": "L4"}
    if field.type == pa.string():
        return pa.repeat(pa.scalar(texts.get(field.name, ""), pa.string()), count)
    if field.type == pa.bool_():
        return pa.array(np.zeros(count, np.bool_))
    if field.type == pa.binary():
        return pa.nulls(count, pa.binary())
    numbers: npt.NDArray[np.float64] = rng.gamma(2.0, 100.0 if field.type == pa.int32() else 0.5, count)
    return pa.array(numbers.astype(field.type.to_pandas_dtype()))
