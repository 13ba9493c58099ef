"""Keeps reading a source of load, whatever happens to it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.errors import TelemetryError
from pointsman_operator.telemetry.protocols import LoadSource, TelemetryEvents
from pointsman_operator.telemetry.sample import LoadSample

_LOGGER = logging.getLogger(__name__)


class Poller:
    """Collects from one source at an interval, one collection at a time, and passes on what is new.

    A failing source is asked less and less often, up to `maximum_backoff_seconds` apart. Problems are logged when they
    change, not each time.

    Args:
        source: Where to read.
        endpoints: The experts there are now; those that are not ready are left alone.
        interval_seconds: From the start of one collection to the start of the next.
        on_samples: Called on the event loop with the samples that are newer than the last one passed on for the same
            expert; never with none.
        events: Told of each of these samples.
        timeout_seconds: Longest collection.
        maximum_backoff_seconds: Longest pause after failures.
        clock: The present, Unix seconds.
        monotonic: A monotonic clock for intervals, seconds.
        sleep: Waits for some seconds.
    """

    def __init__(
        self,
        source: LoadSource,
        endpoints: Callable[[], Sequence[Endpoint]],
        interval_seconds: float,
        on_samples: Callable[[Sequence[LoadSample]], None],
        events: TelemetryEvents,
        *,
        timeout_seconds: float = 10.0,
        maximum_backoff_seconds: float = 10.0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._source = source
        self._endpoints = endpoints
        self._interval_seconds = interval_seconds
        self._on_samples = on_samples
        self._events = events
        self._timeout_seconds = timeout_seconds
        self._maximum_backoff_seconds = max(maximum_backoff_seconds, interval_seconds)
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._newest: dict[str, float] = {}
        self._failures = 0
        self.last_success_at: float | None = None
        """When a collection last succeeded, Unix seconds; None = never yet."""
        self.problem: str | None = None
        """What is wrong now; None = nothing."""

    async def run(self) -> None:
        """Collect for ever; ends only by cancellation."""
        while True:
            started = self._monotonic()
            await self.collect_once()
            await self._sleep(max(0.0, started + self._pause_seconds() - self._monotonic()))

    async def collect_once(self) -> None:
        """Collect now. Never raises but on cancellation; see `problem`."""
        try:
            endpoints = [endpoint for endpoint in self._endpoints() if endpoint.expert.ready]
            async with asyncio.timeout(self._timeout_seconds):
                samples = await self._source.collect(endpoints)
            self._pass_on(endpoints, samples)
        except TelemetryError as error:
            self._failed(str(error))
        except TimeoutError:
            self._failed(f"reading the load took longer than {self._timeout_seconds:g} s; check the network")
        except Exception as error:
            self._failed(f"reading the load failed unexpectedly ({type(error).__name__}); this is a bug", error)
        else:
            self._failures = 0
            self.last_success_at = self._clock()
            self._report(self._source.problem)

    def _pass_on(self, endpoints: Sequence[Endpoint], samples: Sequence[LoadSample]) -> None:
        known = {endpoint.address: self._newest.get(endpoint.address, float("-inf")) for endpoint in endpoints}
        fresh = [one for one in samples if one.endpoint in known and one.sampled_at > known[one.endpoint]]
        self._newest = known | {sample.endpoint: sample.sampled_at for sample in fresh}
        for sample in fresh:
            self._events.sampled(sample.endpoint)
        if fresh:
            self._on_samples(fresh)

    def _pause_seconds(self) -> float:
        return min(self._interval_seconds * 2.0 ** min(self._failures, 16), self._maximum_backoff_seconds)

    def _failed(self, problem: str, error: Exception | None = None) -> None:
        self._failures += 1
        self._report(problem, error)

    def _report(self, problem: str | None, error: Exception | None = None) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        if problem is None:
            _LOGGER.info("Telemetry is complete again")
        else:
            _LOGGER.warning("Telemetry: %s", problem, exc_info=error)
