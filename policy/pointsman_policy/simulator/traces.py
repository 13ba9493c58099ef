"""Arrival traces: when requests came and how long they were (format: docs/file-formats.md)."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pointsman_policy.errors import DocumentError
from pointsman_policy.tabular import read_rows


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """n requests in the order of their arrival."""

    source: str
    arrival_seconds: npt.NDArray[np.float64]
    """[n], non-decreasing."""
    prompt_tokens: npt.NDArray[np.int64]
    """[n]"""
    output_tokens: npt.NDArray[np.int64]
    """[n]"""

    def __len__(self) -> int:
        return len(self.arrival_seconds)

    @property
    def span_seconds(self) -> float:
        """From the first arrival to the last."""
        return float(self.arrival_seconds[-1] - self.arrival_seconds[0])

    @property
    def rate(self) -> float:
        """Mean requests per second; infinite if all come at once."""
        return (len(self) - 1) / self.span_seconds if self.span_seconds > 0 else math.inf

    def window(self, start: int, count: int) -> "Trace":
        """Return `count` requests from the row `start` on, the first at 0 s; past its end the trace begins anew."""
        rows = start + np.arange(count)
        period = self.span_seconds + 1 / self.rate
        seconds = self.arrival_seconds[rows % len(self)] + period * (rows // len(self))
        return replace(
            self,
            arrival_seconds=seconds - seconds[:1],
            prompt_tokens=self.prompt_tokens[rows % len(self)],
            output_tokens=self.output_tokens[rows % len(self)],
        )

    def at_rate(self, rate: float) -> "Trace":
        """Return the trace compressed or stretched in time to a mean rate, requests per second; bursts keep their form.

        A trace whose requests all come at once stays as it is.
        """
        factor = self.rate / rate if math.isfinite(self.rate) else 1.0
        return replace(self, arrival_seconds=self.arrival_seconds * factor)


def read_trace(path: Path) -> Trace:
    """Read a CSV of `arrival_s, prompt_tokens, output_tokens`.

    Raises:
        DocumentError: Names the line and column of the first wrong value.
    """
    arrivals: list[float] = []
    lengths: list[tuple[int, int]] = []
    for row in read_rows(path, ("arrival_s", "prompt_tokens", "output_tokens")):
        arrival = row.number("arrival_s", 0, 1e10)
        if arrivals and arrival < arrivals[-1]:
            raise row.error(
                "arrival_s", f"{arrival:g} comes before {arrivals[-1]:g} of the line above; sort by arrival"
            )
        arrivals.append(arrival)
        lengths.append((row.integer("prompt_tokens", 0), row.integer("output_tokens", 0)))
    if len(arrivals) < 2 or arrivals[0] == arrivals[-1]:
        raise DocumentError(str(path), "must hold at least two requests at different times")
    tokens = np.array(lengths, np.int64)
    return Trace(str(path), np.array(arrivals), tokens[:, 0], tokens[:, 1])
