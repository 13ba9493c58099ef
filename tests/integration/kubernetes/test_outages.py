"""What routing knows survives whatever happens to the API server and to the way there."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import kopf
import pytest
import yaml
from tests.cluster.cluster import Cluster
from tests.cluster.objects import Document, RefusedError
from tests.integration.kubernetes.accounts import NAME, ROOT, create_account
from tests.integration.kubernetes.conftest import CRDS, POLICIES, Connect, Found, Place, following


class Wire:
    """A way to the API server that can be cut: connections end, and new ones are refused."""

    def __init__(self, url: str) -> None:
        self._to = urlsplit(url).hostname, urlsplit(url).port
        self._server: asyncio.Server | None = None
        self._port = 0
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_reader, to_writer = await asyncio.open_connection(*self._to)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, to_writer}
        await asyncio.wait(
            [asyncio.create_task(_pump(reader, to_writer)), asyncio.create_task(_pump(to_reader, writer))]
        )
        self._open -= {writer, to_writer}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


@pytest.fixture
async def wire(cluster: Cluster) -> AsyncIterator[Wire]:
    wire = Wire(cluster.url)
    await wire.mend()
    yield wire
    await wire.cut()


@pytest.fixture
def connect(cluster: Cluster, wire: Wire) -> Connect:
    return lambda: kopf.ConnectionInfo(server=wire.url, insecure=True, token=cluster.token)


async def test_what_is_deleted_while_the_watch_is_broken_is_gone_afterwards(
    place: Place, cluster: Cluster, wire: Wire, connect: Connect
) -> None:
    place.policy()
    place.policy("goes", modelName="goes")
    place.pod("stays")
    place.pod("goes")
    key = f"{place.namespace}/chat"
    async with following(connect, [place.namespace]) as found:
        await found.until(lambda: found.experts(key) == ["goes", "stays"], "both")
        await wire.cut()
        place.delete("goes")
        cluster.objects.delete("pointsman.io/v1alpha1/routerpolicies", "goes", place.namespace)
        place.pod("new")
        # It starts without a memory of earlier versions, so that watches cannot go on where they were.
        cluster.control_plane.api_server.restart()
        assert found.experts(key) == ["goes", "stays"]
        await wire.mend()
        await found.until(lambda: found.experts(key) == ["new", "stays"], "the gap is closed", seconds=60)
        await found.until(lambda: [one.key for one in found.discovery.policies()] == [key], "no policy is left over")
        place.ready("new", "False")
        await found.until(lambda: found.experts(key) == ["stays"], "it goes on following")


async def test_a_restart_of_the_api_server_changes_nothing_and_is_recovered_from(
    place: Place, cluster: Cluster, found: Found
) -> None:
    place.policy()
    place.pod("a")
    key = f"{place.namespace}/chat"
    await found.until(lambda: found.experts(key) == ["a"], "the expert")
    seen: set[tuple[str, ...]] = set()
    found.discovery.subscribe(lambda: seen.add(tuple(found.experts(key))))
    cluster.control_plane.api_server.restart()
    assert found.experts(key) == ["a"]
    place.pod("b")
    await found.until(lambda: found.experts(key) == ["a", "b"], "it follows again", seconds=60)
    assert seen <= {("a",), ("a", "b")}


async def test_an_api_server_that_is_away_is_told_and_what_was_known_stays(
    place: Place, wire: Wire, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pointsman_operator.discovery.cluster_watch._COMPARE_SECONDS", 0.2)
    place.policy()
    place.pod("a")
    key = f"{place.namespace}/chat"
    async with following(connect, [place.namespace]) as found:
        await found.until(lambda: found.experts(key) == ["a"], "the expert")
        await wire.cut()
        await found.until(lambda: "cannot be asked" in found.discovery.problems()["policies"], "the problem")
        assert "routing goes on with what was last known" in found.discovery.problems()["policies"]
        assert found.experts(key) == ["a"]
        assert found.discovery.not_ready == ""
        await wire.mend()
        await found.until(lambda: found.discovery.problems()["policies"] == "", "it is back")


async def test_a_router_waits_for_an_api_server_that_is_away_at_the_start(
    place: Place, wire: Wire, connect: Connect
) -> None:
    place.policy()
    place.pod("a")
    await wire.cut()
    async with following(connect, [place.namespace]) as found:
        await found.until(lambda: "cannot be asked" in found.discovery.not_ready, "it says what it waits for")
        await wire.mend()
        await found.until(lambda: found.experts(f"{place.namespace}/chat") == ["a"], "it starts", seconds=60)
        assert found.discovery.not_ready == ""


async def test_a_missing_crd_is_told_and_its_appearing_starts_the_router(
    place: Place, cluster: Cluster, admin: Connect
) -> None:
    document: Document = yaml.safe_load((ROOT / "manifests/crd/routerpolicies.pointsman.io.yaml").read_text())
    name = document["metadata"]["name"]
    cluster.objects.delete(CRDS, name)
    try:
        await _gone(cluster, document)
        async with following(admin, [place.namespace]) as found:
            await found.until(lambda: "does not know routerpolicies" in found.discovery.not_ready, "no CRD", 120)
            await _create(cluster, document)
            await found.until(lambda: not found.discovery.not_ready, "it starts", 120)
    finally:
        await _create(cluster, document)


async def _gone(cluster: Cluster, document: Document) -> None:
    """Wait until the API server knows the kind no more; it serves what it has for a while after the CRD is deleted."""
    async with asyncio.timeout(60):
        while _crd(cluster, document) or _listed(cluster):  # noqa: ASYNC110 - another process deletes it
            await asyncio.sleep(0.05)


def _listed(cluster: Cluster) -> bool:
    try:
        cluster.objects.list(POLICIES)
    except RefusedError:
        return False
    return True


async def _create(cluster: Cluster, document: Document) -> None:
    """Create the CRD unless it is there, once it is no longer being deleted."""
    async with asyncio.timeout(60):
        while "deletionTimestamp" in (found := _crd(cluster, document)):  # noqa: ASYNC110 - another process deletes it
            await asyncio.sleep(0.05)
    if not found:
        cluster.objects.create(CRDS, document)


def _crd(cluster: Cluster, document: Document) -> Document:
    found = cluster.objects.find(CRDS, document["metadata"]["name"])
    return {} if found is None else dict(found["metadata"])


def as_account(cluster: Cluster, namespace: str, without: str = "") -> Connect:
    create_account(cluster, namespace, without)
    kubeconfig = cluster.service_account_kubeconfig(namespace, NAME)
    document = yaml.safe_load(kubeconfig.read_text())
    user, server = document["users"][0]["user"], document["clusters"][0]["cluster"]
    return lambda: kopf.ConnectionInfo(
        server=server["server"],
        ca_path=server.get("certificate-authority"),
        ca_data=server.get("certificate-authority-data"),
        token=user["token"],
    )


async def test_the_rights_in_manifests_are_enough_everywhere(
    place: Place, cluster: Cluster, pools_crd: Callable[[], None], nodes: Callable[..., str]
) -> None:
    pools_crd()
    place.policy()
    place.pod("a", node=nodes({"pointsman.io/gpu": "L4"}))
    connect = as_account(cluster, place.namespace)
    async with following(connect) as found:
        await found.until(lambda: found.experts(f"{place.namespace}/chat") == ["a"], "the expert")
        assert found.discovery.endpoints()[0].expert.gpu == "L4"
        place.delete("a")
        await found.until(lambda: found.experts(f"{place.namespace}/chat") == [], "it leaves")


async def test_without_the_right_to_see_nodes_gpus_are_unknown_and_routing_works(
    place: Place, cluster: Cluster, nodes: Callable[..., str]
) -> None:
    place.policy()
    place.pod("a", node=nodes({"pointsman.io/gpu": "L4"}))
    connect = as_account(cluster, place.namespace, without="nodes")
    async with following(connect, [place.namespace]) as found:
        await found.until(lambda: found.experts(f"{place.namespace}/chat") == ["a"], "the expert")
        assert found.discovery.endpoints()[0].expert.gpu == ""


async def test_without_the_right_to_see_pods_the_router_says_so(place: Place, cluster: Cluster) -> None:
    connect = as_account(cluster, place.namespace, without="pods")
    async with following(connect, [place.namespace]) as found:
        await found.until(lambda: "may not list pods" in found.discovery.not_ready, "the problem")
        assert "manifests/rbac/router.yaml" in found.discovery.not_ready
