"""Every Prometheus metric of the router, behind methods named after events; only this module knows the client library.

All names carry the prefix ``pointsman_`` and base units. Label values that could grow without bound (reasons, policies,
endpoints) go through :class:`CappedLabel`, which turns everything beyond its cap into ``other``.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pointsman_operator.decision import ExpertView, OutcomeStatus
from pointsman_operator.problems import Problems

OTHER = "other"
LABEL_CAP = 200
LABEL_LENGTH = 128

PICK_BUCKETS = (50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3)
TTFT_BUCKETS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)
PER_TOKEN_BUCKETS = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0)

Surface = Literal["ext_proc", "grpc"]
LatencyKind = Literal["ttft", "tpot", "ntpot"]
LATENCY_HELP: dict[LatencyKind, str] = {
    "ttft": "time to first token",
    "tpot": "time per output token after the first",
    "ntpot": "normalized time per output token: duration over tokens, queueing and prefill included",
}


class CappedLabel:
    """Bounds the values of one label: the first `cap` distinct ones pass, later or over-long ones become ``other``."""

    def __init__(self, cap: int = LABEL_CAP) -> None:
        self._cap = cap
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        """Return the value to use as the label."""
        if value in self._known:
            return value
        if len(self._known) >= self._cap or len(value) > LABEL_LENGTH:
            return OTHER
        self._known.add(value)
        return value


@dataclass(frozen=True, slots=True)
class TelemetryCount:
    """What telemetry has read of one expert since the router started."""

    endpoint: str
    """"ip:port"."""
    samples: int
    problems: int
    """Readings that failed or made no sense."""


ChildT = TypeVar("ChildT", Counter, Histogram)


class _Family(Generic[ChildT]):
    """The children of a labelled metric, each looked up once; label values must be bounded."""

    def __init__(self, metric: ChildT) -> None:
        self._metric: ChildT = metric
        self._children: dict[tuple[str, ...], ChildT] = {}

    def __call__(self, *values: str) -> ChildT:
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._metric.labels(*values)
        return child


class Metrics:
    """The router's metrics in a registry of their own. Every method takes microseconds; call them on the event loop.

    Args:
        registry: Where the metrics are registered; one `Metrics` per registry.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._policy, self._picker, self._reason, self._dropped = (CappedLabel() for _ in range(4))
        self._define_decisions(registry)
        self._define_outcomes(registry)
        self._define_transport(registry)

    def _define_decisions(self, registry: CollectorRegistry) -> None:
        self._requests = _Family(
            Counter(
                "pointsman_requests",
                "Requests answered, by surface (ext_proc, grpc), policy (empty where none applied) and HTTP status.",
                ["surface", "policy", "code"],
                registry=registry,
            )
        )
        self._decisions = _Family(
            Counter(
                "pointsman_decisions",
                "Decisions, by the picker that answered.",
                ["policy", "picker"],
                registry=registry,
            )
        )
        self._pick_duration = _Family(
            Histogram(
                "pointsman_pick_duration_seconds",
                "Time from query to decision, all pickers of the chain included.",
                ["picker"],
                buckets=PICK_BUCKETS,
                registry=registry,
            )
        )
        self._fallbacks = _Family(
            Counter(
                "pointsman_fallback_picks",
                "Times that a picker did not answer and the next one of its chain was asked.",
                ["picker", "reason"],
                registry=registry,
            )
        )
        self._drops = _Family(
            Counter(
                "pointsman_dropped_requests",
                "Requests that got no expert, by reason.",
                ["policy", "reason"],
                registry=registry,
            )
        )
        self._routing_errors = _Family(
            Counter("pointsman_routing_errors", "Unexpected exceptions while routing.", ["surface"], registry=registry)
        )

    def _define_outcomes(self, registry: CollectorRegistry) -> None:
        labels = ["policy", "picker"]
        self._finished = _Family(
            Counter(
                "pointsman_finished_requests", "Decisions with a known end.", [*labels, "status"], registry=registry
            )
        )
        self._expired = Counter(
            "pointsman_expired_decisions", "Decisions whose end was never reported in time.", registry=registry
        )
        self._slo_judged = _Family(
            Counter(
                "pointsman_slo_judged_requests", "Finished requests that had an objective.", labels, registry=registry
            )
        )
        self._slo_attained = _Family(
            Counter(
                "pointsman_slo_attained_requests",
                "Finished requests that met all objectives.",
                labels,
                registry=registry,
            )
        )
        self._qos = _Family(
            Counter(
                "pointsman_qos",
                "Sum of QoS over finished requests; over finished plus dropped requests it gives the mean QoS.",
                labels,
                registry=registry,
            )
        )
        self._measured = {kind: _latency_histogram("request", "Measured", kind, registry) for kind in LATENCY_HELP}
        self._predicted = {
            kind: _latency_histogram("predicted_request", "Predicted", kind, registry) for kind in LATENCY_HELP
        }

    def _define_transport(self, registry: CollectorRegistry) -> None:
        self._access_log_entries = _Family(
            Counter(
                "pointsman_access_log_entries", "Access log entries received, by result.", ["result"], registry=registry
            )
        )
        self._streams_open = Gauge("pointsman_ext_proc_streams_open", "Open ext_proc streams.", registry=registry)
        self._streams = _Family(
            Counter(
                "pointsman_ext_proc_streams",
                "Ended ext_proc streams, by body mode and result.",
                ["mode", "result"],
                registry=registry,
            )
        )

    def answered(self, surface: Surface, policy: str, code: int) -> None:
        """Count an answer; `policy` is "namespace/name" or empty, `code` the HTTP status (200 = routed)."""
        self._requests(surface, self._policy(policy), str(code)).inc()

    def picked(self, policy: str, picker: str, seconds: float) -> None:
        """Count a decision of `picker`, which took `seconds` with its whole chain."""
        self._decisions(self._policy(policy), self._picker(picker)).inc()
        self._pick_duration(self._picker(picker)).observe(seconds)

    def fell_back(self, picker: str, reason: str) -> None:
        """Count that `picker` did not answer; `reason` is a short constant such as "deadline" or "error"."""
        self._fallbacks(self._picker(picker), self._reason(reason)).inc()

    def dropped(self, policy: str, reason: str) -> None:
        """Count a request without an expert; `reason` is the drop reason, such as "rejected-saturated"."""
        self._drops(self._policy(policy), self._dropped(reason)).inc()

    def failed(self, surface: Surface) -> None:
        """Count an unexpected exception while routing."""
        self._routing_errors(surface).inc()

    def finished(
        self, policy: str, picker: str, status: OutcomeStatus, *, slo_met: bool | None, qos: float | None
    ) -> None:
        """Count the end of a decision, once.

        Args:
            policy: "namespace/name".
            picker: The picker that decided.
            status: COMPLETED, CANCELLED or FAILED.
            slo_met: Whether all objectives were met; None = it had none, or that cannot be told.
            qos: Quality of service, 0 to 1; None = cannot be told.
        """
        names = self._policy(policy), self._picker(picker)
        self._finished(*names, status.name.lower()).inc()
        if slo_met is not None:
            self._slo_judged(*names).inc()
            self._slo_attained(*names).inc(1.0 if slo_met else 0.0)
        if qos is not None:
            self._qos(*names).inc(qos)

    def latency(
        self, kind: LatencyKind, policy: str, *, measured_seconds: float | None, predicted_seconds: float | None
    ) -> None:
        """Observe one latency of a finished request and what had been predicted for it; None = unknown."""
        if measured_seconds is not None:
            self._measured[kind](self._policy(policy)).observe(measured_seconds)
        if predicted_seconds is not None:
            self._predicted[kind](self._policy(policy)).observe(predicted_seconds)

    def expired(self, count: int) -> None:
        """Count decisions that were closed because nothing was heard of them in time."""
        self._expired.inc(count)

    def access_log_entry(self, result: str) -> None:
        """Count an access log entry; `result` is one of the constants of the access log service."""
        self._access_log_entries(result).inc()

    def stream_opened(self) -> None:
        """Count an ext_proc stream in."""
        self._streams_open.inc()

    def stream_closed(self, mode: str, result: str) -> None:
        """Count an ext_proc stream out.

        Args:
            mode: Its request body mode.
            result: "ok", "abandoned" (by the gateway), "malformed" or "failed".
        """
        self._streams_open.dec()
        self._streams(mode, result).inc()

    def watch_open_decisions(self, read: Callable[[], int]) -> None:
        """Export the number of open decisions, read at each scrape."""
        Gauge("pointsman_open_decisions", "Decisions whose end is not known yet.", registry=self.registry).set_function(
            read
        )

    def watch_experts(self, read: Callable[[], Iterable[tuple[str, ExpertView]]]) -> None:
        """Export what is believed of each expert, read at each scrape as (policy, view) pairs."""
        self.registry.register(_Experts(read))

    def watch_telemetry(self, read: Callable[[], Iterable[TelemetryCount]]) -> None:
        """Export samples and problems of each endpoint, read at each scrape."""
        self.registry.register(_Telemetry(read))

    def watch_problems(self, read: Callable[[], Problems]) -> None:
        """Export whether there are problems, read at each scrape."""
        self.registry.register(_Problems(read))


def _latency_histogram(infix: str, word: str, kind: LatencyKind, registry: CollectorRegistry) -> _Family[Histogram]:
    return _Family(
        Histogram(
            f"pointsman_{infix}_{kind}_seconds",
            f"{word} {LATENCY_HELP[kind]}.",
            ["policy"],
            buckets=TTFT_BUCKETS if kind == "ttft" else PER_TOKEN_BUCKETS,
            registry=registry,
        )
    )


class _Experts(Collector):
    def __init__(self, read: Callable[[], Iterable[tuple[str, ExpertView]]]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        gauges = {
            "ready": "1 if the expert may be picked.",
            "running_requests": "Requests in the running batch, estimated now.",
            "waiting_requests": "Requests in the expert's queue, estimated now.",
            "in_flight_requests": "Requests that this router has open on the expert.",
            "kv_cache_utilization_ratio": "Share of the KV cache in use, 0 to 1; absent if unknown.",
            "telemetry_age_seconds": "Age of the newest load sample; absent if there never was one.",
        }
        families = {
            name: GaugeMetricFamily(f"pointsman_expert_{name}", text, labels=["policy", "endpoint"])
            for name, text in gauges.items()
        }
        for policy, view in self._read():
            for name, value in _expert_values(view).items():
                if value is not None:
                    families[name].add_metric([policy, view.endpoint.address], value)
        yield from families.values()


def _expert_values(view: ExpertView) -> dict[str, float | None]:
    return {
        "ready": float(view.ready),
        "running_requests": view.running_requests,
        "waiting_requests": view.waiting_requests,
        "in_flight_requests": float(view.in_flight),
        "kv_cache_utilization_ratio": view.kv_cache_utilization_ratio,
        "telemetry_age_seconds": view.telemetry_age_seconds,
    }


class _Telemetry(Collector):
    def __init__(self, read: Callable[[], Iterable[TelemetryCount]]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        samples = CounterMetricFamily("pointsman_telemetry_samples", "Load samples taken.", labels=["endpoint"])
        problems = CounterMetricFamily(
            "pointsman_telemetry_problems", "Readings that failed or made no sense.", labels=["endpoint"]
        )
        for count in self._read():
            samples.add_metric([count.endpoint], count.samples)
            problems.add_metric([count.endpoint], count.problems)
        yield samples
        yield problems


class _Problems(Collector):
    def __init__(self, read: Callable[[], Problems]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        configuration = GaugeMetricFamily(
            "pointsman_configuration_problem",
            "1 while a change of this source is not in effect; the admin port's /debug/state says why.",
            labels=["source"],
        )
        telemetry = GaugeMetricFamily(
            "pointsman_telemetry_problem",
            "1 while the policy's telemetry is incomplete or read another way; /debug/state says why.",
            labels=["policy"],
        )
        problems = self._read()
        for family, texts in ((configuration, problems.configuration), (telemetry, problems.telemetry)):
            for name, text in texts.items():
                family.add_metric([name], float(bool(text)))
            yield family
