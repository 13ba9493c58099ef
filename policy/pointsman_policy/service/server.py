"""The policy service's gRPC server: PolicyService, health and reflection."""

import ipaddress
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from pointsman.policy.v1 import policy_pb2_grpc
from pointsman_policy.service.servicer import SERVICE_NAME, PolicyServicer
from pointsman_policy.service.settings import ServiceSettings

_LARGEST_MESSAGE_BYTES: Final = 16 << 20
_KEEPALIVE_MILLISECONDS: Final = 60_000


class PolicyServer:
    """Serves policies over gRPC; made on the event loop that runs it.

    Args:
        servicer: Answers.
        settings: How to listen.

    Raises:
        DocumentError: If the files for TLS cannot be used.
    """

    def __init__(self, servicer: PolicyServicer, settings: ServiceSettings) -> None:
        self._settings = settings
        self._credentials = settings.credentials() if settings.credentials is not None else None
        self._server = grpc.aio.server(options=_OPTIONS)
        self._health = HealthServicer()
        policy_pb2_grpc.add_PolicyServiceServicer_to_server(servicer, self._server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (
            SERVICE_NAME,
            health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
            reflection.SERVICE_NAME,
        )
        reflection.enable_server_reflection(names, self._server)

    async def start(self) -> tuple[int, ...]:
        """Listen, and say that it serves.

        Returns:
            The port of each address; 1 for unix sockets.

        Raises:
            RuntimeError: If an address cannot be listened on.
        """
        ports = tuple(self._listen(address) for address in self._settings.addresses)
        await self._server.start()
        for service in ("", SERVICE_NAME):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        return ports

    async def stop(self) -> None:
        """Stop serving; open calls have some time to end, watches are ended at once by their clients' next try."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._settings.grace_seconds)

    def _listen(self, address: str) -> int:
        try:
            if not _is_address(address):  # gRPC takes a port of 99999 for 34463, and looks names up for seconds
                raise RuntimeError("not an address")
            if self._credentials is None or address.startswith("unix:"):
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise RuntimeError(
                f'cannot listen on {address!r}; give an "ip:port" with a literal IP address, or "unix:/path", that no '
                "other process has"
            ) from error


_OPTIONS: Final = [
    ("grpc.max_receive_message_length", _LARGEST_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _LARGEST_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", _KEEPALIVE_MILLISECONDS),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.so_reuseport", 0),
]


def _is_address(address: str) -> bool:
    if address.startswith("unix:"):
        return True
    host, _, port = address.rpartition(":")
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        return port.isascii() and port.isdigit() and int(port) < 65_536
    except ValueError:
        return False
