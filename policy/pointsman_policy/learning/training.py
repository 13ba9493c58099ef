"""A training run: its budget, its log, its checkpoints. What is trained is an agent's business.

A run goes on in rounds. After each the agent records figures and saves its state; a run that was killed goes on from
the last state saved, and an agent whose next round depends on that state only ends where it would have without the
interruption.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from pointsman_policy.errors import DocumentError
from pointsman_policy.learning.training_log import TrainingLog
from pointsman_policy.simulator.scenario import read_scenario

CHECKPOINT = "checkpoint.json"
_SCHEMA = 1
_ARRAYS = "checkpoint-{}.safetensors"

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class TrainingPlan:
    """What the user asked for."""

    agent: str
    folder: Path
    """For everything that the run writes."""
    seed: int = 0
    minutes: float | None = None
    """Of work, interruptions not counted; None = not limited."""
    rounds: int | None = None
    """None = not limited; a run that only this limits has the same result each time."""
    scenarios: tuple[Path, ...] = ()
    """Scenario files to mix in; none = made-up situations only."""
    processes: int | None = None
    """That work at once; None = one a core. The result does not depend on it."""

    def __post_init__(self) -> None:
        if self.minutes is None and self.rounds is None:
            raise DocumentError("--minutes", "a run needs an end; give --minutes or --rounds")
        if self.seed < 0:
            raise DocumentError("--seed", "must be 0 or more")

    def check_scenarios(self) -> None:
        """Read the scenarios once, so that a wrong one is told before anything runs.

        Raises:
            DocumentError: If one of them cannot be read or is wrong.
        """
        for path in self.scenarios:
            read_scenario(path)

    def identity(self) -> dict[str, object]:
        """Return what must be the same for a run to go on."""
        return {"agent": self.agent, "seed": self.seed, "scenarios": [str(path) for path in self.scenarios]}


class Checkpoint(NamedTuple):
    """Where a run was."""

    rounds: int
    state: dict[str, Any]
    """JSON values."""
    arrays: dict[str, npt.NDArray[Any]]


@dataclass
class TrainingRun:
    """What an agent works with. Use it as a context: it closes its log at the end.

    Args:
        plan: What the user asked for.
        resume: Go on from the folder's checkpoint, if it holds one.
        clock: Seconds.
        progress: Called with the share of the budget that is used up, 0 to 1, and a line on how it goes.
    """

    plan: TrainingPlan
    resume: bool = False
    clock: Callable[[], float] = time.monotonic
    progress: Callable[[float, str], None] = lambda share, line: None
    log: TrainingLog = field(init=False)
    _rounds: int = field(default=0, init=False)
    _seconds_before: float = field(default=0.0, init=False)
    _started: float = field(init=False)
    _checkpoint: Checkpoint | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        rows: list[dict[str, float]] = []
        if (self.plan.folder / CHECKPOINT).exists():
            if not self.resume:
                raise DocumentError(
                    str(self.plan.folder), "holds a training run; go on with --resume, or choose another --out"
                )
            self._checkpoint, self._seconds_before, rows = _read(self.plan)
            self._rounds = self._checkpoint.rounds
        self.log = TrainingLog(self.plan.folder, rows)
        self._started = self.clock()

    def __enter__(self) -> "TrainingRun":
        return self

    def __exit__(self, *exception: object) -> None:
        self.log.close()

    @property
    def checkpoint(self) -> Checkpoint | None:
        """Where to go on; None = from the start."""
        return self._checkpoint

    @property
    def seconds(self) -> float:
        """Of work so far, those before an interruption included."""
        return self._seconds_before + self.clock() - self._started

    @property
    def share(self) -> float:
        """Of the budget that is used up, 0 to 1."""
        shares = [0.0]
        if self.plan.minutes is not None:
            shares.append(self.seconds / max(60.0 * self.plan.minutes, 1e-9))
        if self.plan.rounds is not None:
            shares.append(self._rounds / self.plan.rounds if self.plan.rounds else 1.0)
        return min(max(shares), 1.0)

    @property
    def is_over(self) -> bool:
        """Whether the budget is used up."""
        return self.share >= 1.0

    def record(self, rounds: int, values: Mapping[str, float], line: str = "") -> None:
        """Log the figures of a round.

        Args:
            rounds: Done so far, this one included.
            values: By name; a name's part before "/" groups curves.
            line: On how it goes, for the progress bar.
        """
        self._rounds = rounds
        self.log.add(rounds, values)
        self.progress(self.share, line)

    def description(self) -> dict[str, str]:
        """Return where the policy comes from, for its manifest: the command that makes it and what it took."""
        plan = self.plan
        command = ["pointsman train", f"--agent {plan.agent}", f"--seed {plan.seed}", f"--rounds {self._rounds}"]
        command += [f"--scenario {path.name}" for path in plan.scenarios]
        return {
            "command": " ".join(command),
            "data": "made-up situations" + (" and the scenarios, half and half" if plan.scenarios else ""),
            "rounds": str(self._rounds),
            "minutes": f"{self.seconds / 60:.1f}",
        }

    def save(self, state: Mapping[str, Any], arrays: Arrays | None = None) -> None:
        """Write a checkpoint of all recorded rounds, in place of the one before.

        Args:
            state: JSON values.
            arrays: Numbers that are too many for JSON; contiguous.

        Raises:
            OSError: If it cannot be written; the one before then stays.
        """
        folder, name = self.plan.folder, _ARRAYS.format(self._rounds)
        if arrays is not None:
            save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, folder / name)
        document = {
            "schema": _SCHEMA,
            "plan": self.plan.identity(),
            "rounds": self._rounds,
            "seconds": self.seconds,
            "arrays": name if arrays is not None else None,
            "state": dict(state),
            "log": self.log.rows,
        }
        write_json(folder / CHECKPOINT, document)
        for old in folder.glob(_ARRAYS.format("*")):
            if old.name != name:
                old.unlink()


def write_json(path: Path, document: object) -> None:
    """Replace a JSON file in one step.

    Raises:
        OSError: If it cannot be written; the old file then stays.
    """
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
        json.dump(document, file)
        file.write("\n")
    temporary = Path(file.name)
    temporary.chmod(0o644)
    os.replace(temporary, path)  # noqa: PTH105


def _read(plan: TrainingPlan) -> tuple[Checkpoint, float, list[dict[str, float]]]:
    path = plan.folder / CHECKPOINT
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        schema, found = document["schema"], document["plan"]
        if schema == _SCHEMA and found == plan.identity():
            name = document["arrays"]
            arrays = {} if name is None else load_file(plan.folder / Path(name).name)
            checkpoint = Checkpoint(int(document["rounds"]), dict(document["state"]), arrays)
            return checkpoint, float(document["seconds"]), list(document["log"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise DocumentError(str(path), f"is no checkpoint that can be read ({error}); choose another --out") from error
    differing = ", ".join(key for key, value in plan.identity().items() if found.get(key) != value) or "schema"
    raise DocumentError(
        str(path), f"belongs to a run with another {differing}; give the same to go on, or choose another --out"
    )


class Agent(Protocol):
    """Something that can be trained."""

    name: str
    summary: str
    """One sentence for people."""

    def train(self, run: TrainingRun) -> Path:
        """Train until the run is over and return the folder of the exported policy."""
