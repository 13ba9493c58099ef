"""What an emulated server counts for its metrics."""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field

FIRST_TOKEN_BOUNDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0),
    *(2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
"""vLLM's buckets, seconds."""
TOKEN_GAP_BOUNDS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0),
    *(2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
END_TO_END_BOUNDS = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
LATENESS_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
FINISHED_REASONS = ("stop", "length", "abort")
"""Why an answer ended: by itself, at the request's limit, or because the client left."""


class Histogram:
    """Counts of values by upper bound.

    Args:
        bounds: Ascending; values above the last one are counted too.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        """Per bucket, not cumulative."""
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass(slots=True)
class Statistics:
    """Totals since the start of a server; its engine counts tokens and the gaps between them."""

    prompt_tokens: int = 0
    """Of answers that have begun."""
    ttft_seconds: Histogram = field(default_factory=lambda: Histogram(FIRST_TOKEN_BOUNDS))
    e2e_seconds: Histogram = field(default_factory=lambda: Histogram(END_TO_END_BOUNDS))
    """Of answers that were not aborted."""
    finished: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FINISHED_REASONS, 0))
    """By reason."""
    lateness_seconds: Histogram = field(default_factory=lambda: Histogram(LATENESS_BOUNDS))
    """How much later than due tokens were told of; if that is long, the machine is too slow for the emulation."""
