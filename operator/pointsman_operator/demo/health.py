"""How a run went: the parts' own counters, and whether the machine was fast enough for its figures to mean anything."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pointsman_operator.demo.lanes import Lane
from pointsman_operator.demo.stack import Probe, Stack
from pointsman_policy.evaluation.table import percent

LATE_SECONDS = 0.05
_TOLERATED_LATE_RATIO = 0.01
_SETTLE_SECONDS = 5.0
_BUSY, _LATENESS = "pointsman_expert_busy_seconds_total", "pointsman_expert_lateness_seconds"


@dataclass(frozen=True, slots=True, eq=False)
class Health:
    """How the run went."""

    client_lateness_seconds: npt.NDArray[np.float64]
    """How much later than planned each request was sent."""
    expert_late_ratio: float
    """Share of the emulated experts' tokens told of more than `LATE_SECONDS` late."""
    open_decisions: int
    """Decisions whose outcome never came back to the router."""
    fallback_picks: int
    """Times that a picker did not answer and the next one was asked."""
    prometheus_queries: int | None
    """Answered by Prometheus during the run; None = it did not run."""
    cpu_shares: Mapping[str, float]
    """Mean share of one core of each part."""

    @property
    def client_lateness_p99(self) -> float:
        """99th percentile, seconds; 0 if nothing was sent."""
        late = self.client_lateness_seconds
        return float(np.percentile(late, 99)) if late.size else 0.0

    def problems(self) -> Iterator[str]:
        """Yield reasons not to trust the figures."""
        if self.client_lateness_p99 > LATE_SECONDS:
            yield f"1 % of the requests were sent more than {self.client_lateness_p99 * 1e3:.0f} ms late"
        if self.expert_late_ratio > _TOLERATED_LATE_RATIO:
            yield (
                f"the emulated experts told of {percent(self.expert_late_ratio)} of their tokens more than "
                f"{LATE_SECONDS * 1e3:.0f} ms late"
            )
        if self.open_decisions:
            yield f"the router never heard of the end of {self.open_decisions} requests"

    def verdict(self) -> str:
        """Return whether the machine kept up."""
        problems = list(self.problems())
        if problems:
            return f"The machine was overloaded, do not trust these figures: {'; '.join(problems)}."
        return (
            f"The machine kept up: requests were sent at most {self.client_lateness_p99 * 1e3:.1f} ms late (p99), "
            f"{percent(self.expert_late_ratio, 2)} of the tokens more than {LATE_SECONDS * 1e3:.0f} ms."
        )


class Watch:
    """Reads the parts' own counters before and after the run."""

    def __init__(self, probe: Probe, stack: Stack) -> None:
        self._probe = probe
        self._stack = stack
        self._busy: dict[str, float | None] = {}
        self._queries: float | None = None

    async def start(self) -> None:
        """Read what is already counted."""
        self._busy = {lane.picker: await self._busy_seconds(lane) for lane in self._stack.lanes}
        self._queries = await self._prometheus_queries()

    async def finish(
        self, client_lateness_seconds: npt.NDArray[np.float64], cpu_shares: Mapping[str, float]
    ) -> tuple[Health, dict[str, float | None]]:
        """Return how the run went, and the busy seconds of each rule's experts (None = not known).

        Args:
            client_lateness_seconds: How much later than planned each request was sent.
            cpu_shares: Mean share of one core of each part.
        """
        busy: dict[str, float | None] = {}
        for lane in self._stack.lanes:
            before, after = self._busy[lane.picker], await self._busy_seconds(lane)
            busy[lane.picker] = None if before is None or after is None else after - before
        queries, queries_before = await self._prometheus_queries(), self._queries
        health = Health(
            client_lateness_seconds=client_lateness_seconds,
            expert_late_ratio=await self._expert_late_ratio(),
            open_decisions=await self._open_decisions(),
            fallback_picks=round(await self._router_total("pointsman_fallback_picks_total") or 0.0),
            prometheus_queries=None if queries is None else round(queries - (queries_before or 0.0)),
            cpu_shares=cpu_shares,
        )
        return health, busy

    async def _busy_seconds(self, lane: Lane) -> float | None:
        found = [await self._probe.total(f"{url}/metrics", _BUSY) for url in self._stack.expert_urls(lane)]
        known = [seconds for seconds in found if seconds is not None]
        return sum(known) if len(known) == len(found) else None

    async def _expert_late_ratio(self) -> float:
        within = told = 0.0
        for lane in self._stack.lanes:
            for url in self._stack.expert_urls(lane):
                metrics = f"{url}/metrics"
                within += await self._probe.total(metrics, f"{_LATENESS}_bucket", f'le="{LATE_SECONDS}"') or 0.0
                told += await self._probe.total(metrics, f"{_LATENESS}_count") or 0.0
        return 1 - within / told if told else 0.0

    async def _open_decisions(self) -> int:
        """Return how many outcomes the router waits for in vain."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while count := round(await self._router_total("pointsman_open_decisions") or 0.0):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.1)
        return count

    async def _router_total(self, metric: str) -> float | None:
        return await self._probe.total(f"{self._stack.router_admin_url}/metrics", metric)

    async def _prometheus_queries(self) -> float | None:
        url = self._stack.prometheus_url
        if url is None:
            return None
        labels = 'code="200",handler="/api/v1/query"'
        return await self._probe.total(f"{url}/metrics", "prometheus_http_requests_total", labels) or 0.0
