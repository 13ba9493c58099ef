"""From the series of one server to one reading of its load. What makes no sense is dropped, and counted by kind."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.telemetry.engines import ENGINES, EngineMetrics, Gauge
from pointsman_operator.telemetry.protocols import DropReason
from pointsman_operator.telemetry.sample import LoadSample

Drops = Counter[tuple[str, DropReason]]
"""What was not believed, by expert ("ip:port", or empty where it is nobody's) and reason."""

FUTURE_TOLERANCE_SECONDS = 5.0
"""Clocks of two machines may differ by this much; a sample this far ahead counts as taken now."""


@dataclass(frozen=True, slots=True)
class _Range:
    """Values from 0 to `highest` are believed, and cut down to `cap`."""

    highest: float
    cap: float


_REQUESTS = _Range(highest=1_000_000.0, cap=1_000_000.0)
# Servers overshoot 1 a little while blocks change hands; what exceeds it by more is a percentage or garbage.
_RATIO = _Range(highest=1.5, cap=1.0)


@dataclass(frozen=True, slots=True)
class Series:
    """The newest value of one series."""

    metric: str
    labels: Mapping[str, str]
    value: float
    """As it was exposed: NaN and infinities are still in."""
    at: float
    """When it was exposed, Unix seconds."""


def read_load(endpoint: Endpoint, series: Sequence[Series], now: float, drops: Drops) -> LoadSample | None:
    """Make one reading of the series that one scrape of one server gave.

    Only the newest of the series count: one that the last scrape no longer had (a data-parallel rank that is gone, say)
    belongs to the past. A value is missing if any series that it needs makes no sense.

    Args:
        endpoint: Whose load it is; decides the metric names and the model.
        series: Everything read from its server; series of other metrics do no harm.
        now: The present, Unix seconds.
        drops: Counts what is not believed.

    Returns:
        The reading, or None if nothing is left of it.
    """
    timely = []
    for one in series:
        reason = _untimeliness(one, now)
        if reason is None:
            timely.append(one)
        else:
            drops[endpoint.address, reason] += 1
    if not timely:
        return None
    newest = max(one.at for one in timely)
    current = [one for one in timely if one.at == newest]
    metrics = ENGINES[endpoint.expert.engine]
    values = []
    for gauges, believed in (
        (metrics.running, _REQUESTS),
        (metrics.waiting, _REQUESTS),
        (metrics.kv_cache_utilization, _RATIO),
    ):
        value = _read(gauges, metrics, current, endpoint, believed)
        if isinstance(value, DropReason):
            drops[endpoint.address, value] += 1
            value = None
        values.append(value)
    if values == [None, None, None]:
        return None
    return LoadSample(endpoint.address, min(newest, now), *values)


def _untimeliness(series: Series, now: float) -> DropReason | None:
    if not math.isfinite(series.at):
        return DropReason.MALFORMED
    return DropReason.FUTURE if series.at > now + FUTURE_TOLERANCE_SECONDS else None


def _read(
    gauges: Iterable[Gauge], metrics: EngineMetrics, series: Iterable[Series], endpoint: Endpoint, believed: _Range
) -> float | DropReason | None:
    """Read one value by the first of its alternatives that exists; None if none does, a reason if it makes no sense."""
    for gauge in gauges:
        found = [one for one in series if one.metric == gauge.metric and gauge.labels.items() <= one.labels.items()]
        if not found:
            continue
        if metrics.model_label is not None:
            found = _of_model(found, metrics.model_label, endpoint)
            if not found:
                return DropReason.AMBIGUOUS_MODEL
        reasons = [reason for one in found if (reason := _disbelief(one.value, believed))]
        return reasons[0] if reasons else gauge.across_ranks(_by_rank(found, metrics.rank_label, believed.cap))
    return None


def _of_model(series: list[Series], label: str, endpoint: Endpoint) -> list[Series]:
    """Keep the expert's own model where a server has several; a single one is the expert's whatever its name."""
    models = {*endpoint.expert.names, endpoint.expert.model}
    named = {one.labels[label] for one in series if label in one.labels}
    if named & models:
        return [one for one in series if one.labels.get(label) in models]
    return series if len(named) <= 1 else []


def _disbelief(value: float, believed: _Range) -> DropReason | None:
    if math.isnan(value):
        return DropReason.NOT_A_NUMBER
    if math.isinf(value):
        return DropReason.INFINITE
    if value < 0:
        return DropReason.NEGATIVE
    return DropReason.OUT_OF_RANGE if value > believed.highest else None


def _by_rank(series: Iterable[Series], label: str | None, cap: float) -> list[float]:
    """Return one value for each data-parallel rank, the highest of its copies."""
    ranks: dict[str | None, float] = {}
    for one in series:
        rank = None if label is None else one.labels.get(label)
        ranks[rank] = min(cap, max(one.value, ranks.get(rank, 0.0)))
    return list(ranks.values())
