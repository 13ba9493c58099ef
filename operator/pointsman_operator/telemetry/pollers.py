"""One poller for each policy, following policies as they come, change and go."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.routerpolicy import RouterPolicy, Telemetry
from pointsman_operator.telemetry.poller import Poller
from pointsman_operator.telemetry.protocols import LoadSource, TelemetryEvents
from pointsman_operator.telemetry.sample import LoadSample


@dataclass(slots=True)
class _Running:
    telemetry: Telemetry
    source: LoadSource
    poller: Poller
    task: asyncio.Task[None]


class Pollers:
    """Keeps reading the load of every policy's experts.

    Args:
        make_source: Makes the source that a policy asks for.
        endpoints: The experts that the policy with this key ("namespace/name") selects now.
        on_samples: Given every new sample.
        events: Told how reading goes.
    """

    def __init__(
        self,
        make_source: Callable[[Telemetry, TelemetryEvents], LoadSource],
        endpoints: Callable[[str], Sequence[Endpoint]],
        on_samples: Callable[[Sequence[LoadSample]], None],
        events: TelemetryEvents,
    ) -> None:
        self._make_source = make_source
        self._endpoints = endpoints
        self._on_samples = on_samples
        self._events = events
        self._running: dict[str, _Running] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def follow(self, policies: Sequence[RouterPolicy]) -> None:
        """Start, restart and stop pollers so that they are those of these policies."""
        wanted = {policy.key: policy.spec.telemetry for policy in policies}
        for key in [key for key, one in self._running.items() if wanted.get(key) != one.telemetry]:
            closing = asyncio.create_task(_stop(self._running.pop(key)))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        for key in wanted.keys() - self._running.keys():
            self._running[key] = self._start(key, wanted[key])

    def problems(self) -> dict[str, str]:
        """Return what is wrong with telemetry now, by policy; policies without problems are left out."""
        return {key: one.poller.problem for key, one in self._running.items() if one.poller.problem}

    async def close(self) -> None:
        """Stop all pollers."""
        self.follow(())
        await asyncio.gather(*self._closing)

    def _start(self, key: str, telemetry: Telemetry) -> _Running:
        source = self._make_source(telemetry, self._events)
        poller = Poller(
            source,
            lambda: self._endpoints(key),
            telemetry.interval_milliseconds / 1e3,
            self._on_samples,
            self._events,
        )
        return _Running(telemetry, source, poller, asyncio.create_task(poller.run()))


async def _stop(one: _Running) -> None:
    one.task.cancel()
    await asyncio.wait([one.task])
    await one.source.close()
