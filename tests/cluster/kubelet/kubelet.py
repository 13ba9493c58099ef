"""Runs the pods of every node that the API holds, as processes of this machine."""

import asyncio
import datetime
import logging
from collections.abc import Coroutine
from pathlib import Path

import aiohttp
from tests.cluster.addresses import hosts
from tests.cluster.kubelet import documents
from tests.cluster.kubelet.api import STRATEGIC_PATCH, UNREACHABLE, Api, ApiError, Document
from tests.cluster.kubelet.configuration import Configuration
from tests.cluster.kubelet.events import Events
from tests.cluster.kubelet.informer import Informer
from tests.cluster.kubelet.pod import Means, Pod
from tests.cluster.kubelet.service_proxy import ServiceProxy
from tests.cluster.kubelet.sources import Sources

LOST_ANNOTATION = "process-kubelet/lost"
"""A node that carries it has lost its power: its pods are killed, and nothing more is heard of it."""
ENDED_PHASES = ("Succeeded", "Failed")
FORCED_GRACE_SECONDS = 2.0
log = logging.getLogger(__name__)


class Kubelet:
    """The pods that run, and how they follow the API."""

    def __init__(self, api: Api, http: aiohttp.ClientSession, configuration: Configuration) -> None:
        self._api, self._configuration = api, configuration
        self.nodes = Informer(api, "/api/v1/nodes")
        self.pods = Informer(api, "/api/v1/pods", {"fieldSelector": "spec.nodeName!="})
        self._services = Informer(api, "/api/v1/services")
        self._config_maps, self._secrets = Informer(api, "/api/v1/configmaps"), Informer(api, "/api/v1/secrets")
        sources = Sources(self._config_maps, self._secrets)
        self._events = Events(api)
        self._means = Means(api, http, configuration, sources, self._services_of, self._events)
        self._proxy = ServiceProxy(self._services, self.pods)
        self._running: dict[str, Pod] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._addresses = hosts(configuration.pod_addresses)
        self._count = 0

    async def run(self) -> None:
        """Run until cancelled; then every process ends at once."""
        self.nodes.listen(self._node_changed)
        self.pods.listen(self._pod_changed)
        for informer in (self._config_maps, self._secrets):
            informer.listen(self._source_changed)
        try:
            async with asyncio.TaskGroup() as group:
                sources = (self._config_maps, self._secrets, self._services, self.nodes)
                for informer in sources:
                    group.create_task(informer.run())
                for informer in sources:
                    await informer.synchronized.wait()
                group.create_task(self.pods.run())
                group.create_task(self._events.run())
                group.create_task(self._proxy.run())
                log.info("serving")
        finally:
            for task in list(self._tasks.values()):
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def find(self, namespace: str, name: str) -> Pod | None:
        """Return a pod that runs here."""
        document = self.pods.get(namespace, name)
        return None if document is None else self._running.get(documents.uid(document))

    def _services_of(self, namespace: str) -> list[Document]:
        return [service for service in self._services if service["metadata"]["namespace"] == namespace]

    def _source_changed(self, before: Document | None, after: Document | None) -> None:
        namespace = (after or before or {})["metadata"]["namespace"]
        for pod in self._running.values():
            if pod.document["metadata"]["namespace"] == namespace:
                pod.sources_changed()

    def _pod_changed(self, before: Document | None, after: Document | None) -> None:
        if before is not None and (after is None or documents.uid(after) != documents.uid(before)):
            gone = self._running.get(documents.uid(before))
            if gone is not None:
                gone.end(FORCED_GRACE_SECONDS)
        if after is None:
            return
        pod = self._running.get(documents.uid(after))
        if pod is not None:
            pod.update(after)
        elif self._is_here(after):
            self._start(after)

    def _is_here(self, pod: Document) -> bool:
        node = self.nodes.get("", pod["spec"]["nodeName"])
        return node is not None and not _is_lost(node)

    def _start(self, document: Document) -> None:
        ended = document.get("status", {}).get("phase") in ENDED_PHASES
        if ended and "deletionTimestamp" not in document["metadata"]:
            return
        self._count += 1
        folder = Path(self._configuration.folder) / str(self._count)
        folder.mkdir()
        uid = documents.uid(document)
        pod = Pod(document, self._address(document), folder, self._means)
        self._running[uid] = pod
        self._tasks[uid] = asyncio.create_task(self._run(uid, pod))
        pod.update(document)

    async def _run(self, uid: str, pod: Pod) -> None:
        try:
            await pod.run()
        except Exception:
            log.exception("pod %s was given up", documents.key(pod.document))
        finally:
            self._running.pop(uid, None)
            self._tasks.pop(uid, None)

    def _address(self, document: Document) -> str:
        """Return the address that a pod had before, for the API does not let go of it, or a free one."""
        taken = {pod.address for pod in self._running.values()}
        before = document.get("status", {}).get("podIP")
        if before and before not in taken:
            return str(before)
        taken |= {pod["status"].get("podIP", "") for pod in self.pods}
        for _ in range(2):
            for address in self._addresses:
                if address not in taken:
                    return address
            self._addresses = hosts(self._configuration.pod_addresses)
        message = f"every address of {self._configuration.pod_addresses} is taken"
        raise RuntimeError(message)

    def _node_changed(self, before: Document | None, after: Document | None) -> None:
        name = (after or before or {})["metadata"]["name"]
        was_here, is_here = (node is not None and not _is_lost(node) for node in (before, after))
        if is_here and not was_here:
            self._in_background(self._return(name, was_lost=before is not None))
        elif was_here and not is_here:
            self._in_background(self._lose(name, is_gone=after is None))

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _return(self, node: str, *, was_lost: bool) -> None:
        if was_lost:
            await self._set_node(node, "True", "KubeletReady")
        for pod in self.pods:
            if pod["spec"]["nodeName"] == node:
                self._pod_changed(None, pod)

    async def _lose(self, node: str, *, is_gone: bool) -> None:
        """Kill a node's pods, and say of the node what the node controller says when it hears nothing more of one."""
        lost = {uid: pod for uid, pod in self._running.items() if pod.node == node}
        tasks = [self._tasks[uid] for uid in lost]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if is_gone:
            return
        await self._set_node(node, "Unknown", "NodeStatusUnknown")
        for pod in lost.values():
            await self._patch(documents.path(pod.document) + "/status", [_condition("Ready", "False", "NodeLost")])

    async def _set_node(self, node: str, ready: str, reason: str) -> None:
        await self._patch(f"/api/v1/nodes/{node}/status", [_condition("Ready", ready, reason)])

    async def _patch(self, path: str, conditions: list[Document]) -> None:
        try:
            await self._api.call("PATCH", path, {"status": {"conditions": conditions}}, kind=STRATEGIC_PATCH)
        except (ApiError, *UNREACHABLE) as error:
            log.warning("%s was not written: %s", path, error)


def _is_lost(node: Document) -> bool:
    return LOST_ANNOTATION in node["metadata"].get("annotations", {})


def _condition(kind: str, status: str, reason: str) -> Document:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": kind, "status": status, "reason": reason, "lastHeartbeatTime": now, "lastTransitionTime": now}
