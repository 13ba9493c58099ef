"""A release of the chart, as its owner sees it through Helm and kubectl."""

import base64
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from helm_python import Config
from tests.cluster.objects import Document, Objects
from tests.integration.stack.processes import eventually

from pointsman.routing.v1 import routing_pb2_grpc

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "pointsman"
NAME = "pointsman"
START_SECONDS = 400.0
"""Kernels may have to be compiled first."""
GRPC_PORT = 9002
CRDS = "apiextensions.k8s.io/v1/customresourcedefinitions"
DEFINITIONS = ("routerpolicies.pointsman.io", "kopfpeerings.kopf.dev", "clusterkopfpeerings.kopf.dev")
"""Helm keeps them when a release goes."""
KINDS = (
    *("pods", "services", "secrets", "configmaps", "serviceaccounts", "apps/v1/deployments"),
    *("rbac.authorization.k8s.io/v1/roles", "rbac.authorization.k8s.io/v1/rolebindings"),
    *("rbac.authorization.k8s.io/v1/clusterroles", "rbac.authorization.k8s.io/v1/clusterrolebindings"),
    *("admissionregistration.k8s.io/v1/validatingwebhookconfigurations", "kopf.dev/v1/clusterkopfpeerings"),
    "policy/v1beta1/poddisruptionbudgets",
)


@dataclass
class Release:
    """A release in a namespace of its own."""

    helm: Config
    objects: Objects
    namespace: str
    kubeconfig: Path

    @property
    def url(self) -> str:
        """Where clients find the OpenAI API."""
        return f"http://{self._service_address()}"

    def pods(self, component: str) -> list[Document]:
        selector = f"app.kubernetes.io/instance={NAME},app.kubernetes.io/component={component}"
        return self.objects.list("pods", self.namespace, labelSelector=selector)

    def until_ready(self, component: str, count: int, version: str = "") -> list[Document]:
        """Return a component's pods once there are so many, all of them ready and made of the newest template."""

        def settled() -> bool:
            pods = self.pods(component)
            notes = [pod["metadata"].get("annotations", {}).get("example.org/version", "") for pod in pods]
            return len(pods) == count and all(map(is_ready, pods)) and set(notes) == {version}

        eventually(settled, f"{count} ready pods of {component}", START_SECONDS)
        return self.pods(component)

    def secret(self, name: str) -> dict[str, bytes]:
        data = self.objects.get("secrets", f"{NAME}-{name}", self.namespace)["data"]
        return {key: base64.b64decode(value) for key, value in data.items()}

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Return what kubectl prints; it works in the release's namespace."""
        program = str(Path(sys.executable).with_name("kubectl"))
        command = [program, f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}", *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise KubectlError(done.stderr)
        return done.stdout

    @contextmanager
    def routing(self, address: str = "") -> Iterator[routing_pb2_grpc.RoutingServiceStub]:
        """Lend a stub for the routers' gRPC service, or for the router at an address, with a client's certificate."""
        pem = self.secret("operator-client")
        credentials = grpc.ssl_channel_credentials(pem["ca.crt"], pem["tls.key"], pem["tls.crt"])
        options = [("grpc.ssl_target_name_override", f"{NAME}-router.{self.namespace}.svc")]
        target = f"{address or self._service_address()}:{GRPC_PORT}"
        with grpc.secure_channel(target, credentials, options) as channel:
            yield routing_pb2_grpc.RoutingServiceStub(channel)  # type: ignore[no-untyped-call]

    def left(self) -> list[str]:
        """Return what is there of the release, pods and all."""
        selector = f"app.kubernetes.io/instance={NAME}"
        return [
            f"{kind} {one['metadata']['name']}"
            for kind in KINDS
            for one in self.objects.list(kind, None, labelSelector=selector)
            if one["metadata"].get("namespace", self.namespace) == self.namespace
        ]

    def _service_address(self) -> str:
        return str(self.objects.get("services", f"{NAME}-router", self.namespace)["spec"]["clusterIP"])


class KubectlError(RuntimeError):
    """What kubectl says went wrong."""


def is_ready(pod: Document) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def process_id(pod: Document, container: str) -> int:
    """Return the process that is a container of the test cluster."""
    statuses = pod["status"]["containerStatuses"]
    (found,) = [one["containerID"] for one in statuses if one["name"] == container]
    return int(found.removeprefix("process://"))
