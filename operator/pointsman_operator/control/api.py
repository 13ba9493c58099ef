"""The few calls to the API server that kopf does not make: list router pods, store statuses, post events.

The client of the package ``kubernetes`` would cost the operator more memory than everything else together.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import aiohttp
import kopf
import msgspec

from pointsman_operator.errors import KubernetesError

MERGE_PATCH = "application/merge-patch+json"
JSON = "application/json"
_USER_AGENT = "pointsman-operator"
"""Also the name under which the API server notes who manages a field."""
_TIMEOUT_SECONDS = 15.0
_UNAUTHORIZED = 401
_FIRST_ERROR = 400
_NOT_FOUND = 404


class RefusedError(KubernetesError):
    """The API server answered, and does not do what was asked.

    Args:
        what: The call.
        status: HTTP status.
        message: The server's reason.
    """

    def __init__(self, what: str, status: int, message: str) -> None:
        super().__init__(f"{what}: the API server answers {status}: {message}")
        self.status = status

    @property
    def not_found(self) -> bool:
        """Whether there is no such object."""
        return self.status == _NOT_FOUND


class KubernetesApi:
    """Calls the API server; logs in again when credentials are refused.

    Args:
        connect: Returns server and credentials; called in another thread.
    """

    def __init__(self, connect: Callable[[], kopf.ConnectionInfo]) -> None:
        self._connect = connect
        self._session: aiohttp.ClientSession | None = None
        self._login = asyncio.Lock()

    async def get(self, path: str, **parameters: str) -> Any:
        """Read an object or a list; every method raises KubernetesError, RefusedError if there was an answer."""
        return await self._call("GET", path, parameters=parameters)

    async def create(self, path: str, body: Mapping[str, Any]) -> Any:
        """Create an object."""
        return await self._call("POST", path, body)

    async def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """Apply a JSON merge patch."""
        return await self._call("PATCH", path, body, MERGE_PATCH)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        content_type: str = JSON,
        parameters: Mapping[str, str] | None = None,
    ) -> Any:
        try:
            return await self._once(method, path, body, content_type, parameters)
        except RefusedError as error:
            if error.status != _UNAUTHORIZED:
                raise
        await self.close()
        return await self._once(method, path, body, content_type, parameters)

    async def _once(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        content_type: str,
        parameters: Mapping[str, str] | None,
    ) -> Any:
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": content_type}
        try:
            session = await self._logged_in()
            async with session.request(method, path, params=parameters, data=data, headers=headers) as response:
                text = await response.read()
                if response.status >= _FIRST_ERROR:
                    raise RefusedError(f"{method} {path}", response.status, _message(text))
                return msgspec.json.decode(text)
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError) as error:
            reason = str(error) or type(error).__name__
            raise KubernetesError(f"{method} {path}: the API server cannot be asked ({reason})") from error

    async def _logged_in(self) -> aiohttp.ClientSession:
        async with self._login:
            if self._session is None:
                info = await asyncio.to_thread(self._connect)
                self._session = aiohttp.ClientSession(
                    info.server,
                    connector=aiohttp.TCPConnector(ssl=info.as_ssl_context()),
                    timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS),
                    headers={**info.as_http_headers(), "User-Agent": _USER_AGENT},
                    proxy=info.proxy_url,
                )
            return self._session


def _message(text: bytes) -> str:
    with suppress(msgspec.DecodeError, TypeError, KeyError):
        return str(msgspec.json.decode(text)["message"])
    return text[:200].decode("utf-8", "replace")
