"""Follows the objects of a cluster through kopf's indexes, in a thread with an event loop of its own.

Kopf takes an event loop as its property: it installs signal handlers, and when it ends it cancels whatever runs there.
In a loop of its own it can fail and be started again, and nobody who routes notices.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import kopf

from pointsman_operator.discovery.catalogue import NodeObject, Objects, PolicyObject, read_policy_object
from pointsman_operator.discovery.kopf_tasks import until_one_ends
from pointsman_operator.discovery.listing import (
    EARLY_POOLS,
    KINDS,
    NODES,
    PODS,
    POLICIES,
    POOLS,
    Absence,
    Kind,
    Listing,
    list_kinds,
)
from pointsman_operator.discovery.pods import Pod, Pool, read_pod, read_pool
from pointsman_operator.errors import KubernetesError

_LOGGER = logging.getLogger(__name__)

_COALESCE_SECONDS = 0.02
"""Changes that come together are told together."""
_COMPARE_SECONDS = 30.0
"""From one comparison with a list of names to the next; another follows each gap in a watch."""
_SYNC_SECONDS = 0.2
_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 30.0
_ABSENCE_SECONDS = 60.0
"""How long an unknown kind keeps the objects that it had: an API server that starts does not know all kinds at once."""
_INACTIVITY_SECONDS = 120.0
"""A watch without an event or a bookmark for so long is opened anew."""
_STOP_SECONDS = 5.0
_CALMED = {
    "kopf._cogs.clients.api": logging.CRITICAL,
    "kopf._core.reactor.running": logging.CRITICAL,
    "kopf._core.engines.activities": logging.WARNING,
    "kopf.activities": logging.WARNING,
    "kopf.objects": logging.WARNING,
}
"""Levels of kopf's loggers: it calls every attempt at an absent API server an error, and tells of every event;
here the change is told, once."""
_CLOSE_SECONDS = 0.25
"""How long connections have, at the end, to close behind the back of those who closed them."""


def _read_node(manifest: Mapping[str, Any]) -> NodeObject:
    metadata = manifest.get("metadata") or {}
    return NodeObject(metadata.get("name") or "", dict(metadata.get("labels") or {}))


_READERS: Mapping[Kind, Callable[[Mapping[str, Any]], object]] = {
    POLICIES: read_policy_object,
    PODS: read_pod,
    NODES: _read_node,
    POOLS: read_pool,
    EARLY_POOLS: read_pool,
}


class ClusterWatch:
    """Tells what a cluster holds whenever that changes, until it is stopped.

    Args:
        connect: Returns server and credentials.
        namespaces: Where to look; none = everywhere.
        on_objects: Told of all objects, in the thread: first when everything has been listed, then after each change.
        on_problem: Told in the thread why the cluster cannot be followed now; empty = it is followed.
    """

    def __init__(
        self,
        connect: Callable[[], kopf.ConnectionInfo],
        namespaces: Collection[str],
        on_objects: Callable[[Objects], None],
        on_problem: Callable[[str], None],
    ) -> None:
        self._connect = connect
        self._namespaces = tuple(namespaces)
        self._on_objects = on_objects
        self._on_problem = on_problem
        self._problem: str | None = None
        self._kept: dict[Kind, _Kept] = {}
        self._stopped = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run_thread, name="kubernetes", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        if not _LOGGER.isEnabledFor(logging.DEBUG):
            for name, level in _CALMED.items():
                logging.getLogger(name).setLevel(level)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, within some seconds."""
        self._stopped.set()
        if self._loop is not None and self._main is not None:
            with suppress(RuntimeError):  # it has ended meanwhile
                self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join(_STOP_SECONDS)

    def _run_thread(self) -> None:
        with suppress(asyncio.CancelledError):
            asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        try:
            await self._keep_following(self._loop)
        finally:
            await asyncio.sleep(_CLOSE_SECONDS)

    async def _keep_following(self, loop: asyncio.AbstractEventLoop) -> None:
        pause = _RETRY_SECONDS
        while not self._stopped.is_set():
            began = loop.time()
            try:
                await self._follow(_usable(await self._list()))
            except KubernetesError as error:
                self._report(str(error))
            except Exception as error:
                _LOGGER.debug("Following the cluster failed", exc_info=True)
                self._report(f"following the cluster failed ({type(error).__name__}: {error}); starting again")
            pause = _RETRY_SECONDS if loop.time() - began > _COMPARE_SECONDS else pause * 2
            await asyncio.sleep(min(pause, _LONGEST_RETRY_SECONDS))

    async def _list(self) -> Listing:
        return await list_kinds(self._connect(), KINDS, self._namespaces)

    async def _follow(self, kinds: Collection[Kind]) -> None:
        """Follow these kinds until the cluster has others."""
        following = _Following(kinds, self._kept, self._on_objects)
        registry = following.registry(self._connect)
        tasks = list(
            await kopf.spawn_tasks(
                registry=registry,
                settings=_settings(),
                standalone=True,
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
            )
        )
        tasks += [asyncio.create_task(following.publish()), asyncio.create_task(self._compare(following))]
        await until_one_ends(tasks, _STOP_SECONDS)

    async def _compare(self, following: "_Following") -> None:
        """Keep comparing indexes with lists; return when the cluster has other kinds than are followed."""
        while True:
            before = following.uids()
            try:
                listing = await self._list()
                if _usable(listing) != following.kinds:
                    return
            except KubernetesError as error:
                self._report(f"{error}; routing goes on with what was last known")
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            self._report("")
            following.compare(before, listing)
            await following.wait(_COMPARE_SECONDS if following.synced else _SYNC_SECONDS)

    def _report(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            self._on_problem(problem)


@dataclass(frozen=True, slots=True)
class _Kept:
    """The objects of a kind as they were last known."""

    at: float
    """On the loop's clock."""
    objects: Sequence[Any]


class _Following:
    """One life of kopf: the indexes of some kinds, and whether they are complete.

    Args:
        kinds: The kinds.
        kept: Keeps the objects of kinds, also of those that are not followed this time.
        on_objects: Told what there is.
    """

    def __init__(self, kinds: Collection[Kind], kept: dict[Kind, _Kept], on_objects: Callable[[Objects], None]) -> None:
        self.kinds = frozenset(kinds)
        self._kept = kept
        self.synced = False
        """All that existed at some moment since the start has arrived."""
        self._on_objects = on_objects
        self._indices: dict[Kind, kopf.Index[str, Any]] = {}
        self._gone: frozenset[str] = frozenset()
        self._changed = asyncio.Event()
        self._relisted = asyncio.Event()

    def registry(self, connect: Callable[[], kopf.ConnectionInfo]) -> kopf.OperatorRegistry:
        """Return the handlers to run."""

        async def log_in(**_: Any) -> kopf.ConnectionInfo:
            return connect()

        async def remember(**indices: Any) -> None:
            self._indices = {kind: indices[kind.name.replace("-", "_")] for kind in self.kinds}

        async def note(event: Mapping[str, Any], **_: Any) -> None:
            self._changed.set()
            if event["type"] is None and self.synced:  # listed anew, so there was a gap
                self._relisted.set()

        registry = kopf.OperatorRegistry()
        kopf.on.login(id="log-in", backoff=_RETRY_SECONDS, registry=registry)(log_in)
        kopf.on.startup(id="remember", registry=registry)(remember)
        for kind in self.kinds:
            where = (kind.group, kind.version, kind.plural) if kind.group else (kind.version, kind.plural)
            name = kind.name.replace("-", "_")
            kopf.index(*where, id=name, registry=registry)(_indexer(_READERS[kind]))
            kopf.on.event(*where, id=f"note-{name}", registry=registry)(note)
        return registry

    def uids(self) -> dict[Kind, frozenset[str]]:
        """Return the uids of all objects in the indexes."""
        return {kind: frozenset(index) for kind, index in self._indices.items()}

    def compare(self, before: Mapping[Kind, frozenset[str]], listing: Listing) -> None:
        """Compare the indexes with a list of what exists.

        Args:
            before: The indexes' objects before the list was asked for: one of them that is not listed is gone.
            listing: What exists.
        """
        after = self.uids()
        gone: set[str] = set()
        complete = bool(after)
        for kind in self.kinds:
            there = listing[kind]
            if isinstance(there, Absence):
                return
            gone |= (before.get(kind, frozenset()) - there) & after.get(kind, frozenset())
            complete = complete and there <= after.get(kind, frozenset())
        known = frozenset().union(*after.values())
        if complete and not self.synced:
            self.synced = True
            self._changed.set()
        if not gone <= self._gone:
            _LOGGER.info("%d objects were deleted unnoticed", len(gone - self._gone))
            self._changed.set()
        self._gone = (self._gone | gone) & known  # a uid never comes back
        if self.synced:
            self._keep(asyncio.get_running_loop().time())

    def _keep(self, now: float) -> None:
        for kind in self.kinds:
            self._kept[kind] = _Kept(now, self._all(kind))
        for kind in [kind for kind, kept in self._kept.items() if now - kept.at > _ABSENCE_SECONDS]:
            del self._kept[kind]
            self._changed.set()

    async def wait(self, seconds: float) -> None:
        """Wait for some time, or until a watch had a gap."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._relisted.wait()
                await asyncio.sleep(_SYNC_SECONDS)
        self._relisted.clear()

    async def publish(self) -> None:
        """Tell of each change once the indexes are complete, for ever."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(_COALESCE_SECONDS)
            self._changed.clear()
            if self.synced:
                self._on_objects(self._objects())

    def _objects(self) -> Objects:
        policies: list[PolicyObject] = self._all(POLICIES)
        pods: list[Pod] = self._all(PODS)
        nodes: list[NodeObject] = self._all(NODES)
        pools: list[Pool] = [*self._all(POOLS), *self._all(EARLY_POOLS)]
        return Objects(policies, pods, nodes, pools)

    def _all(self, kind: Kind) -> list[Any]:
        index = self._indices.get(kind)
        if index is None:
            return list(self._kept[kind].objects) if kind in self._kept else []
        return [one for uid, store in index.items() if uid not in self._gone for one in store]


def _indexer(read: Callable[[Mapping[str, Any]], object]) -> Callable[..., Any]:
    async def index(body: kopf.Body, **_: Any) -> dict[str, object]:
        return {str(body.metadata.get("uid")): read(body)}

    return index


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.process.ultimate_exiting_timeout = None
    settings.networking.connect_timeout = 5.0
    settings.networking.error_backoffs = (0.25, 0.5, 1.0, 2.0)
    settings.watching.inactivity_timeout = _INACTIVITY_SECONDS
    settings.watching.connect_timeout = 5.0
    settings.queueing.idle_timeout = 1.0
    settings.queueing.exit_timeout = 0.5
    settings.queueing.error_delays = (1.0, 2.0, 5.0)
    return settings


def _usable(listing: Listing) -> frozenset[Kind]:
    """Return the kinds that can be followed.

    Raises:
        KubernetesError: If one that is needed is not among them.
    """
    for kind, absence in listing.items():
        if isinstance(absence, Absence) and kind.needed:
            raise KubernetesError(_why_absent(kind, absence))
    return frozenset(kind for kind, uids in listing.items() if not isinstance(uids, Absence))


def _why_absent(kind: Kind, absence: Absence) -> str:
    if absence is Absence.FORBIDDEN:
        return f"this account may not list {kind.full_name}; grant it list and watch (manifests/rbac/router.yaml)"
    return f"the API server does not know {kind.full_name}; apply the CRDs of the chart, or wait if it has just started"
