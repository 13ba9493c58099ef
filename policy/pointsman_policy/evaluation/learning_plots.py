"""Figures of continuous learning."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]


def plot_over_time(
    path: Path, arrivals: Floats, qos: Mapping[str, Floats], marks: Mapping[str, float], window_seconds: float = 30.0
) -> None:
    """Draw how the mean QoS of several policies goes, each point over the window before it.

    Args:
        path: Of the PNG.
        arrivals: Seconds, rising, [n].
        qos: Of each request, [n], by the policy's name.
        marks: Moments to be named, seconds.
        window_seconds: Width of the window.

    Raises:
        OSError: If the file cannot be written.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot()
    times = np.arange(0.0, arrivals[-1], window_seconds / 15)
    first = np.searchsorted(arrivals, times - window_seconds)
    last = np.maximum(np.searchsorted(arrivals, times), first + 1)
    for name, values in qos.items():
        sums = np.concatenate([[0.0], np.cumsum(values)])
        axes.plot(times, (sums[last] - sums[first]) / (last - first), label=name)
    for name, at in marks.items():
        axes.axvline(at, color="grey", linewidth=0.8)
        axes.text(at, axes.get_ylim()[1], f" {name}", va="top", fontsize=8)
    axes.set_xlabel("seconds")
    axes.set_ylabel(f"mean QoS of {window_seconds:g} s")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)
