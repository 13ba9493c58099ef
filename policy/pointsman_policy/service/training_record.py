"""What the service remembers of a training: a file in its work folder, so that it goes on after a restart."""

import json
import logging
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pointsman_policy.documents import Document, parse
from pointsman_policy.errors import DocumentError
from pointsman_policy.experience.fleet import write_durably
from pointsman_policy.experience.policy_key import policies_in, policy_folder

_LOGGER = logging.getLogger(__name__)

_RECORD, _PROGRESS, _RESULT, _LOG, _LOCK = "training.json", "progress.jsonl", "result.json", "log.txt", "lock"
_KEPT = 10
_LONGEST_PROGRESS_BYTES = 64 << 10
_LARGEST_RESULT_BYTES = 1 << 20

Phase = Literal["loading", "calibrating", "training", "gating", "done", "failed"]


class Progress(Document):
    """How far a training is; a line of its progress file."""

    phase: Phase = "loading"
    share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    line: str = Field(default="", max_length=2_000)


class Result(Document):
    """What came out of a training; its result file."""

    version: str = ""
    """Empty = no candidate."""
    passed: bool
    """Whether the candidate passed the gate."""
    summary: str


class TrainingRecord(Document):
    """One training."""

    id: str = Field(pattern="^[0-9a-z-]{1,64}$")
    policy: str
    started_at: Annotated[float, Field(ge=0.0)]
    seed: Annotated[int, Field(ge=0)]
    attempts: Annotated[int, Field(ge=0)] = 0
    """How often its process was started."""
    process: int = 0
    """Id of its process; 0 = it has none."""
    progress: Progress = Progress()
    version: str = ""
    """That came out."""

    @property
    def ended(self) -> bool:
        """Whether it will not go on."""
        return self.progress.phase in ("done", "failed")


class TrainingFiles:
    """Work folders of all trainings, ``trainings/<namespace>/<name>/<id>/``.

    Args:
        root: Of the policy service.
    """

    def __init__(self, root: Path) -> None:
        self._root = root / "trainings"

    def folder(self, record: TrainingRecord) -> Path:
        """Return a training's work folder."""
        return policy_folder(self._root, record.policy) / record.id

    def log(self, record: TrainingRecord) -> Path:
        """Return where a training's process writes what it has to say."""
        return self.folder(record) / _LOG

    def lock(self, record: TrainingRecord) -> Path:
        """Return the file that a training's process holds locked while it lives."""
        return self.folder(record) / _LOCK

    def write(self, record: TrainingRecord) -> None:
        """Keep a record.

        Raises:
            OSError: If it cannot be written.
        """
        write_durably(self.folder(record) / _RECORD, record.model_dump_json(by_alias=True, indent=1).encode())

    def records(self) -> list[TrainingRecord]:
        """Return all trainings, oldest first; those whose record is damaged are left out and logged."""
        found = []
        for policy in policies_in(self._root):
            for path in policy_folder(self._root, policy).glob(f"*/{_RECORD}"):
                try:
                    found.append(parse(TrainingRecord, json.loads(path.read_bytes()), str(path)))
                except (OSError, ValueError, DocumentError) as error:
                    _LOGGER.error("%s: leaving out a training that cannot be read: %s", path, error)
        return sorted(found, key=lambda one: (one.started_at, one.id))

    def old(self, policy: str) -> list[Path]:
        """Return the work folders of a policy's trainings that are not worth keeping any more."""
        ended = [one for one in self.records() if one.policy == policy and one.ended]
        return [self.folder(one) for one in ended[:-_KEPT]]

    def progress(self, record: TrainingRecord) -> Progress:
        """Return the last whole line of the progress file, or what was known before."""
        path = self.folder(record) / _PROGRESS
        try:
            with path.open("rb") as file:
                file.seek(max(path.stat().st_size - _LONGEST_PROGRESS_BYTES, 0))
                lines = file.read().splitlines()
        except OSError:
            return record.progress
        for line in reversed(lines):
            try:
                return parse(Progress, json.loads(line), str(path))
            except (ValueError, DocumentError):
                continue
        return record.progress

    def result(self, record: TrainingRecord) -> Result:
        """Return what came out.

        Raises:
            DocumentError: If the file is missing or damaged.
        """
        path = self.folder(record) / _RESULT
        try:
            if path.stat().st_size > _LARGEST_RESULT_BYTES:
                raise DocumentError(str(path), "is too large for a result; see the log beside it")
            return parse(Result, json.loads(path.read_bytes()), str(path))
        except (OSError, ValueError) as error:
            raise DocumentError(str(path), f"cannot be read ({error}); see the log beside it") from error
