"""Whose series is it: attributes what a Prometheus returns to experts, each series to one at most."""

import ipaddress
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.telemetry.engines import ENGINES
from pointsman_operator.telemetry.sample import LoadSample
from pointsman_operator.telemetry.series import Drops, Series, read_load

Finder = Callable[[Mapping[str, str]], Endpoint | None]
"""Tells from a series' labels whose it is."""


def by_instance(endpoints: Iterable[Endpoint]) -> Finder:
    """Find an expert by ``instance`` = "ip:port", unless other labels say that it is another pod."""
    known = {endpoint.address: endpoint for endpoint in endpoints}

    def find(labels: Mapping[str, str]) -> Endpoint | None:
        endpoint = known.get(labels.get("instance", ""))
        if endpoint is None or not endpoint.namespace:
            return endpoint
        # The address may be another pod's: in a second cluster behind this Prometheus, or the one that had it before.
        named = (labels.get("namespace"), labels.get("pod"))
        return endpoint if None in named or named == (endpoint.namespace, endpoint.name) else None

    return find


def by_pod(endpoints: Iterable[Endpoint]) -> Finder:
    """Find an expert by ``namespace`` and ``pod``, unless ``instance`` is an address of another IP."""
    known = {(endpoint.namespace, endpoint.name): endpoint for endpoint in endpoints}

    def find(labels: Mapping[str, str]) -> Endpoint | None:
        endpoint = known.get((labels.get("namespace", ""), labels.get("pod", "")))
        if endpoint is None:
            return None
        scraped = _ip(labels.get("instance", ""))
        # A pod of a StatefulSet keeps its name when it moves; its old address is its past.
        return endpoint if scraped is None or scraped == _ip(endpoint.address) else None

    return find


def attribute(series: Iterable[Series], find: Finder, now: float, drops: Drops) -> list[LoadSample]:
    """Make at most one reading for each expert found.

    Series that came by different scrapes (two jobs, two Prometheus replicas) differ in labels that the server itself
    does not set. They are read apart and never added up; the newest reading counts, and among equals the fullest.
    """
    scrapes: dict[Endpoint, dict[frozenset[tuple[str, str]], list[Series]]] = defaultdict(lambda: defaultdict(list))
    for one in series:
        endpoint = find(one.labels)
        if endpoint is not None:
            own = ENGINES[endpoint.expert.engine].own_labels
            origin = frozenset(item for item in one.labels.items() if item[0] not in own)
            scrapes[endpoint][origin].append(one)
    samples = []
    for endpoint, origins in scrapes.items():
        ordered = [origins[origin] for origin in sorted(origins, key=sorted)]
        readings = [read_load(endpoint, group, now, drops) for group in ordered]
        best = _newest([reading for reading in readings if reading is not None])
        samples += [best] if best else []
    return samples


def _newest(readings: Sequence[LoadSample]) -> LoadSample | None:
    return max(readings, key=lambda reading: (reading.sampled_at, _known_values(reading)), default=None)


def _known_values(reading: LoadSample) -> int:
    values = (reading.running_requests, reading.waiting_requests, reading.kv_cache_utilization_ratio)
    return sum(value is not None for value in values)


def _ip(address: str) -> str | None:
    """Return the IP of an "ip:port", or None if it is something else."""
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None
