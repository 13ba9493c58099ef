"""The router's gRPC server: all its services, with a readiness that turns false before the server leaves."""

import asyncio
import ipaddress
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from pointsman.envoy.v3 import access_log_pb2_grpc
from pointsman_operator.decision import PolicyReport, Routing
from pointsman_operator.metrics import Metrics
from pointsman_operator.serving import access_log, ext_proc, routing_service
from pointsman_operator.serving.destinations import Destinations
from pointsman_operator.serving.sidecar import SidecarListener
from pointsman_operator.serving.tls import ServerTls, TlsFiles

LIVENESS_SERVICES: Final = ("liveness",)
READINESS_SERVICES: Final = (
    "",
    "readiness",
    "inference-extension",
    ext_proc.SERVICE_NAME,
    access_log.SERVICE_NAME,
    routing_service.SERVICE_NAME,
)
_SETTLED_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How the server listens."""

    addresses: Sequence[str] = ("127.0.0.1:9002",)
    """"ip:port" (port 0 = any free one) or "unix:/path"; one server process each, as Envoy does not spread its load."""
    sidecar_addresses: Sequence[str] = ()
    """Where ext_proc alone is served over the lean transport, for our own sidecar; forms as above."""
    max_message_bytes: int = 64 << 20
    """Largest gRPC message; a buffered body must fit."""
    keepalive_seconds: int = 60
    """Idle time after which a connection is checked."""
    tls: TlsFiles | None = None
    """For the addresses with a port; None = plain text. Unix sockets, and the sidecar, are always plain."""
    name: str = ""
    """Tells this router from its replicas, to those who ask."""


class RouterServer:
    """Serves routing over gRPC; made on the event loop that runs it.

    Args:
        routing: The routing core.
        metrics: The router's metrics.
        destinations: What ext_proc answers with.
        settings: How to listen.
        clock: Seconds, monotonic.
        reports: Tells what runs of each policy; default: what the routing core knows alone.

    Raises:
        DocumentError: If the files for TLS cannot be used.
    """

    def __init__(
        self,
        routing: Routing,
        metrics: Metrics,
        destinations: Destinations,
        settings: ServerSettings,
        clock: Callable[[], float] = time.monotonic,
        reports: Callable[[], Iterable[PolicyReport]] | None = None,
    ) -> None:
        self._settings = settings
        self._routing = routing
        self._clock = clock
        self._credentials = None if settings.tls is None else ServerTls(settings.tls).credentials()
        self._draining = False
        self._health = HealthServicer()
        self._server = grpc.aio.server(options=_options(settings))
        self._ext_proc = ext_proc.ExternalProcessor(destinations, clock)
        self._sidecar = SidecarListener(self._ext_proc, settings.max_message_bytes)
        self._server.add_generic_rpc_handlers((self._ext_proc.handler(),))
        access_log_pb2_grpc.add_AccessLogServiceServicer_to_server(  # type: ignore[no-untyped-call]
            access_log.AccessLogServicer(routing, metrics), self._server
        )
        routing_servicer = routing_service.RoutingServicer(routing, metrics, reports or routing.reports, settings.name)
        self._server.add_generic_rpc_handlers((routing_servicer.handler(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (
            ext_proc.SERVICE_NAME,
            access_log.SERVICE_NAME,
            routing_service.SERVICE_NAME,
            health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
            reflection.SERVICE_NAME,
        )
        reflection.enable_server_reflection(names, self._server)

    async def start(self) -> tuple[int, ...]:
        """Listen; the router is alive but not ready.

        Returns:
            The port of each address, those of the sidecar last; 1 for unix sockets.

        Raises:
            RuntimeError: If an address cannot be listened on.
        """
        ports = tuple(self._listen(address) for address in self._settings.addresses)
        ports += await self._sidecar.start(self._settings.sidecar_addresses)
        for service in LIVENESS_SERVICES:
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        await self.set_ready(ready=False)
        await self._server.start()
        return ports

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

    async def set_ready(self, *, ready: bool) -> None:
        """Tell health checkers whether to send traffic; a draining server never becomes ready again."""
        ready = ready and not self._draining
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in READINESS_SERVICES:
            await self._health.set(service, status)

    async def drain(self, notice_seconds: float, grace_seconds: float) -> None:
        """Leave without losing a request.

        Not ready at once, still serving for `notice_seconds` so that load balancers see it; then the sidecar opens no
        new streams, and open streams, open decisions, whose outcomes still arrive, and the sidecar's connections have
        `grace_seconds` to end. What is left then is cut off; access logs never end by themselves.
        """
        self._draining = True
        await self.set_ready(ready=False)
        await asyncio.sleep(notice_seconds)
        self._sidecar.leave()
        deadline = self._clock() + grace_seconds
        while self._clock() < deadline and (  # noqa: ASYNC110 - three owners count, none has an event
            self._ext_proc.open_streams or self._routing.open_decisions() or self._sidecar.connections
        ):
            await asyncio.sleep(_SETTLED_POLL_SECONDS)
        self._sidecar.abort()
        await self._server.stop(None)  # once only: a second call beside a pending one crashes grpcio 1.85


def _is_address(address: str) -> bool:
    if address.startswith("unix:"):
        return True
    host, _, port = address.rpartition(":")
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        return port.isascii() and port.isdigit() and int(port) < 65_536
    except ValueError:
        return False


def _options(settings: ServerSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.keepalive_time_ms", settings.keepalive_seconds * 1000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.so_reuseport", 0),
    ]
