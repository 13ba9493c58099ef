"""Figures of the paper's experiment as PNG files: QoS and resource efficiency over the load, and learning curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from pointsman_policy.evaluation.bench import BenchRun
from pointsman_policy.evaluation.paper import BASELINES, FLAT, OTHERS, PAPER, PaperPlan, Standing, standings

_COLOURS = dict(
    zip(
        (PAPER, FLAT, *BASELINES, *OTHERS),
        ("#d1495b", "#edae49", "#8d96a3", "#66717e", "#b9c0c9", "#00798c", "#30638e"),
        strict=False,
    )
)
_DPI = 90

Curve = tuple[Sequence[float], Sequence[float]]
"""(frames, mean QoS on the validation situations)."""


def draw_standings(path: Path, plan: PaperPlan, runs: Sequence[BenchRun]) -> None:
    """Draw mean QoS and resource efficiency over the load, a column for each scenario.

    Args:
        path: PNG file to be written.
        plan: The plan.
        runs: At least one run of each rule in each scenario.
    """
    scenarios = list(dict.fromkeys(run.scenario.name for run in runs))
    figure, axes = plt.subplots(2, len(scenarios), figsize=(3.2 * len(scenarios) + 1.5, 5.4), squeeze=False)
    for column, scenario in enumerate(scenarios):
        loads = sorted({run.load for run in runs if run.scenario.name == scenario})
        by_load = [{one.kind: one for one in standings(plan, runs, scenario, load)} for load in loads]
        for kind in by_load[0]:
            _draw_kind(axes[:, column], kind, loads, [cell[kind] for cell in by_load])
        axes[0, column].set_title(scenario, fontsize=10)
        axes[0, column].set_ylim(0, None)
        axes[1, column].set_ylim(0, None)
        axes[1, column].set_xlabel("load (1 = capacity)")
    axes[0, 0].set_ylabel("mean QoS")
    axes[1, 0].set_ylabel("QoS per busy second")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="center right", fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0, 1 - 1.5 / figure.get_figwidth(), 1))
    _save(figure, path)


def _draw_kind(axes: Any, kind: str, loads: Sequence[float], cells: Sequence[Standing]) -> None:
    width = 2.2 if kind == PAPER else 1.2
    colour = _COLOURS.get(kind)
    (line,) = axes[0].plot(
        loads, [cell.qos for cell in cells], "o-", markersize=3, linewidth=width, color=colour, label=kind
    )
    if cells[0].agents > 1:
        least, greatest = [cell.least for cell in cells], [cell.greatest for cell in cells]
        axes[0].fill_between(loads, least, greatest, color=line.get_color(), alpha=0.2, linewidth=0)
    axes[1].plot(
        loads, [cell.efficiency for cell in cells], "o-", markersize=3, linewidth=width, color=line.get_color()
    )


def draw_curves(path: Path, title: str, curves: Mapping[str, Sequence[Curve]], levels: Mapping[str, float]) -> None:
    """Draw learning curves: thin lines for the runs of a kind, a thick one for their mean.

    Args:
        path: PNG file to be written.
        title: Of the figure.
        curves: Runs by their kind.
        levels: Mean QoS of rules that do not learn, by name, on the same situations.
    """
    figure, axes = plt.subplots(figsize=(7.0, 4.0))
    for index, (kind, of_kind) in enumerate(curves.items()):
        colour = _COLOURS.get(kind, f"C{index}")
        for frames, qos in of_kind:
            axes.plot(frames, qos, linewidth=0.8, alpha=0.5, color=colour)
        grid = np.linspace(0, min(max(frames) for frames, _ in of_kind), 40)
        mean = np.mean([np.interp(grid, frames, qos) for frames, qos in of_kind], axis=0)
        axes.plot(grid, mean, linewidth=2.2, color=colour, label=kind)
    for name, level in levels.items():
        axes.axhline(level, linestyle=":", linewidth=1.2, color=_COLOURS.get(name, "#999999"))
        axes.annotate(name, (1.0, level), xycoords=("axes fraction", "data"), fontsize=7, va="center")
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("frames (routing decisions)")
    axes.set_ylabel("mean QoS on validation situations")
    axes.set_ylim(0, None)
    axes.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
    plt.close(figure)
