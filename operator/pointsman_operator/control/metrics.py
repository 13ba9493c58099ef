"""What the operator exports to Prometheus; every name is in docs/metrics.md."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge

from pointsman_operator.control.status_document import Status

_STATUSES = ("True", "False", "Unknown")


class OperatorMetrics:
    """The operator's metrics.

    Args:
        registry: Where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._policies = Gauge(
            "pointsman_operator_policies",
            "RouterPolicies by condition and its status.",
            ("condition", "status"),
            registry=registry,
        )
        self._active = Gauge(
            "pointsman_operator_active", "1 if this replica is the active one, 0 if it stands by.", registry=registry
        )
        self._policy_service: Gauge | None = None
        self._status_writes = Counter(
            "pointsman_operator_status_writes",
            "Writes of a RouterPolicy's status: stored, gone (the policy was deleted meanwhile) or failed.",
            ("result",),
            registry=registry,
        )
        self._router_polls = Counter(
            "pointsman_operator_router_polls",
            "Questions to routers what they run: answered or failed.",
            ("result",),
            registry=registry,
        )
        self._admission_reviews = Counter(
            "pointsman_operator_admission_reviews",
            "RouterPolicies that the webhook was asked about: allowed, warned (allowed, but doubtful) or refused.",
            ("result",),
            registry=registry,
        )
        self._events = Counter(
            "pointsman_operator_events",
            "Kubernetes events about RouterPolicies: posted, suppressed (too many) or failed.",
            ("result",),
            registry=registry,
        )

    def policy_service_connected(self, *, connected: bool) -> None:
        """Tell whether the policy service answers."""
        if self._policy_service is None:
            self._policy_service = Gauge(
                "pointsman_operator_policy_service_connected",
                "1 if the policy service answers the operator, 0 if not; absent where there is none.",
                registry=self.registry,
            )
        self._policy_service.set(connected)

    def active(self, *, active: bool) -> None:
        """Tell whether this replica is the active one."""
        self._active.set(active)

    def policies(self, statuses: Iterable[Status]) -> None:
        """Count policies by condition."""
        counts: dict[tuple[str, str], int] = {}
        for status in statuses:
            for condition in status.conditions:
                for one in _STATUSES:
                    counts.setdefault((condition.type, one), 0)
                counts[condition.type, condition.status] += 1
        self._policies.clear()
        for (kind, one), count in counts.items():
            self._policies.labels(kind, one).set(count)

    def status_written(self, result: str) -> None:
        """Count a write of a status."""
        self._status_writes.labels(result).inc()

    def router_polled(self, result: str) -> None:
        """Count a question to a router."""
        self._router_polls.labels(result).inc()

    def reviewed(self, result: str) -> None:
        """Count an admission review."""
        self._admission_reviews.labels(result).inc()

    def event(self, result: str) -> None:
        """Count an event."""
        self._events.labels(result).inc()
