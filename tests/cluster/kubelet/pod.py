"""One pod on this machine: its volumes, its containers in their order, its end, and what the API is told of it."""

import asyncio
import contextlib
import datetime
import logging
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from tests.cluster.kubelet import documents
from tests.cluster.kubelet.api import STRATEGIC_PATCH, UNREACHABLE, Api, ApiError
from tests.cluster.kubelet.configuration import Configuration
from tests.cluster.kubelet.container import Container, ImageError
from tests.cluster.kubelet.documents import Document
from tests.cluster.kubelet.environment import container_environment
from tests.cluster.kubelet.events import Events
from tests.cluster.kubelet.launch import Launcher
from tests.cluster.kubelet.mounts import copy_subpaths
from tests.cluster.kubelet.probes import Target
from tests.cluster.kubelet.process import Command
from tests.cluster.kubelet.sources import NotThereError, Sources
from tests.cluster.kubelet.status import Facts, pod_status
from tests.cluster.kubelet.volumes import UnsupportedVolumeError, Volumes

RETRY_SECONDS = 0.3
VOLUME_TICK_SECONDS = 60.0
"""How often volumes are looked at though no source of theirs has changed: tokens end."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Means:
    """What all pods of a kubelet share."""

    api: Api
    http: aiohttp.ClientSession
    configuration: Configuration
    sources: Sources
    services: Callable[[str], list[Document]]
    """The Services of a namespace."""
    events: Events


class Pod:
    """Runs one pod from its binding to its deletion.

    Args:
        document: as the API holds it.
        address: its IP address.
        folder: for its files; removed at its end.
        means: what all pods share.
    """

    def __init__(self, document: Document, address: str, folder: Path, means: Means) -> None:
        self.document, self.address, self._folder, self._means = document, address, folder, means
        self._volumes = Volumes(folder, means.sources, self._request_token)
        authority = Path(means.configuration.authority)
        self._launcher = Launcher(folder, Path(means.configuration.logs), means.api.url, authority)
        self._started_at = document.get("status", {}).get("startTime") or _now()
        self._init_containers = self._make("initContainers", lambda code: code != 0 and self._policy != "Never")
        self._containers = self._make("containers", self._is_restarted)
        self._published: Document = {"conditions": document.get("status", {}).get("conditions", [])}
        self._dirty, self._sources_changed = asyncio.Event(), asyncio.Event()
        self._mounted, self._ending = asyncio.Event(), asyncio.Event()
        self._grace_seconds = 0.0
        self._finished = False

    @property
    def node(self) -> str:
        """The name of its node."""
        return str(self.document["spec"]["nodeName"])

    def update(self, document: Document) -> None:
        """Take note of what the API holds now; a deletion begins the pod's end."""
        before, self.document = self.document["metadata"], document
        if any(before.get(part) != document["metadata"].get(part) for part in ("labels", "annotations")):
            self.sources_changed()
        self.changed()
        if "deletionTimestamp" in document["metadata"]:
            self.end(float(document["metadata"].get("deletionGracePeriodSeconds", 30)))

    def sources_changed(self) -> None:
        """Have the volumes written anew."""
        self._sources_changed.set()

    def end(self, grace_seconds: float) -> None:
        """Begin its end."""
        self._grace_seconds = grace_seconds
        self._ending.set()
        self.changed()

    def kill(self) -> None:
        """Kill its processes at once, as if its node had lost power."""
        for container in (*self._init_containers, *self._containers):
            container.kill()

    async def run(self) -> None:
        """Run it until its end, and tell the API; cancelling it kills its processes and tells nobody."""
        tasks = [asyncio.create_task(work) for work in (self._live(), self._publish_changes(), self._keep_volumes())]
        try:
            await self._ending.wait()
            running = (*self._init_containers, *self._containers)
            await asyncio.gather(*(container.stop(self._grace_seconds) for container in running))
            await _cancel(tasks)
            await self._delete()
        finally:
            self.kill()
            await _cancel(tasks)
            shutil.rmtree(self._folder, ignore_errors=True)

    def command(self, container: Document, attempt: int) -> Command:
        """Return what to run for one of its containers.

        Raises:
            ImageError: nothing stands for its image.
            NotThereError: an object that its environment refers to is missing.
        """
        image = self._means.configuration.image(container["image"])
        if image is None:
            message = f'nothing stands for image "{container["image"]}" in the process kubelet\'s configuration'
            raise ImageError(message)
        pod = self._document_with_addresses()
        services = self._means.services(pod["metadata"]["namespace"])
        variables = container_environment(pod, container, self._means.sources, services)
        copy_subpaths(pod, container, self._folder)
        return self._launcher.command(pod, container, image, variables, attempt)

    def target(self, container: Document, command: Command) -> Target:
        """Return whom to probe."""
        return Target(self.document, container, self.address, command, self._means.http)

    def container(self, name: str) -> Container | None:
        """Return one of its containers."""
        return next((one for one in (*self._containers, *self._init_containers) if one.name == name), None)

    def log(self, container: Container, *, previous: bool = False) -> Path:
        """Return where the output of a container's last run goes, or of the run before."""
        return self._launcher.log(self.document, container.document, container.state.restart_count - previous)

    def changed(self) -> None:
        """Have the API told."""
        self._dirty.set()

    def event(self, kind: str, reason: str, message: str) -> None:
        """Record an event."""
        self._means.events.record(self.document, kind, reason, message)

    @property
    def _policy(self) -> str:
        return str(self.document["spec"].get("restartPolicy", "Always"))

    def _is_restarted(self, code: int) -> bool:
        return self._policy == "Always" or (self._policy == "OnFailure" and code != 0)

    def _make(self, section: str, restarts: Callable[[int], bool]) -> list[Container]:
        status = self.document.get("status", {})
        field = "initContainerStatuses" if section == "initContainers" else "containerStatuses"
        counts = {one["name"]: one["restartCount"] + 1 for one in status.get(field, ()) if one.get("containerID")}
        backoff = self._means.configuration.restart_backoff_seconds
        return [
            Container(one, self, restarts, backoff, counts.get(one["name"], 0))
            for one in self.document["spec"].get(section, ())
        ]

    async def _live(self) -> None:
        self.changed()
        await self._mounted.wait()
        for container in self._init_containers:
            if await container.run() != 0:
                self._finish()
                return
        await asyncio.gather(*(container.run() for container in self._containers))
        self._finish()

    def _finish(self) -> None:
        self._finished = True
        self.changed()

    async def _keep_volumes(self) -> None:
        said = ""
        while True:
            self._sources_changed.clear()
            failure = await self._write_volumes()
            if failure is None:
                self._mounted.set()
            elif failure != said and not self._mounted.is_set():
                self.event("Warning", "FailedMount", f"MountVolume.SetUp failed: {failure}")
                said = failure
            with contextlib.suppress(TimeoutError):
                seconds = VOLUME_TICK_SECONDS if failure is None else RETRY_SECONDS
                await asyncio.wait_for(self._sources_changed.wait(), seconds)

    async def _write_volumes(self) -> str | None:
        """Make the volumes what they should be now; return why that failed, or None."""
        try:
            await self._volumes.write(self._document_with_addresses())
        except (NotThereError, UnsupportedVolumeError, ApiError, *UNREACHABLE) as error:
            return str(error) or type(error).__name__
        return None

    async def _request_token(self, pod: Document, audience: str | None, seconds: int) -> str:
        metadata, account = pod["metadata"], pod["spec"].get("serviceAccountName", "default")
        bound = {"kind": "Pod", "apiVersion": "v1", "name": metadata["name"], "uid": metadata["uid"]}
        spec = {"audiences": [audience] if audience else [], "expirationSeconds": seconds, "boundObjectRef": bound}
        path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
        answer = await self._means.api.call("POST", path, {"spec": spec})
        return str(answer["status"]["token"])

    async def _publish_changes(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            status = self._status()
            if status != self._published and not await self._publish(status):
                self._dirty.set()
                await asyncio.sleep(RETRY_SECONDS)

    async def _publish(self, status: Document) -> bool:
        """Write the status; return whether that is settled, be it because the pod is gone."""
        body = {"metadata": {"uid": documents.uid(self.document)}, "status": status}
        try:
            await self._means.api.call("PATCH", documents.path(self.document) + "/status", body, kind=STRATEGIC_PATCH)
        except ApiError as error:
            if error.status not in (404, 409):
                log.warning("status of %s was refused: %s", documents.key(self.document), error)
                return False
        except UNREACHABLE:
            return False
        self._published = status
        return True

    async def _delete(self) -> None:
        """Write the last status, and take the object away; again and again while the API server is away."""
        await _until(lambda: self._publish(self._status()))
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": documents.uid(self.document)}}
        await _until(lambda: _settled(self._means.api.call("DELETE", documents.path(self.document), body)))

    def _status(self) -> Document:
        facts = Facts(
            pod=self.document,
            published=self._published["conditions"],
            address=self.address,
            host_address=self._means.configuration.address,
            started_at=self._started_at,
            now=_now(),
            init_containers=self._init_containers,
            containers=self._containers,
            ending=self._ending.is_set(),
            finished=self._finished,
        )
        return pod_status(facts)

    def _document_with_addresses(self) -> Document:
        addresses = {"podIP": self.address, "hostIP": self._means.configuration.address}
        return self.document | {"status": self.document.get("status", {}) | addresses}


async def _until(attempt: Callable[[], Awaitable[bool]]) -> None:
    while not await attempt():  # noqa: ASYNC110 - nothing tells when the API server is back
        await asyncio.sleep(RETRY_SECONDS)


async def _settled(call: Awaitable[Document]) -> bool:
    try:
        await call
    except ApiError as error:
        return error.status in (404, 409)
    except UNREACHABLE:
        return False
    return True


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            log.error("a task of a pod failed", exc_info=outcome)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
