"""The gate's verdict as a picture: what a candidate gains in each scenario, and how sure that is."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from pointsman_policy.registry.version import GateReport

_INCHES = 8.0
_INCHES_PER_SCENARIO = 0.34
_GOOD, _BAD, _UNDECIDED = "#2b7a3d", "#b3262e", "#777777"


def plot_gate(report: GateReport, title: str, path: Path) -> None:
    """Draw a verdict.

    Args:
        report: With at least one scenario.
        title: Above the picture.
        path: PNG file to write.

    Raises:
        OSError: If it cannot be written.
    """
    scenarios = report.scenarios[::-1]
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(_INCHES, 1.6 + _INCHES_PER_SCENARIO * len(scenarios)), layout="constrained")
        axes = figure.add_subplot()
        for place, one in enumerate(scenarios):
            color = _GOOD if one.gain_low > 0 else _BAD if one.gain_high < 0 else _UNDECIDED
            axes.plot([one.gain_low, one.gain_high], [place, place], color=color, linewidth=2)
            axes.plot([one.gain], [place], "o", color=color, markersize=5)
        axes.axvline(0.0, color="black", linewidth=0.8)
        axes.axvline(report.gain_lower_bound, color="black", linewidth=0.8, linestyle=":")
        axes.set_yticks(range(len(scenarios)), _labels([one.name for one in scenarios]))
        axes.set_xlabel("QoS gained over the active version, with its interval; dotted: lower bound over all")
        axes.set_title(f"{title}: {'passed' if report.passed else 'refused'}", loc="left")
        figure.savefig(path, dpi=120)


def _labels(names: Sequence[str]) -> list[str]:
    return [name if len(name) <= 48 else f"{name[:47]}…" for name in names]
