"""Events about pods, as `kubectl describe` shows them; losing one is no harm."""

import asyncio
import contextlib
import datetime
import secrets

from tests.cluster.kubelet.api import UNREACHABLE, Api, ApiError
from tests.cluster.kubelet.documents import Document

LONGEST_MESSAGE = 1000


class Events:
    """Writes events one after the other, behind the back of whoever records them."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._queue: asyncio.Queue[Document] = asyncio.Queue(maxsize=1000)

    def record(self, pod: Document, kind: str, reason: str, message: str) -> None:
        """Have an event written; kind is Normal or Warning."""
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata, node = pod["metadata"], pod["spec"].get("nodeName", "")
        about = {"apiVersion": "v1", "kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"]}
        event = {
            "metadata": {"name": f"{metadata['name']}.{secrets.token_hex(8)}", "namespace": metadata["namespace"]},
            "involvedObject": about | {"uid": metadata["uid"]},
            "type": kind,
            "reason": reason,
            "message": message[:LONGEST_MESSAGE],
            "source": {"component": "process-kubelet", "host": node},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        with contextlib.suppress(asyncio.QueueFull):
            self._queue.put_nowait(event)

    async def run(self) -> None:
        """Write what is recorded, until cancelled."""
        while True:
            event = await self._queue.get()
            path = f"/api/v1/namespaces/{event['metadata']['namespace']}/events"
            with contextlib.suppress(ApiError, *UNREACHABLE):
                await self._api.call("POST", path, event)
