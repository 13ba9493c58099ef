"""A router's discovery against a real API server; pods are objects whose status the test writes, run by no kubelet."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import kopf
import pytest
import yaml
from tests.cluster.cluster import Cluster
from tests.cluster.objects import Document, RefusedError
from tests.integration.kubernetes.accounts import ROOT
from tests.integration.stack.processes import eventually
from tests.unit.discovery import manifests

from pointsman_operator.discovery.kubernetes import KubernetesDiscovery
from pointsman_policy.pickers.registry import PICKERS

CRDS = "apiextensions.k8s.io/v1/customresourcedefinitions"
POLICIES = "pointsman.io/v1alpha1/routerpolicies"
POOLS = "inference.networking.k8s.io/v1/inferencepools"
POOL_CRD: Document = {
    "metadata": {
        "name": "inferencepools.inference.networking.k8s.io",
        "annotations": {
            "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api-inference-extension"
        },
    },
    "spec": {
        "group": "inference.networking.k8s.io",
        "scope": "Namespaced",
        "names": {"plural": "inferencepools", "singular": "inferencepool", "kind": "InferencePool"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                    }
                },
            }
        ],
    },
}


@pytest.fixture(scope="session")
def policies_crd(cluster: Cluster) -> None:
    """The CRD of RouterPolicies."""
    document = yaml.safe_load((ROOT / "manifests/crd/routerpolicies.pointsman.io.yaml").read_text())
    with contextlib.suppress(RefusedError):
        cluster.objects.create(CRDS, document)
    eventually(lambda: _established(cluster, document["metadata"]["name"]), "the CRD is not established")


@pytest.fixture
def pools_crd(cluster: Cluster) -> Iterator[Callable[[], None]]:
    """Call it to add the CRD of InferencePools; it goes after the test."""
    name = POOL_CRD["metadata"]["name"]

    def add() -> None:
        cluster.objects.create(CRDS, POOL_CRD)
        eventually(lambda: _established(cluster, name), "the CRD is not established")

    yield add
    cluster.objects.delete(CRDS, name)
    eventually(lambda: cluster.objects.find(CRDS, name) is None, "the CRD stays")


def _established(cluster: Cluster, name: str) -> bool:
    found = cluster.objects.find(CRDS, name) or {}
    conditions = found.get("status", {}).get("conditions") or []
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


@dataclass
class Place:
    """A namespace to put pods and policies into."""

    cluster: Cluster
    namespace: str
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def pod(self, name: str, *, ready: str = "True", node: str = "", **settings: Any) -> str:
        """Create a pod with an address of its own and a status as a kubelet would write it; returns "ip:8000"."""
        ip = f"10.0.0.{next(self.numbers)}"
        document = manifests.pod(name, namespace=self.namespace, ip=ip, ready=ready, **settings)
        status = document.pop("status")
        del document["metadata"]["uid"]
        # Nobody schedules it, and nobody but the test writes its status.
        document["spec"] |= {"schedulerName": "nobody", "nodeName": node}
        self.cluster.objects.create("pods", document, self.namespace)
        self.cluster.objects.patch("pods", f"{name}/status", {"status": status}, self.namespace)
        return f"{ip}:8000"

    def ready(self, name: str, status: str) -> None:
        """Set a pod's condition Ready."""
        conditions = [{"type": "Ready", "status": status}]
        self.cluster.objects.patch("pods", f"{name}/status", {"status": {"conditions": conditions}}, self.namespace)

    def patch(self, name: str, body: Document) -> None:
        """Merge a document into a pod."""
        self.cluster.objects.patch("pods", name, body, self.namespace)

    def delete(self, name: str, seconds: int = 0) -> None:
        """Delete a pod, with so many seconds of grace."""
        self.cluster.objects.delete("pods", name, self.namespace, gracePeriodSeconds=seconds)

    def policy(self, name: str = "chat", **spec: Any) -> Document:
        """Create a RouterPolicy."""
        document = manifests.policy(name, namespace=self.namespace, **spec)
        document["metadata"] = {"name": name}
        return self.cluster.objects.create(POLICIES, document, self.namespace)

    def change_policy(self, name: str, spec: Document) -> None:
        """Merge a document into a RouterPolicy's spec."""
        self.cluster.objects.patch(POLICIES, name, {"spec": spec}, self.namespace)


@pytest.fixture
def place(cluster: Cluster, namespace: str, policies_crd: None) -> Place:
    return Place(cluster, namespace)


@pytest.fixture
def second_place(cluster: Cluster, policies_crd: None) -> Iterator[Place]:
    name = cluster.create_namespace()
    yield Place(cluster, name, itertools.count(101))
    cluster.delete_namespace(name)


@dataclass
class Found:
    """What discovery knows, in words that are easy to compare."""

    discovery: KubernetesDiscovery

    def experts(self, key: str) -> list[str]:
        """The ready experts of a policy."""
        return [one.name for one in self.discovery.endpoints() if one.policy == key and one.expert.ready]

    async def until(self, condition: Callable[[], object], what: str = "", seconds: float = 20.0) -> None:
        """Wait for discovery to have found something."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():  # noqa: ASYNC110 - the API server is another process
                    await asyncio.sleep(0.01)
        except TimeoutError:
            problems, endpoints = self.discovery.problems(), self.discovery.endpoints()
            raise AssertionError(f"not within {seconds:g} s: {what}; problems {problems}; {endpoints}") from None


Connect = Callable[[], kopf.ConnectionInfo]


@contextlib.asynccontextmanager
async def following(connect: Connect, namespaces: Collection[str] = ()) -> AsyncIterator[Found]:
    """Follow the cluster inside an ``async with`` block."""
    discovery = KubernetesDiscovery(PICKERS.keys(), namespaces, connect=connect)
    task = asyncio.create_task(discovery.run())
    try:
        yield Found(discovery)
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
def admin(cluster: Cluster) -> Connect:
    return lambda: kopf.ConnectionInfo(server=cluster.url, ca_path=str(cluster.ca), token=cluster.token)


@pytest.fixture
async def found(place: Place, admin: Connect) -> AsyncIterator[Found]:
    """Discovery in one namespace, once it knows the cluster."""
    async with following(admin, [place.namespace]) as found:
        await found.until(lambda: not found.discovery.not_ready, "the first look")
        yield found
