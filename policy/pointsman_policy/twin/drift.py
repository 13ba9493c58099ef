"""Drift: whether experts still take as long as a version believes.

Routers follow each expert's pace by themselves, so their predictions hide that a version's beliefs have become wrong.
Here measured times are set against what the believed coefficients make of the batches that really ran. A two-sided
CUSUM over the logarithms of the ratios (Page, "Continuous inspection schemes", Biometrika 1954) tells drift from noise
as soon as it is sure; its sums are bounded, so that it takes back an alarm once the expert is as believed again.
"""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pointsman_policy.experience.fleet import FleetExpert
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.twin.calibration import believed_coefficients
from pointsman_policy.twin.served import Served, decode_rows

Floats = npt.NDArray[np.float64]

COLUMNS = ("decided_at", "expert", "status", "prompt_tokens", "output_tokens", "ttft_seconds", "duration_seconds")
"""Of outcomes, that drift is told from."""

_MEASURED = ("decided_at", "ttft_seconds", "duration_seconds", "prompt_tokens", "output_tokens")

_WINDOW = 400
"""Newest outcomes of each expert that are looked at."""
_RECENT = 50
"""Newest ratios that the median is over."""
_LEAST = 20
_TOLERATED = 0.075
"""Logarithm: half of a drift of 16 %, which is to be found soon."""
_ALARM = 1.5
_MOST_SUM = 2.0 * _ALARM
_LARGEST = 0.5
"""Logarithm that one ratio counts for at most: a single stall is no drift."""


@dataclass(frozen=True, slots=True)
class ExpertDrift:
    """How far an expert is from what is believed of it."""

    expert: str
    ratio: float
    """Measured over believed seconds, median of recent requests; 1 = as believed."""
    drifted: bool


class DriftWatch:
    """Watches the experts of one policy under the beliefs of its active version; safe for use from several threads.

    Args:
        experts: As declared.
        believed: Of the active version; a new version needs a new watch.
    """

    def __init__(self, experts: Sequence[FleetExpert], believed: Calibration) -> None:
        experts = [expert for expert in experts if expert.base_seconds > 0.0]
        self._believed = {expert.name: believed_coefficients(expert, believed) for expert in experts}
        self._lock = threading.Lock()
        self._newest: dict[str, deque[tuple[float, ...]]] = {expert.name: deque(maxlen=_WINDOW) for expert in experts}

    def take(self, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take in outcomes, in any order.

        Args:
            columns: At least `COLUMNS`, texts as such and unknown numbers as NaN, [rows].
        """
        tokens, ttft = columns["output_tokens"], columns["ttft_seconds"]
        known = (columns["status"] == "completed") & (tokens >= 2.0) & (ttft > 0.0)
        known &= columns["duration_seconds"] > ttft
        with self._lock:
            for row in np.flatnonzero(known):
                newest = self._newest.get(str(columns["expert"][row]))
                if newest is not None:
                    newest.append(tuple(float(columns[name][row]) for name in _MEASURED))

    def drifts(self) -> tuple[ExpertDrift, ...]:
        """Return how far each expert is from what is believed of it; those that served too little are left out."""
        with self._lock:
            measured = {expert: np.array(newest) for expert, newest in sorted(self._newest.items())}
        found = []
        for expert, table in measured.items():
            ratios = self._ratios(expert, table)
            if len(ratios) >= _LEAST:
                ratio = float(np.exp(np.median(ratios[-_RECENT:])))
                found.append(ExpertDrift(expert, ratio, has_drifted(ratios)))
        return tuple(found)

    def _ratios(self, expert: str, table: Floats) -> Floats:
        if len(table) < _LEAST:
            return np.zeros(0)
        at, ttft, duration, prompt, output = table[np.argsort(table[:, 0], kind="stable")].T
        served = Served(at, at + ttft, at + duration, prompt, output, np.ones(len(at), np.bool_))
        rows = decode_rows(served, self._believed[expert])
        ratios = np.log(rows.seconds / (rows.terms @ self._believed[expert]))
        ordered: Floats = ratios[np.argsort(rows.at, kind="stable")]
        return ordered


def has_drifted(ratios: Floats) -> bool:
    """Tell whether the level of ratios has moved away from 0 and has not come back.

    Args:
        ratios: Logarithms of measured over believed seconds, in order of time, [n].
    """
    slower = faster = 0.0
    for ratio in np.clip(ratios, -_LARGEST, _LARGEST).tolist():
        slower = min(max(slower + ratio - _TOLERATED, 0.0), _MOST_SUM)
        faster = min(max(faster - ratio - _TOLERATED, 0.0), _MOST_SUM)
    return max(slower, faster) >= _ALARM
