"""TLS of the gRPC server, with certificates that may change while it runs.

Mounted Secrets are replaced behind a symlink while they are read, so a certificate may be seen with the key of another
one for a moment. Files count only once they fit; until then those before them stay in use.
"""

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from pointsman_policy.errors import DocumentError

_LOGGER = logging.getLogger(__name__)

_Signature = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files."""

    certificate: Path
    """The server's, and those between it and its CA."""
    key: Path
    """Of the certificate, without a password."""
    client_ca: Path | None = None
    """CAs of the clients' certificates, of which each client must show one; None = clients need none."""


class ServerTls:
    """Gives a server its credentials.

    Args:
        files: Read at once, and looked at again at each new connection.

    Raises:
        DocumentError: If the files cannot be used.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._paths = [files.certificate, files.key, *([files.client_ca] if files.client_ca else [])]
        self._used = self._signature()
        self._first = self._read()
        self._problem = ""

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials that follow the files."""
        authenticated = len(self._paths) > 2
        return grpc.dynamic_ssl_server_credentials(
            self._first,
            self._changed,  # type: ignore[arg-type] # the stubs leave out None, which gRPC documents
            require_client_authentication=authenticated,
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what to use from this connection on; None = what is in use. Called by gRPC; never raises."""
        try:
            signature = self._signature()
            if signature == self._used:
                return None
            read = self._read()
            if self._signature() != signature:
                return None  # replaced while being read; the next connection sees to it
        except DocumentError as error:
            if str(error) != self._problem:
                _LOGGER.warning("Keeping the certificate in use: %s", error)
            self._problem = str(error)
            return None
        self._used, self._problem = signature, ""
        _LOGGER.info("Taking over the new certificate %s", self._paths[0])
        return read

    def _signature(self) -> _Signature:
        found = []
        for path in self._paths:
            try:
                status = path.stat()
            except OSError as error:
                raise _unreadable(path, error) from error
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(found)

    def _read(self) -> grpc.ServerCertificateConfiguration:
        certificate, key, *authorities = [_content(path) for path in self._paths]
        names = " and ".join(map(str, self._paths[:2]))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # OpenSSL would ask the terminal for the password of a key that has one.
            context.load_cert_chain(self._paths[0], self._paths[1], password=lambda: b"-")
            for path in self._paths[2:]:
                names = str(path)
                context.load_verify_locations(path)
        except OSError as error:  # ssl.SSLError is one
            reason = getattr(error, "reason", None) or error.strerror or error
            raise DocumentError(
                names, f"not usable for TLS ({reason}); give PEM files: a certificate, its key without password, CAs"
            ) from error
        return grpc.ssl_server_certificate_configuration([(key, certificate)], authorities[0] if authorities else None)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DocumentError:
    return DocumentError(str(path), f"cannot be read for TLS ({error.strerror}); check the --tls options")
