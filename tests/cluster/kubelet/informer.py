"""What the API holds of one kind, kept up to date by a watch, and who wants to know of changes."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping

from tests.cluster.kubelet.api import UNREACHABLE, Api, ApiError, Document

Listener = Callable[[Document | None, Document | None], None]
"""Called with an object before and after a change: the first is None for a new one, the second for one that is gone."""
RETRY_SECONDS = 0.3
log = logging.getLogger(__name__)


class Informer:
    """A cache of one collection, by namespace and name."""

    def __init__(self, api: Api, path: str, selectors: Mapping[str, str] | None = None) -> None:
        self._api, self._path, self._selectors = api, path, dict(selectors or {})
        self._objects: dict[tuple[str, str], Document] = {}
        self._listeners: list[Listener] = []
        self.synchronized = asyncio.Event()
        """Set once the first list has arrived."""

    def __iter__(self) -> Iterator[Document]:
        return iter(list(self._objects.values()))

    def get(self, namespace: str, name: str) -> Document | None:
        """Return an object (namespace "" for cluster-wide kinds), or None."""
        return self._objects.get((namespace, name))

    def listen(self, listener: Listener) -> None:
        """Have every later change told."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Follow the collection until cancelled; a server that is away is asked again."""
        while True:
            try:
                await self._follow()
            except (ApiError, *UNREACHABLE) as error:
                log.info("watch of %s ended: %s", self._path, error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        listed = await self._api.call("GET", self._path, query=self._selectors)
        self._replace(listed["items"] or [])
        self.synchronized.set()
        version = listed["metadata"]["resourceVersion"]
        with contextlib.suppress(TimeoutError):
            while True:
                version = await self._watch(version)

    async def _watch(self, version: str) -> str:
        async for event in self._api.watch(self._path, version, self._selectors):
            document = event["object"]
            version = document["metadata"]["resourceVersion"]
            if event["type"] == "DELETED":
                self._change(_key(document), None)
            elif event["type"] != "BOOKMARK":
                self._change(_key(document), document)
        return version

    def _replace(self, items: list[Document]) -> None:
        now = {_key(item): item for item in items}
        for key in self._objects.keys() - now.keys():
            self._change(key, None)
        for key, item in now.items():
            self._change(key, item)

    def _change(self, key: tuple[str, str], after: Document | None) -> None:
        before = self._objects.pop(key, None)
        if after is not None:
            self._objects[key] = after
        if _version(before) != _version(after):
            for listener in self._listeners:
                listener(before, after)


def _key(document: Document) -> tuple[str, str]:
    return document["metadata"].get("namespace", ""), document["metadata"]["name"]


def _version(document: Document | None) -> str | None:
    return None if document is None else document["metadata"]["resourceVersion"]
