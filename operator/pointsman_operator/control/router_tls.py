"""TLS to routers: certificates that are read again when they change, and servers that are called by address."""

import asyncio
import ssl
from pathlib import Path

import grpc

from pointsman_operator.control.settings import RouterSelection

_HANDSHAKE_SECONDS = 2.0


class RouterTls:
    """What a channel to a router needs; reads files in the caller's thread.

    Args:
        selection: Names the files; without an authority, channels are plain text.
    """

    def __init__(self, selection: RouterSelection) -> None:
        self._selection = selection
        self._read: tuple[bytes | None, ...] = ()

    @property
    def used(self) -> bool:
        """Whether channels are encrypted."""
        return self._selection.authority is not None

    def changed(self) -> bool:
        """Read the files; tell whether they differ from the last time, so that channels must be opened anew.

        Raises:
            OSError: If a file cannot be read.
        """
        files = (self._selection.authority, self._selection.certificate, self._selection.key)
        read = tuple(_bytes(file) for file in files)
        changed = read != self._read
        self._read = read
        return changed

    def credentials(self) -> grpc.ChannelCredentials:
        """Return credentials made of the files as last read."""
        authority, certificate, key = self._read
        return grpc.ssl_channel_credentials(authority, private_key=key, certificate_chain=certificate)

    async def server_name(self, host: str, port: int) -> str:
        """Return the name to expect in a router's certificate.

        Raises:
            OSError: If the router cannot be reached, or shows a certificate of another authority.
        """
        if self._selection.server_name:
            return self._selection.server_name
        context = ssl.create_default_context(cafile=self._selection.authority)
        context.check_hostname = False
        if self._selection.certificate is not None:
            context.load_cert_chain(self._selection.certificate, self._selection.key)
        async with asyncio.timeout(_HANDSHAKE_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
        try:
            shown = writer.get_extra_info("peercert") or {}
        finally:
            writer.close()
        names = [name for kind, name in shown.get("subjectAltName", ()) if kind == "DNS"]
        if not names:
            raise OSError("the router's certificate names no host; issue it with a DNS name")
        return str(names[0])


def _bytes(file: Path | None) -> bytes | None:
    return None if file is None else file.read_bytes()
