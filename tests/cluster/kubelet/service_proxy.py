"""Cluster IPs that answer: every port of every Service listens on loopback and passes connections to ready pods."""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.cluster.kubelet.documents import Document, has_address, is_ready, port_number
from tests.cluster.kubelet.informer import Informer

CONNECT_SECONDS = 5.0
CHUNK_BYTES = 2**16
SETTLE_SECONDS = 0.02
log = logging.getLogger(__name__)

Address = tuple[str, int]


@dataclass
class Frontend:
    """One port of a cluster IP while there are pods behind it; without any, connections are refused."""

    server: asyncio.Server
    backends: Sequence[Address] = ()
    turn: int = field(default=0)

    def next(self) -> Address:
        """Return whose turn it is."""
        self.turn += 1
        return self.backends[self.turn % len(self.backends)]


class ServiceProxy:
    """Keeps the frontends as Services and pods are."""

    def __init__(self, services: Informer, pods: Informer) -> None:
        self._services, self._pods = services, pods
        self._frontends: dict[Address, Frontend] = {}
        self._dirty = asyncio.Event()
        for informer in (services, pods):
            informer.listen(lambda _before, _after: self._dirty.set())

    async def run(self) -> None:
        """Follow the changes until cancelled."""
        try:
            while True:
                await self._adjust(backends_by_frontend(self._services, list(self._pods)))
                await self._dirty.wait()
                self._dirty.clear()
                await asyncio.sleep(SETTLE_SECONDS)
        finally:
            for frontend in self._frontends.values():
                frontend.server.close()

    async def _adjust(self, wanted: Mapping[Address, Sequence[Address]]) -> None:
        for address in self._frontends.keys() - wanted.keys():
            self._frontends.pop(address).server.close()
        for address, backends in wanted.items():
            if address not in self._frontends:
                await self._open(address)
            if address in self._frontends:
                self._frontends[address].backends = backends

    async def _open(self, address: Address) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._forward(address, reader, writer)

        try:
            server = await asyncio.start_server(serve, *address)
        except OSError as error:
            log.warning("%s:%d cannot be bound: %s", *address, error)
        else:
            self._frontends[address] = Frontend(server)

    async def _forward(self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frontend = self._frontends.get(address)
        with contextlib.closing(writer):
            if frontend is None:
                return
            try:
                connecting = asyncio.open_connection(*frontend.next())
                there_reader, there_writer = await asyncio.wait_for(connecting, CONNECT_SECONDS)
            except (OSError, TimeoutError):
                writer.transport.abort()
                return
            with contextlib.closing(there_writer):
                await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until the reader ends, and end the writer's side with it; a broken connection ends both."""
    try:
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.transport.abort()


def backends_by_frontend(services: Iterable[Document], pods: Sequence[Document]) -> dict[Address, list[Address]]:
    """Return the addresses of pods behind each cluster IP and port; ports without pods are left out."""
    found = {}
    for service in services:
        spec = service["spec"]
        if spec.get("clusterIP") in (None, "", "None") or not spec.get("selector"):
            continue
        chosen = _selected(service, pods)
        for port in spec.get("ports", ()):
            if port.get("protocol", "TCP") == "TCP" and (backends := _backends(port, chosen)):
                found[spec["clusterIP"], int(port["port"])] = backends
    return found


def _selected(service: Document, pods: Sequence[Document]) -> list[Document]:
    spec, namespace = service["spec"], service["metadata"]["namespace"]
    counts = has_address if spec.get("publishNotReadyAddresses") else is_ready
    wanted = spec["selector"].items()
    return [
        pod
        for pod in pods
        if pod["metadata"]["namespace"] == namespace
        and wanted <= pod["metadata"].get("labels", {}).items()
        and counts(pod)
    ]


def _backends(port: Document, pods: Iterable[Document]) -> list[Address]:
    target: int | str = port["targetPort"] if "targetPort" in port else port["port"]
    numbered = ((pod["status"]["podIP"], port_number(pod, target)) for pod in pods)
    return sorted((address, number) for address, number in numbered if number is not None)
