"""Arrival traces, when requests came and how long they were, and rates over time (formats: docs/file-formats.md)."""

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


_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True, eq=False)
class RateSeries:
    """Measured rates of arrivals in equal steps of time."""

    source: str
    step_seconds: float
    rates: npt.NDArray[np.float64]
    """Requests per second, at least 0, [K]."""

    def __len__(self) -> int:
        return len(self.rates)

    def day(self, start: int) -> npt.NDArray[np.float64]:
        """Return the rates of 24 hours from a row on; past its end the series begins anew.

        A day without any request has none to follow; the whole series is returned in its place.
        """
        rows = start + np.arange(max(round(_DAY_SECONDS / self.step_seconds), 1))
        day = self.rates[rows % len(self)]
        return day if day.any() else self.rates


def read_rates(path: Path, column: str) -> RateSeries:
    """Read a CSV of `t_s` and rates.

    Args:
        path: The file.
        column: Which of its columns holds the rates.

    Raises:
        DocumentError: Names the line and column of the first wrong value.
    """
    seconds: list[float] = []
    rates: list[float] = []
    for row in read_rows(path, ("t_s", column)):
        at = row.number("t_s", 0, 1e10)
        step = seconds[1] - seconds[0] if len(seconds) > 1 else 0.0
        if seconds and (at <= seconds[-1] or (step and not math.isclose(at - seconds[-1], step, rel_tol=1e-6))):
            raise row.error("t_s", f"{at:g} after {seconds[-1]:g}; rows must be in equal steps of time")
        seconds.append(at)
        rates.append(row.number(column, 0, 1e9))
    if len(seconds) < 2 or not any(rates):
        raise DocumentError(str(path), f"must hold at least two rows and a rate above 0 in {column}")
    return RateSeries(str(path), seconds[1] - seconds[0], np.array(rates))
