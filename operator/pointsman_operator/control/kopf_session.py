"""Runs kopf inside a loop that is not its own: started again when it fails, stopped without touching other tasks."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator
from typing import Any

import kopf

from pointsman_operator.control.peering import LIFETIME_SECONDS
from pointsman_operator.discovery.kopf_tasks import until_one_ends

_LOGGER = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_STOP_SECONDS = 8.0


class _Backoffs:
    """Pauses before a call to the API server is tried again: without end, because an absent server comes back."""

    def __iter__(self) -> Iterator[float]:
        yield from (0.25, 0.5, 1.0)
        while True:
            yield 2.0


def make_settings(server: Any) -> kopf.OperatorSettings:
    """Return kopf's settings.

    Args:
        server: The admission server; None = there is none.
    """
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # events are about policies, not about this process
    settings.scanning.disabled = True  # the CRD is there before kopf starts; looking for new ones needs more rights
    settings.process.ultimate_exiting_timeout = None
    settings.peering.lifetime = LIFETIME_SECONDS
    settings.peering.stealth = True
    settings.networking.connect_timeout = 5.0
    settings.networking.request_timeout = 30.0
    settings.networking.error_backoffs = _Backoffs()
    settings.watching.connect_timeout = 5.0
    settings.watching.inactivity_timeout = 120.0
    settings.queueing.idle_timeout = 1.0
    settings.admission.server = server
    settings.admission.managed = None  # the chart owns the webhook configuration
    return settings


async def run_kopf(
    registry: Callable[[], kopf.OperatorRegistry],
    server: Callable[[], Any],
    *,
    namespaces: Collection[str],
    peering: str,
    priority: int,
    identity: str,
    spawned: Callable[[], None],
) -> None:
    """Run kopf for ever; ends only by cancellation.

    Args:
        registry: Makes the handlers of one run.
        server: Makes the admission server of one run.
        namespaces: Where to look; none = everywhere.
        peering: Name of the peering object; empty = no peering.
        priority: Among the peers.
        identity: Unique among the peers.
        spawned: Called once kopf's tasks exist; it has then taken over the process's signals.
    """
    pause = _FIRST_PAUSE_SECONDS
    loop = asyncio.get_running_loop()
    identification: Any = identity  # kopf has a type of its own for it, and does not export it
    while True:
        began = loop.time()
        try:
            tasks = await kopf.spawn_tasks(
                registry=registry(),
                settings=make_settings(server()),
                clusterwide=not namespaces,
                namespaces=tuple(namespaces),
                standalone=not peering,
                peering_name=peering or None,
                priority=priority,
                identity=identification,
            )
            spawned()
            await until_one_ends(tasks, _STOP_SECONDS)
        except Exception as error:
            _LOGGER.warning("Watching RouterPolicies failed (%s: %s); starting again", type(error).__name__, error)
        pause = _FIRST_PAUSE_SECONDS if loop.time() - began > _LONGEST_PAUSE_SECONDS else pause * 2
        await asyncio.sleep(min(pause, _LONGEST_PAUSE_SECONDS))
