"""The connection to the policy service: one channel, opened anew when its TLS files change."""

from dataclasses import dataclass
from pathlib import Path

import grpc

from pointsman.policy.v1 import policy_pb2_grpc

_LARGEST_ANSWER_BYTES = 16 << 20
_MOST_RECONNECT_MILLISECONDS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyServiceAddress:
    """Where the policy service is, and how it is trusted."""

    target: str
    """As "host:port"."""
    authority: Path | None = None
    """PEM file with the CA that signed its certificate; None = the connection is plain text."""
    certificate: Path | None = None
    """PEM file with the certificate to show it; None = it asks for none."""
    key: Path | None = None
    """PEM file with its key."""


class PolicyServiceConnection:
    """Gives out stubs of the policy service; used on one event loop.

    Args:
        address: Where it is.
    """

    def __init__(self, address: PolicyServiceAddress) -> None:
        self._address = address
        self._files: tuple[bytes | None, ...] = ()
        self._channel: grpc.aio.Channel | None = None

    async def stub(self) -> policy_pb2_grpc.PolicyServiceStub:
        """Return a stub to make the next calls with. Reads the TLS files, which are small.

        Where they have changed, calls that are under way on the channel before end as cancelled.

        Raises:
            OSError: If a TLS file cannot be read.
        """
        files = tuple(_bytes(file) for file in (self._address.authority, self._address.key, self._address.certificate))
        if self._channel is None or files != self._files:
            before, self._files = self._channel, files
            self._channel = self._open()
            if before is not None:
                await before.close(None)
        return policy_pb2_grpc.PolicyServiceStub(self._channel)  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close(None)
            self._channel = None

    def _open(self) -> grpc.aio.Channel:
        options: list[tuple[str, str | int]] = [
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_receive_message_length", _LARGEST_ANSWER_BYTES),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_reconnect_backoff_ms", _MOST_RECONNECT_MILLISECONDS),
        ]
        if self._address.authority is None:
            return grpc.aio.insecure_channel(self._address.target, options=options)
        credentials = grpc.ssl_channel_credentials(*self._files)
        return grpc.aio.secure_channel(self._address.target, credentials, options=options)


def _bytes(file: Path | None) -> bytes | None:
    return None if file is None else file.read_bytes()
