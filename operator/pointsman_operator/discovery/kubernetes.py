"""Policies and experts from a cluster: discovery through the API server, which may be away as long as it likes."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

import kopf

from pointsman_operator.discovery.catalogue import Catalogue, Findings, Objects
from pointsman_operator.discovery.cluster_watch import ClusterWatch
from pointsman_operator.discovery.connection import connect
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.discovery.store import KnownPolicy

_LOGGER = logging.getLogger(__name__)


class KubernetesDiscovery:
    """Discovery in a cluster. What was last known stays in force while the API server is away.

    Args:
        picker_names: The pickers there are.
        namespaces: Where to look for policies and pods; none = everywhere.
        profiles: CSV of iteration-time fits.
        connect: Returns server and credentials; called in another thread.
    """

    def __init__(
        self,
        picker_names: Collection[str],
        namespaces: Collection[str] = (),
        profiles: Path | None = None,
        connect: Callable[[], kopf.ConnectionInfo] = connect,
    ) -> None:
        self.profiles = profiles
        self._catalogue = Catalogue(picker_names)
        self._namespaces = tuple(namespaces)
        self._connect = connect
        self._findings: Findings | None = None
        self._problem = "the API server has not answered yet"
        self._callbacks: list[Callable[[], None]] = []

    @property
    def not_ready(self) -> str:
        """Why the cluster has not been read even once; empty = it has been."""
        return "" if self._findings is not None else f"the cluster has not been read yet: {self._problem}"

    def policies(self) -> tuple[KnownPolicy, ...]:
        """Return all policies, the older first."""
        return self._findings.policies if self._findings else ()

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return the experts of all policies."""
        return self._findings.endpoints if self._findings else ()

    def problems(self) -> Mapping[str, str]:
        """Return why the cluster is not followed, which policies are wrong and which pods are left out."""
        found = dict(self._findings.problems) if self._findings else {}
        return {**found, "policies": self._problem or found.get("policies", "")}

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call back after every change."""
        self._callbacks.append(callback)

    async def run(self) -> None:
        """Follow the cluster for ever; ends only by cancellation."""
        loop = asyncio.get_running_loop()
        told: Findings | None = None

        def on_objects(objects: Objects) -> None:
            nonlocal told
            findings = self._catalogue.update(objects)
            if findings != told:
                told = findings
                _call(loop, self._take, findings)

        watch = ClusterWatch(
            self._connect, self._namespaces, on_objects, lambda problem: _call(loop, self._note, problem)
        )
        watch.start()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(watch.stop)

    def _take(self, findings: Findings) -> None:
        for source, problem in findings.problems.items():
            if problem and (self._findings is None or self._findings.problems.get(source) != problem):
                _LOGGER.warning("Wrong among the %s: %s", source, problem)
        self._findings = findings
        for callback in self._callbacks:
            try:
                callback()
            except Exception:
                _LOGGER.exception("A change in the cluster was not taken over everywhere")

    def _note(self, problem: str) -> None:
        self._problem = problem
        if problem:
            _LOGGER.warning("%s", problem)
        else:
            _LOGGER.info("Following the cluster")


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object) -> None:
    with suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(function, *arguments)
