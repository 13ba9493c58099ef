"""TLS to a picker: a relay on a local socket that speaks TLS to the outside.

Gateways connect to pickers with TLS and often do not verify them, because pickers make their own certificates. gRPC
for Python cannot do without verification, Python's own TLS can; so gRPC talks plainly to this relay.
"""

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pointsman_policy.errors import PointsmanError

_BUFFER_BYTES = 1 << 16


class TlsFileError(PointsmanError):
    """A file with certificates or a key cannot be used; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """How to use TLS."""

    authority: Path | None = None
    """PEM file of the CAs that the picker's certificate must come from; None = not verified, as gateways do."""
    certificate: Path | None = None
    """PEM file with our own certificate and, unless `key` is given, its key; None = none is shown."""
    key: Path | None = None
    """PEM file with the certificate's key."""
    server_name: str = ""
    """Name that the picker's certificate must have; empty = the target's host."""

    def context(self) -> ssl.SSLContext:
        """Return the TLS client that these settings mean. Raises: TlsFileError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["h2"])
        if self.authority is None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            with _names_file("--ca", self.authority, "CA certificates"):
                context.load_verify_locations(self.authority)
        if self.certificate is not None:
            with _names_file(
                "--client-certificate", self.certificate, "a certificate and its key, or give --client-key"
            ):
                context.load_cert_chain(self.certificate, self.key)
        return context


@contextlib.contextmanager
def _names_file(option: str, path: Path, content: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise TlsFileError(f"{option} {path} cannot be used ({error}); give a PEM file with {content}") from error


class TlsRelay:
    """Carries bytes between a local socket and a TLS server.

    Args:
        target: The server's "host:port".
        settings: How to use TLS.
    """

    def __init__(self, target: str, settings: TlsSettings) -> None:
        self._target = target
        self._host, _, self._port = target.rpartition(":")
        self._host = self._host.removeprefix("[").removesuffix("]")
        self._settings = settings
        self._context = settings.context()
        self._folder = tempfile.TemporaryDirectory(prefix="pointsman-")
        self._server: asyncio.Server | None = None
        self._carriers: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Shake hands once, then listen.

        Returns:
            The address for gRPC.

        Raises:
            ConnectionError: If there is no TLS server, its certificate is not accepted, or it does not speak HTTP/2.
        """
        try:
            _, writer = await self._connect()
        except ssl.SSLCertVerificationError as error:
            raise ConnectionError(
                f"the certificate of {self._target} is not accepted ({error.verify_message}); "
                "check --ca and --server-name"
            ) from error
        except (OSError, ValueError) as error:
            raise ConnectionError(
                f"no TLS server answers at {self._target} ({error}); check it, or give --plaintext"
            ) from error
        chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        writer.close()
        if chosen != "h2":
            raise ConnectionError(f"{self._target} does not agree to HTTP/2 in TLS (ALPN), which gRPC needs")
        path = Path(self._folder.name) / "picker"
        self._server = await asyncio.start_unix_server(self._serve, path)
        return f"unix:{path}"

    async def close(self) -> None:
        """Stop listening and drop what is open."""
        if self._server is not None:
            self._server.close()
        for carrier in self._carriers:
            carrier.cancel()
        await asyncio.gather(*self._carriers, return_exceptions=True)
        self._folder.cleanup()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = self._settings.server_name or self._host
        return await asyncio.open_connection(self._host, int(self._port), ssl=self._context, server_hostname=name)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carrier = asyncio.create_task(self._carry_both(reader, writer))
        self._carriers.add(carrier)
        carrier.add_done_callback(self._carriers.discard)

    async def _carry_both(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sides = [writer]
        try:
            answers, outside = await self._connect()
            sides.append(outside)
            await asyncio.gather(_carry(reader, outside), _carry(answers, writer))
        except OSError:
            pass  # gRPC sees its connection end, and says so
        finally:
            for side in sides:
                side.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_BUFFER_BYTES):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()
