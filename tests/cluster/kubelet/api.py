"""The API server as the kubelet uses it: asyncio, plain documents, watches."""

import base64
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import yaml

Document = dict[str, Any]

STRATEGIC_PATCH = "application/strategic-merge-patch+json"
MERGE_PATCH = "application/merge-patch+json"
CALL_SECONDS = 30.0
WATCH_SECONDS = 300


class ApiError(RuntimeError):
    """The API server refused; `status` is its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


UNREACHABLE = (aiohttp.ClientError, TimeoutError, OSError)
"""What calls raise while the API server is away."""


class Api:
    """One user's connection; use as an async context manager."""

    def __init__(self, kubeconfig: Path) -> None:
        document = yaml.safe_load(kubeconfig.read_text())
        cluster = document["clusters"][0]["cluster"]
        self.url: str = cluster["server"]
        self.authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        """The CA's certificate, PEM."""
        self._token = document["users"][0]["user"]["token"]

    async def __aenter__(self) -> "Api":
        trust = ssl.create_default_context(cadata=self.authority)
        self._session = aiohttp.ClientSession(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self._token}"},
            connector=aiohttp.TCPConnector(ssl=trust, limit=0),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._session.close()

    async def call(
        self,
        method: str,
        path: str,
        body: Document | None = None,
        *,
        kind: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Document:
        """Make one call.

        Raises:
            ApiError: the server refused.
            aiohttp.ClientError, TimeoutError, OSError: the server is away (`UNREACHABLE`).
        """
        request = self._session.request(
            method,
            path,
            params=query,
            data=None if body is None else json.dumps(body),
            headers={"Content-Type": kind},
            timeout=aiohttp.ClientTimeout(total=CALL_SECONDS),
        )
        async with request as answer:
            document: Document = await answer.json(content_type=None)
            if answer.status >= 400:
                raise ApiError(answer.status, str(document.get("message")))
            return document

    async def watch(self, path: str, version: str, selectors: Mapping[str, str]) -> AsyncIterator[Document]:
        """Yield watch events that follow a resource version, until the server ends the watch.

        Raises:
            ApiError: the server refused; 410 means that the version is too old.
            aiohttp.ClientError, TimeoutError, OSError: the server went away.
        """
        query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
        query |= {"timeoutSeconds": str(WATCH_SECONDS), **selectors}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CALL_SECONDS, sock_read=WATCH_SECONDS + CALL_SECONDS)
        async with self._session.get(path, params=query, timeout=timeout, read_bufsize=2**22) as answer:
            if answer.status >= 400:
                raise ApiError(answer.status, await answer.text())
            async for line in answer.content:
                event: Document = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError(event["object"].get("code", 500), event["object"].get("message", ""))
                yield event
