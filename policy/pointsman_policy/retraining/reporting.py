"""How a training tells of itself: a line of JSON for every step, and its result at the end."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pointsman_policy.documents import Document
from pointsman_policy.retraining.files import write_document


class Result(Document):
    """What came out of a training."""

    version: str
    """Of the candidate; empty = there is none."""
    passed: bool
    """Whether it passed the gate."""
    summary: str
    """For people."""


Phase = Literal["loading", "calibrating", "training", "gating", "done", "failed"]

PROGRESS, RESULT = "progress.jsonl", "result.json"
_SPANS: dict[str, tuple[float, float]] = {
    "loading": (0.0, 0.05),
    "calibrating": (0.05, 0.1),
    "training": (0.1, 0.75),
    "gating": (0.75, 1.0),
    "done": (1.0, 1.0),
}
_LEAST_STEP = 0.005


@dataclass
class Reporting:
    """Appends to the progress file of a work folder."""

    folder: Path
    _last: tuple[str, float] = field(default=("", -1.0), init=False)

    def tell(self, phase: Phase, share: float, line: str) -> None:
        """Note how far a phase is; steps too small to be seen are left out.

        Args:
            phase: That it is in.
            share: Of the phase, 0 to 1.
            line: For people.

        Raises:
            OSError: If it cannot be written.
        """
        low, high = _SPANS[phase]
        whole = low + (high - low) * min(max(share, 0.0), 1.0)
        if self._last[0] == phase and whole - self._last[1] < _LEAST_STEP:
            return
        self._last = (phase, whole)
        with (self.folder / PROGRESS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"phase": phase, "share": round(whole, 4), "line": line}) + "\n")


def write_result(folder: Path, result: Result) -> None:
    """Write what came out to a work folder, in one step.

    Raises:
        OSError: If it cannot be written.
    """
    write_document(folder / RESULT, result)
