"""A TLS server whose certificate is replaced while it serves."""

import asyncio
import logging
import ssl
from pathlib import Path

_LOGGER = logging.getLogger(__name__)

_Signature = tuple[tuple[int, int, int], ...] | None


class ServerCertificate:
    """Certificate and key from files, loaded again when they change; connections that are open go on.

    Args:
        certificate: PEM file, with intermediates if there are any.
        key: PEM file.

    Raises:
        OSError: If the files cannot be read or do not belong together (an `ssl.SSLError` is one).
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._loaded = self._signature()
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        """For the server's socket; each new connection is shown the newest certificate."""
        self.context.load_cert_chain(certificate, key)

    def refresh(self) -> bool:
        """Load the files if they have changed and are usable; tell whether that was so. Blocks on the file system."""
        signature = self._signature()
        if signature is None or signature == self._loaded:
            return False
        try:
            # First elsewhere: half of a new pair would leave the server without a usable one.
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(self._certificate, self._key)
            self.context.load_cert_chain(self._certificate, self._key)
        except OSError as error:
            _LOGGER.warning("Keeping the old certificate, %s cannot be used: %s", self._certificate, error)
            return False
        self._loaded = signature
        _LOGGER.info("Serving with the new certificate of %s", self._certificate)
        return True

    async def watch(self, interval_seconds: float = 5.0) -> None:
        """Refresh for ever; ends only by cancellation."""
        while True:
            await asyncio.sleep(interval_seconds)
            await asyncio.to_thread(self.refresh)

    def _signature(self) -> _Signature:
        """Return what changes with the files; Secrets are swapped by symlink, so inodes count too."""
        try:
            statuses = [path.stat() for path in (self._certificate, self._key)]
        except OSError:
            return None
        return tuple((status.st_ino, status.st_size, status.st_mtime_ns) for status in statuses)
