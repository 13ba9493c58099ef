"""What a training run tells of itself while it lasts: rows, TensorBoard events, and curves as a picture."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

CURVES = "curves.png"
EVENTS = "tensorboard"
_COLUMNS = 2
_PANEL_INCHES = (6.0, 3.0)


class TrainingLog:
    """The figures of each round.

    Args:
        folder: Gets `tensorboard/` and `curves.png`.
        rows: Those of rounds before an interruption; what was logged after them is forgotten.
    """

    def __init__(self, folder: Path, rows: Sequence[Mapping[str, float]] = ()) -> None:
        self._folder = folder
        self.rows: list[dict[str, float]] = [dict(row) for row in rows]
        last = self.rows[-1]["round"] if self.rows else 0
        self._writer = SummaryWriter(str(folder / EVENTS), purge_step=int(last) + 1)

    def add(self, rounds: int, values: Mapping[str, float]) -> None:
        """Log the figures of a round by name; those that are not finite are left out."""
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        self.rows.append({"round": float(rounds), **finite})
        for name, value in finite.items():
            self._writer.add_scalar(name, value, rounds)

    def plot(self) -> Path:
        """Draw every curve and return the picture's path; names that differ only before "/" share a panel."""
        panels: dict[str, list[str]] = {}
        for name in dict.fromkeys(name for row in self.rows for name in row if name != "round"):
            panels.setdefault(name.rpartition("/")[2], []).append(name)
        path = self._folder / CURVES
        lines = -(-max(len(panels), 1) // _COLUMNS)
        with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
            figure = Figure(figsize=(_COLUMNS * _PANEL_INCHES[0], lines * _PANEL_INCHES[1]), layout="constrained")
            for index, (title, names) in enumerate(panels.items()):
                axes = figure.add_subplot(lines, _COLUMNS, index + 1)
                for name in names:
                    rows = [row for row in self.rows if name in row]
                    axes.plot([row["round"] for row in rows], [row[name] for row in rows], label=name)
                axes.set_title(title.replace("_", " "))
                axes.set_xlabel("round")
                if len(names) > 1:
                    axes.legend(frameon=False)
            figure.savefig(path, dpi=110)
        return path

    def close(self) -> None:
        """Write what is still buffered, and the picture."""
        self._writer.close()
        if self.rows:
            self.plot()
