"""The seams of telemetry: what a source of load is, and who is told how reading went."""

import enum
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.telemetry.sample import LoadSample


class DropReason(enum.StrEnum):
    """Why something that was read is not believed. A closed set, fit for a metric's label."""

    MALFORMED = "malformed"
    """It is not a number, a line or a series at all."""
    NOT_A_NUMBER = "not_a_number"
    INFINITE = "infinite"
    NEGATIVE = "negative"
    OUT_OF_RANGE = "out_of_range"
    """A KV-cache use above 1.5, or a number of requests that no server holds."""
    FUTURE = "future"
    """Its timestamp lies ahead of our clock by more than clocks differ."""
    AMBIGUOUS_MODEL = "ambiguous_model"
    """Series of several models, none of which is the expert's."""
    UNREACHABLE = "unreachable"
    """The expert did not answer in time."""
    ERROR_STATUS = "error_status"
    """The expert answered, but not with status 200."""
    TOO_LARGE = "too_large"
    """The expert's answer exceeds the size limit."""
    NO_METRICS = "no_metrics"
    """The expert's answer holds none of its engine's metrics."""

    @property
    def in_words(self) -> str:
        """What to tell people."""
        return _IN_WORDS.get(self, self.value.replace("_", " "))


_IN_WORDS = {
    DropReason.FUTURE: "stamped in the future",
    DropReason.AMBIGUOUS_MODEL: "series of other models only",
    DropReason.ERROR_STATUS: "answers with an error status",
    DropReason.TOO_LARGE: "answer too large",
    DropReason.NO_METRICS: "none of its engine's metrics",
}


class TelemetryEvents(Protocol):
    """Told how reading goes; called on the event loop, must be quick and must not raise."""

    def collected(self, source: str, succeeded: bool) -> None:
        """One collection from a source ("Prometheus" or "DirectScrape") has ended."""

    def sampled(self, endpoint: str) -> None:
        """A new sample of an expert ("ip:port") was passed on."""

    def dropped(self, source: str, endpoint: str, reason: DropReason, count: int) -> None:
        """Something read of an expert was not believed, `count` times; `endpoint` is empty where it is nobody's."""


@dataclass(slots=True)
class TelemetryCounts:
    """`TelemetryEvents` that only counts."""

    collections: Counter[tuple[str, bool]] = field(default_factory=Counter)
    """Ended collections by (source, succeeded)."""
    samples: Counter[str] = field(default_factory=Counter)
    """New samples by endpoint."""
    drops: Counter[tuple[str, DropReason]] = field(default_factory=Counter)
    """What was not believed, by (source, reason)."""
    problems: Counter[str] = field(default_factory=Counter)
    """What was not believed, by endpoint."""

    def collected(self, source: str, succeeded: bool) -> None:
        """Count one collection."""
        self.collections[source, succeeded] += 1

    def sampled(self, endpoint: str) -> None:
        """Count a new sample."""
        self.samples[endpoint] += 1

    def dropped(self, source: str, endpoint: str, reason: DropReason, count: int) -> None:
        """Count what was dropped."""
        self.drops[source, reason] += count
        self.problems[endpoint] += count


class LoadSource(Protocol):
    """Somewhere to read the experts' load."""

    @property
    def problem(self) -> str | None:
        """What was wrong with the last collection that still gave something; None = nothing."""

    async def collect(self, endpoints: Sequence[Endpoint]) -> list[LoadSample]:
        """Read the load of these experts: at most one sample each, none for those of which nothing is known.

        Raises:
            TelemetryError: If the source as a whole is unusable now.
        """

    async def close(self) -> None:
        """Give connections and threads back; nothing may be collected afterwards."""


def missing_problem(
    source: str,
    endpoints: Sequence[Endpoint],
    samples: Sequence[LoadSample],
    drops: Mapping[tuple[str, DropReason], int],
    advice: str,
) -> str | None:
    """Say which experts a collection knows nothing of, and why; None if it knows all.

    Args:
        source: Where was read.
        endpoints: Who was to be read.
        samples: What was read.
        drops: What was not believed, by "ip:port" and reason.
        advice: What to do.
    """
    known = {sample.endpoint for sample in samples}
    missing = [endpoint for endpoint in endpoints if endpoint.address not in known]
    if not missing:
        return None
    named = ", ".join(_named(endpoint, drops) for endpoint in missing[:3]) + (", ..." if len(missing) > 3 else "")
    return f"{source} knows nothing of {len(missing)} of {len(endpoints)} experts ({named}); {advice}"


def _named(endpoint: Endpoint, drops: Mapping[tuple[str, DropReason], int]) -> str:
    reasons = [reason.in_words for address, reason in drops if address == endpoint.address]
    return f"{endpoint.name}: {', '.join(reasons)}" if reasons else endpoint.name
