"""Chooses where a policy's telemetry comes from."""

import time
from collections.abc import Callable, Sequence

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.errors import TelemetryError
from pointsman_operator.routerpolicy import Telemetry
from pointsman_operator.telemetry.prometheus import PrometheusSource
from pointsman_operator.telemetry.protocols import LoadSource, TelemetryEvents
from pointsman_operator.telemetry.sample import LoadSample
from pointsman_operator.telemetry.scrape import DirectScrape


def make_source(telemetry: Telemetry, events: TelemetryEvents, *, clock: Callable[[], float] = time.time) -> LoadSource:
    """Make the source that a policy asks for.

    A Prometheus is backed by direct scraping: telemetry that would be lost with it decides where requests go.

    Args:
        telemetry: The policy's ``spec.telemetry``.
        events: Told how each collection goes.
        clock: The present, Unix seconds.
    """
    direct = DirectScrape(events, clock=clock)
    if telemetry.source == "DirectScrape":
        return direct
    window_seconds = telemetry.stale_after_milliseconds / 1000
    prometheus = PrometheusSource(telemetry.prometheus_url, events, window_seconds=window_seconds, clock=clock)
    return FallbackSource(prometheus, direct)


class FallbackSource:
    """Reads a first source, and a second one while the first is unusable.

    The first one is tried again after 1, 2, 4, ... seconds, at most `maximum_pause_seconds`, so that a server which
    answers late does not make every reading late.

    Args:
        primary: The source to prefer.
        backup: The source to use meanwhile.
        maximum_pause_seconds: Longest time for which the first source is not tried.
        monotonic: A monotonic clock, seconds.
    """

    def __init__(
        self,
        primary: LoadSource,
        backup: LoadSource,
        *,
        maximum_pause_seconds: float = 30.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._primary = primary
        self._backup = backup
        self._maximum_pause_seconds = maximum_pause_seconds
        self._monotonic = monotonic
        self._failures = 0
        self._retry_at = float("-inf")
        self._failure: str | None = None

    @property
    def problem(self) -> str | None:
        """Why the second source is in use, and what the source in use lacks; None = nothing to say."""
        if self._failure is None:
            return self._primary.problem
        meanwhile = f"{self._failure}; the experts are read directly meanwhile"
        return meanwhile if self._backup.problem is None else f"{meanwhile}; {self._backup.problem}"

    async def collect(self, endpoints: Sequence[Endpoint]) -> list[LoadSample]:
        """Read these experts from one of the sources.

        Raises:
            TelemetryError: If both are unusable; says why each is.
        """
        if not endpoints:
            return []
        if self._monotonic() >= self._retry_at:
            try:
                samples = await self._primary.collect(endpoints)
            except TelemetryError as error:
                self._failure = str(error)
                self._retry_at = self._monotonic() + min(2.0 ** min(self._failures, 16), self._maximum_pause_seconds)
                self._failures += 1
            else:
                self._failure, self._failures = None, 0
                return samples
        try:
            return await self._backup.collect(endpoints)
        except TelemetryError as error:
            raise TelemetryError(f"{self._failure}; and {error}") from error

    async def close(self) -> None:
        """Close both sources."""
        await self._primary.close()
        await self._backup.close()
