"""Prometheus metrics of what the router tells the policy service, and of what it takes from there."""

from collections.abc import Callable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge

Loss = Literal["memory", "disk", "damaged", "too_large", "refused"]
"""Why a record was dropped: no room in memory, no room on disk, its file was damaged, it was larger than any may be, or
the policy service made no sense of it."""
Link = Literal["outcomes", "versions"]


class LearningMetrics:
    """Counts records and links; every method takes microseconds, and may be called in any thread.

    Args:
        registry: Where the metrics are registered; one `LearningMetrics` per registry.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._recorded = Counter(
            "pointsman_outcomes_recorded", "Records for the policy service that were made.", registry=registry
        )
        self._submitted = Counter(
            "pointsman_outcomes_submitted", "Records that the policy service has acknowledged.", registry=registry
        )
        self._dropped = Counter(
            "pointsman_outcomes_dropped", "Records that were lost, by reason.", ["reason"], registry=registry
        )
        self._connected = Gauge(
            "pointsman_policy_service_connected",
            "1 while this link to the policy service works.",
            ["link"],
            registry=registry,
        )
        self._version_problems = Counter(
            "pointsman_version_problems",
            "Times that a version of a policy could not be taken over.",
            ["policy"],
            registry=registry,
        )
        for reason in Loss.__args__:  # type: ignore[attr-defined]
            self._dropped.labels(reason)
        for link in Link.__args__:  # type: ignore[attr-defined]
            self._connected.labels(link)

    def recorded(self) -> None:
        """Count a record that was made."""
        self._recorded.inc()

    def submitted(self, count: int) -> None:
        """Count records that the policy service has."""
        self._submitted.inc(count)

    def dropped(self, reason: Loss, count: int) -> None:
        """Count records that are lost."""
        self._dropped.labels(reason).inc(count)

    def connected(self, link: Link, *, up: bool) -> None:
        """Note whether a link works."""
        self._connected.labels(link).set(float(up))

    def version_problem(self, policy: str) -> None:
        """Count a version that could not be taken over; `policy` is a RouterPolicy's key."""
        self._version_problems.labels(policy).inc()

    def watch_spool(self, records: Callable[[], int], size_bytes: Callable[[], int]) -> None:
        """Export what waits to be submitted, read at each scrape."""
        Gauge(
            "pointsman_outcome_spool_records", "Records that wait to be acknowledged.", registry=self._registry
        ).set_function(records)
        Gauge(
            "pointsman_outcome_spool_bytes",
            "Room that they take, on disk and in memory.",
            registry=self._registry,
        ).set_function(size_bytes)
