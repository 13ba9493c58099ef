"""The sidecar's own way to `ExternalProcessor`: lean where gRPC is general, see `http2.py`."""

import asyncio
from collections.abc import Iterable, Sequence

from pointsman_operator.serving.conversation import MalformedStreamError
from pointsman_operator.serving.ext_proc import ExternalProcessor, ProcessStream
from pointsman_operator.serving.grpc_stream import INVALID_ARGUMENT, StreamError
from pointsman_operator.serving.http2 import GrpcConnection


class SidecarListener:
    """Serves `ExternalProcessor` and nothing else.

    Args:
        processor: Holds the conversations.
        max_message_bytes: Streams with larger messages are refused.
    """

    def __init__(self, processor: ExternalProcessor, max_message_bytes: int) -> None:
        self._processor = processor
        self._max_message_bytes = max_message_bytes
        self._connections: set[GrpcConnection] = set()
        self._servers: list[asyncio.Server] = []

    async def start(self, addresses: Sequence[str]) -> tuple[int, ...]:
        """Listen; returns the port of each address, 1 for unix sockets.

        Raises:
            RuntimeError: If an address cannot be listened on.
        """
        return tuple([await self._listen(address) for address in addresses])

    async def _listen(self, address: str) -> int:
        try:
            server = await self._server(address)
        except (OSError, OverflowError, ValueError) as error:
            raise RuntimeError(
                f'cannot listen on {address!r} for the sidecar; give an "ip:port" or "unix:/path" that no other '
                "process has"
            ) from error
        self._servers.append(server)
        return 1 if address.startswith("unix:") else int(server.sockets[0].getsockname()[1])

    async def _server(self, address: str) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        if address.startswith("unix:"):
            return await loop.create_unix_server(self._connect, address.removeprefix("unix:"))
        host, _, port = address.rpartition(":")
        if not host:
            raise ValueError("no address to listen on")
        return await loop.create_server(self._connect, host.removeprefix("[").removesuffix("]"), int(port))

    def _connect(self) -> GrpcConnection:
        return GrpcConnection(
            lambda: _Stream(self._processor.open()),
            self._connections,
            self._max_message_bytes,
            asyncio.get_running_loop().call_later,
        )

    @property
    def connections(self) -> int:
        """How many connections are up."""
        return len(self._connections)

    def leave(self) -> None:
        """Take no new streams; open ones may end, and clients close their connections then."""
        for server in self._servers:
            server.close()
        for connection in tuple(self._connections):
            connection.leave()

    def abort(self) -> None:
        """Close every connection now."""
        for connection in tuple(self._connections):
            connection.abort()


class _Stream:
    """A conversation in the terms of the transport."""

    def __init__(self, stream: ProcessStream) -> None:
        self._stream = stream

    @property
    def finished(self) -> bool:
        return self._stream.finished

    def receive(self, message: bytes) -> Iterable[bytes]:
        try:
            return self._stream.receive(message)
        except MalformedStreamError as error:
            raise StreamError(INVALID_ARGUMENT, str(error)) from error

    def closed(self, *, delivered: bool) -> None:
        self._stream.closed(delivered=delivered)
