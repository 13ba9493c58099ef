"""The control plane as tests use it: started, with a client, and with what tests ask for again and again."""

import contextlib
import datetime
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from kubernetes import client, config
from tests.cluster.addresses import AddressBlock
from tests.cluster.binaries import find_or_build
from tests.cluster.control_plane import KUBELET, KUBELET_PORT, ControlPlane
from tests.cluster.kubeconfig import write_kubeconfig
from tests.cluster.kubelet.kubelet import LOST_ANNOTATION
from tests.cluster.objects import Document, Objects, path
from tests.integration.stack.processes import eventually

TOKEN_LIFETIME_SECONDS = 6 * 3600
WITHOUT_TOKEN_SECRETS = (1, 24)
"""The first version that makes no Secret for each ServiceAccount; older ones refuse pods until it is there."""
PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure")
CAPACITY = {"cpu": "64", "memory": "256Gi", "pods": "200", "ephemeral-storage": "100Gi"}


class Cluster:
    """A running control plane and an administrator's client.

    Attributes:
        control_plane: its parts, to be stopped and started: ``cluster.control_plane.api_server.restart()``.
        kubeconfig: file of the administrator.
        url, ca, token: the same as single values.
        api: the administrator's `kubernetes.client.ApiClient`, for one thread.
        objects: the administrator's `Objects`, for plain documents.
        version: of the API server, such as (1, 20).
    """

    def __init__(self, control_plane: ControlPlane) -> None:
        self.control_plane = control_plane
        self.folder = control_plane.folder
        self.kubeconfig = control_plane.kubeconfig
        self.url, self.ca, self.token = control_plane.url, control_plane.ca, control_plane.token
        self.api: client.ApiClient = config.new_client_from_config(str(self.kubeconfig))  # type: ignore[no-untyped-call]
        self.objects = Objects(self.url, self.ca, self.token)
        version = self.objects.call("GET", "/version")
        self.version = int(version["major"]), int(version["minor"].rstrip("+"))

    def create_namespace(self, prefix: str = "test") -> str:
        """Create a namespace of a fresh name, wait until pods can be created in it, and return the name."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        self.objects.create("namespaces", {"metadata": {"name": name}})
        eventually(lambda: self._takes_pods(name), f"no default ServiceAccount in {name}")
        return name

    def delete_namespace(self, name: str) -> None:
        """Ask for a namespace's deletion; nothing happens if there is none."""
        self.objects.delete("namespaces", name)

    def add_node(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Register a Ready node; its pods are run as soon as a process kubelet is there, and are Pending until then."""
        own = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
        self.objects.create("nodes", {"metadata": {"name": name, "labels": own | dict(labels or {})}})
        self.objects.patch("nodes", f"{name}/status", {"status": self._node_status(name)})
        eventually(lambda: self._is_schedulable(name), f"node {name} keeps its not-ready taint")

    def delete_node(self, name: str) -> None:
        """Take a node and its pods out; nothing happens if there is none."""
        for pod in self.objects.list("pods", fieldSelector=f"spec.nodeName={name}"):
            metadata = pod["metadata"]
            self.objects.delete("pods", metadata["name"], metadata["namespace"], gracePeriodSeconds=0)
        self.objects.delete("nodes", name)

    def cordon(self, name: str, *, unschedulable: bool = True) -> None:
        """Keep new pods from a node, or with `unschedulable` false let them come again."""
        self.objects.patch("nodes", name, {"spec": {"unschedulable": unschedulable}})

    def lose(self, name: str) -> None:
        """Take a node's power: its pods die, and nothing more is heard of it (needs a kubelet)."""
        self.objects.patch("nodes", name, {"metadata": {"annotations": {LOST_ANNOTATION: ""}}})

    def recover(self, name: str) -> None:
        """Give a lost node its power back."""
        self.objects.patch("nodes", name, {"metadata": {"annotations": {LOST_ANNOTATION: None}}})

    def service_account_token(self, namespace: str, name: str) -> str:
        """Return a bearer token that may do exactly what the RBAC of that ServiceAccount grants, for 6 hours."""
        request = {"spec": {"audiences": [], "expirationSeconds": TOKEN_LIFETIME_SECONDS}}
        answer = self.objects.call("POST", path("serviceaccounts", f"{name}/token", namespace), request)
        return str(answer["status"]["token"])

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """Write a kubeconfig that acts as that ServiceAccount, for 6 hours."""
        token = self.service_account_token(namespace, name)
        path = self.folder / f"{namespace}-{name}-{secrets.token_hex(4)}.kubeconfig"
        return write_kubeconfig(path, server=self.url, ca=self.ca, token=token, namespace=namespace)

    @contextlib.contextmanager
    def service_account_objects(self, namespace: str, name: str) -> Iterator[Objects]:
        """Lend `Objects` that act as that ServiceAccount."""
        with contextlib.closing(Objects(self.url, self.ca, self.service_account_token(namespace, name))) as objects:
            yield objects

    def close(self) -> None:
        """Close the clients' connections."""
        self.objects.close()
        self.api.close()  # type: ignore[no-untyped-call]
        self.api.rest_client.pool_manager.clear()

    def _takes_pods(self, namespace: str) -> bool:
        account = self.objects.find("serviceaccounts", "default", namespace)
        return account is not None and ("secrets" in account or self.version >= WITHOUT_TOKEN_SECRETS)

    def _node_status(self, name: str) -> Document:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        condition = {"reason": "KubeletReady", "lastHeartbeatTime": now, "lastTransitionTime": now}
        conditions = [{"type": "Ready", "status": "True", **condition}]
        conditions += [{"type": pressure, "status": "False", **condition} for pressure in PRESSURES]
        address = self.control_plane.addresses.control_plane(KUBELET)
        return {
            "addresses": [{"type": "InternalIP", "address": address}],
            "capacity": CAPACITY,
            "allocatable": CAPACITY,
            "conditions": conditions,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
        }

    def _is_schedulable(self, name: str) -> bool:
        return "taints" not in self.objects.get("nodes", name)["spec"]


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Run a cluster inside a ``with`` block, after building its programs if need be.

    Args:
        folder: an existing folder for what the parts write, logs among it; it is left as it is.
    """
    with AddressBlock() as addresses, contextlib.ExitStack() as stack:
        control_plane = ControlPlane(folder, find_or_build(), addresses)
        stack.callback(control_plane.stop)
        control_plane.start()
        cluster = Cluster(control_plane)
        stack.callback(cluster.close)
        yield cluster
