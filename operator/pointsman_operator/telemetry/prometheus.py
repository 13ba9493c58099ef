"""Load read from a Prometheus server that scrapes the experts: one query for all, and each sample's own time.

An instant query for a plain selector would stamp every value with the time of the query, however old the value is. A
range selector returns the samples as they were stored, so that a dead exporter shows as an old sample.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import requests
from prometheus_api_client.exceptions import PrometheusApiClientException
from prometheus_api_client.prometheus_connect import PrometheusConnect

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.errors import TelemetryError
from pointsman_operator.telemetry.attribution import Finder, attribute, by_instance, by_pod
from pointsman_operator.telemetry.bounded import AnswerTooLarge, BoundedAdapter
from pointsman_operator.telemetry.engines import ENGINES
from pointsman_operator.telemetry.promql import newest_values, range_selector
from pointsman_operator.telemetry.protocols import TelemetryEvents, missing_problem
from pointsman_operator.telemetry.sample import LoadSample
from pointsman_operator.telemetry.series import Drops

NAME = "Prometheus"

_ENDPOINTS_PER_QUERY = 100
"""Keeps the query, which travels in the URL, below 8 KiB, where many proxies stop."""


class PrometheusSource:
    """Reads the experts' load from a Prometheus-compatible server, in a thread of its own.

    Series are found by their ``instance`` label, the expert's "ip:port". What is not found that way is looked for by
    ``namespace`` and ``pod``, where an expert has a namespace. See ``attribution`` for what keeps series apart.

    Args:
        url: Base URL of the server.
        events: Told how each collection goes.
        window_seconds: How far back to look for an expert's newest sample.
        timeout_seconds: Longest time for one collection.
        maximum_bytes: Largest answer to one query.
        clock: The present, Unix seconds.
        monotonic: A monotonic clock for deadlines, seconds.
    """

    def __init__(
        self,
        url: str,
        events: TelemetryEvents,
        *,
        window_seconds: float = 15.0,
        timeout_seconds: float = 2.0,
        maximum_bytes: int = 64 << 20,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url.rstrip("/")
        self._events = events
        self._window_seconds = window_seconds
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._monotonic = monotonic
        self._session = requests.Session()
        self._session.max_redirects = 3
        self._client = PrometheusConnect(url=self._url, session=self._session)
        self._adapter = BoundedAdapter(maximum_bytes, monotonic)
        # The client has mounted a retrying adapter for its URL; retries are the poller's business.
        for prefix in ("http://", "https://", self._url):
            self._session.mount(prefix, self._adapter)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prometheus")
        self._work: Future[tuple[list[LoadSample], Drops]] | None = None
        self._problem: str | None = None

    @property
    def problem(self) -> str | None:
        """Which experts the last collection knows nothing of; None = it knows all."""
        return self._problem

    async def collect(self, endpoints: Sequence[Endpoint]) -> list[LoadSample]:
        """Read these experts' newest samples.

        Raises:
            TelemetryError: If the server cannot be asked, does not answer as a Prometheus does, or knows none of them.
        """
        if not endpoints:
            return []
        samples: list[LoadSample] = []
        try:
            samples, drops = await self._in_thread(endpoints)
        finally:
            self._events.collected(NAME, bool(samples))
        for (endpoint, reason), count in drops.items():
            self._events.dropped(NAME, endpoint, reason, count)
        advice = f'check that it scrapes them as instance "ip:port", at least every {self._window_seconds:g} s'
        self._problem = missing_problem(self._name, endpoints, samples, drops, advice)
        if not samples:
            raise TelemetryError(str(self._problem))
        return samples

    async def close(self) -> None:
        """Close all connections; a query under way ends at its deadline."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._session.close()

    @property
    def _name(self) -> str:
        return f"Prometheus at {self._url}"

    def _too_slow(self) -> TelemetryError:
        return TelemetryError(f"{self._name} did not answer within {self._timeout_seconds:g} s; check its load")

    async def _in_thread(self, endpoints: Sequence[Endpoint]) -> tuple[list[LoadSample], Drops]:
        if self._work is not None and not self._work.done():
            raise self._too_slow()
        self._work = self._executor.submit(self._collect, endpoints, self._clock())
        try:
            # Resolving the server's name is the one step that the adapter's deadline does not bound.
            async with asyncio.timeout(1.25 * self._timeout_seconds):
                return await asyncio.wrap_future(self._work)
        except TimeoutError:
            raise self._too_slow() from None

    def _collect(self, endpoints: Sequence[Endpoint], now: float) -> tuple[list[LoadSample], Drops]:
        """Ask and read; runs in the thread."""
        self._adapter.deadline = self._monotonic() + self._timeout_seconds
        drops = Drops()
        samples: list[LoadSample] = []
        for some in _chunks(endpoints):
            matchers: dict[str, Iterable[str]] = {"instance": [one.address for one in some]}
            samples += self._ask(some, matchers, by_instance(some), now, drops)
        found = {sample.endpoint for sample in samples}
        for some in _chunks([one for one in endpoints if one.namespace and one.address not in found]):
            matchers = {"namespace": {one.namespace for one in some}, "pod": [one.name for one in some]}
            samples += self._ask(some, matchers, by_pod(some), now, drops)
        return samples, drops

    def _ask(
        self,
        endpoints: Iterable[Endpoint],
        matchers: Mapping[str, Iterable[str]],
        find: Finder,
        now: float,
        drops: Drops,
    ) -> list[LoadSample]:
        names = {name for one in endpoints for name in ENGINES[one.expert.engine].metric_names}
        result = self._query(range_selector({"__name__": names, **matchers}, self._window_seconds))
        return attribute(newest_values(result, drops), find, now, drops)

    def _query(self, query: str) -> list[Any]:
        try:
            result = self._client.custom_query(query)
        except requests.Timeout:
            raise self._too_slow() from None
        except AnswerTooLarge as error:
            raise TelemetryError(f"{self._name} gave an {error}; check prometheusUrl") from error
        except PrometheusApiClientException as error:
            raise TelemetryError(f"{self._name} refused the query: {str(error)[:200]}") from error
        except (requests.exceptions.JSONDecodeError, KeyError, TypeError, RecursionError) as error:
            raise self._not_a_prometheus() from error
        except (requests.RequestException, OSError) as error:
            raise TelemetryError(f"{self._name} cannot be reached; check prometheusUrl and that it runs") from error
        except ValueError as error:
            raise self._not_a_prometheus() from error
        if not isinstance(result, list):
            raise self._not_a_prometheus()
        return result

    def _not_a_prometheus(self) -> TelemetryError:
        return TelemetryError(f"{self._name} does not answer as a Prometheus does; check prometheusUrl")


def _chunks(endpoints: Sequence[Endpoint]) -> Iterator[Sequence[Endpoint]]:
    for start in range(0, len(endpoints), _ENDPOINTS_PER_QUERY):
        yield endpoints[start : start + _ENDPOINTS_PER_QUERY]
