"""Every Prometheus metric of the policy service; values are looked up when they are asked for."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Sample = tuple[tuple[str, ...], float]
Values = Callable[[], Iterable[Sample]]


class ServiceMetrics:
    """The registry that /metrics shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def count(self, name: str, help_text: str, labels: Iterable[str], values: Values) -> None:
        """Export counters.

        Args:
            name: Without "_total".
            help_text: What it counts.
            labels: Names.
            values: Returns the values of the labels and the count, each time anew.
        """
        self.registry.register(_Family(lambda: CounterMetricFamily(name, help_text, labels=list(labels)), values))

    def gauge(self, name: str, help_text: str, labels: Iterable[str], values: Values) -> None:
        """Export gauges; arguments are those of `count`."""
        self.registry.register(_Family(lambda: GaugeMetricFamily(name, help_text, labels=list(labels)), values))


class _Family(Collector):
    def __init__(self, family: Callable[[], CounterMetricFamily | GaugeMetricFamily], values: Values) -> None:
        self._family = family
        self._values = values

    def describe(self) -> Iterator[Metric]:
        yield self._family()

    def collect(self) -> Iterator[Metric]:
        family = self._family()
        for labels, value in self._values():
            family.add_metric(labels, value)
        yield family
