"""Helm installs the chart on a real API server; its pods run with the rights that it grants, change and go."""

import base64
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from helm_python import Config
from tests.cluster.cluster import Cluster
from tests.cluster.objects import Document, Objects
from tests.cluster.process_kubelet import ProcessKubelet
from tests.integration.stack.processes import eventually

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "pointsman"
RELEASE = "pointsman"
START_SECONDS = 400.0
"""Kernels may have to be compiled first."""
VALUES: dict[str, Any] = {
    "router": {"replicas": 1, "tls": {"enabled": True}, "drain": {"noticeSeconds": 1, "graceSeconds": 30}},
    "operator": {"replicas": 2},
    "gateway": {"concurrency": 1},
}
CRDS = "apiextensions.k8s.io/v1/customresourcedefinitions"
DEFINITIONS = ("routerpolicies.pointsman.io", "kopfpeerings.kopf.dev", "clusterkopfpeerings.kopf.dev")
KINDS = (
    *("pods", "services", "secrets", "configmaps", "serviceaccounts", "apps/v1/deployments"),
    *("rbac.authorization.k8s.io/v1/roles", "rbac.authorization.k8s.io/v1/rolebindings"),
    *("rbac.authorization.k8s.io/v1/clusterroles", "rbac.authorization.k8s.io/v1/clusterrolebindings"),
    *("admissionregistration.k8s.io/v1/validatingwebhookconfigurations", "kopf.dev/v1/clusterkopfpeerings"),
    "policy/v1beta1/poddisruptionbudgets",
)


@dataclass
class Installed:
    """A release in a namespace of its own."""

    helm: Config
    objects: Objects
    namespace: str
    kubeconfig: Path

    def pods(self, component: str) -> list[Document]:
        selector = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={component}"
        return self.objects.list("pods", self.namespace, labelSelector=selector)

    def until_ready(self, component: str, count: int, version: str = "") -> list[Document]:
        """Return a component's pods once there are so many, all of them ready and made of the newest template."""

        def settled() -> bool:
            pods = self.pods(component)
            notes = [pod["metadata"].get("annotations", {}).get("example.org/version", "") for pod in pods]
            return len(pods) == count and all(map(is_ready, pods)) and set(notes) == {version}

        eventually(settled, f"{count} ready pods of {component}", START_SECONDS)
        return self.pods(component)

    def address(self, service: str) -> str:
        return str(self.objects.get("services", f"{RELEASE}-{service}", self.namespace)["spec"]["clusterIP"])

    def secret(self, name: str) -> dict[str, bytes]:
        data = self.objects.get("secrets", f"{RELEASE}-{name}", self.namespace)["data"]
        return {key: base64.b64decode(value) for key, value in data.items()}

    def kubectl(self, *arguments: str) -> str:
        command = [str(Path(sys.executable).with_name("kubectl")), "--kubeconfig", str(self.kubeconfig), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@dataclass
class Clients:
    """Clients that stream answers through the gateway, one after the other, until they are told to stop."""

    url: str
    complete: int = 0
    broken: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, count: int) -> None:
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        body = {"model": "edge-chat", "max_tokens": 60, "stream": True, "prompt": "Where to?"}
        while not self._over.is_set():
            try:
                answer = requests.post(f"{self.url}/v1/completions", json=body, timeout=60)
                text = answer.text.rstrip()
            except requests.RequestException as error:
                self.broken.append(repr(error))
                continue
            if answer.ok and text.endswith("data: [DONE]"):
                self.complete += 1
            else:
                self.broken.append(f"{answer.status_code}: {text[-200:]}")


def is_ready(pod: Document) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


@pytest.fixture
def definitions_are_removed(cluster: Cluster) -> Iterator[None]:
    """Helm keeps definitions when a release goes; the next test's release must find none that belongs to this one."""
    yield
    for name in DEFINITIONS:
        cluster.objects.delete(CRDS, name)
    eventually(lambda: not any(cluster.objects.find(CRDS, name) for name in DEFINITIONS), "definitions stay")


@pytest.fixture
def installed(
    cluster: Cluster,
    kubelet: ProcessKubelet,
    namespace: str,
    nodes: Callable[..., str],
    definitions_are_removed: None,
) -> Iterator[Installed]:
    nodes({"pointsman.io/gpu": "L40S"})
    with Config(kubeconfig_path=cluster.kubeconfig, namespace=namespace) as helm:
        helm.install(CHART, RELEASE, VALUES)
        yield Installed(helm, cluster.objects, namespace, cluster.kubeconfig)
        helm.uninstall(RELEASE, ignore_not_found=True)


def test_a_release_lives_from_install_to_uninstall(installed: Installed) -> None:
    operators = installed.until_ready("operator", 2)
    installed.until_ready("router", 1)
    assert {one["restartCount"] for pod in operators for one in pod["status"]["containerStatuses"]} == {0}
    assert "0 policies" in installed.helm.test(RELEASE, timeout=120, logs=True)["logs"]

    _a_policy_comes_into_effect(installed)
    _an_upgrade_changes_what_it_should_and_loses_nothing(installed)

    installed.helm.uninstall(RELEASE)
    eventually(lambda: _left(installed) == [], f"these stay: {_left(installed)}")
    for name in DEFINITIONS:
        assert installed.objects.find(CRDS, name), name
    assert installed.objects.get("pointsman.io/v1alpha1/routerpolicies", "chat", installed.namespace)


def _a_policy_comes_into_effect(installed: Installed) -> None:
    installed.kubectl("apply", "--namespace", installed.namespace, "-k", str(ROOT / "manifests/samples/emulated"))
    condition = ("--for=condition=Programmed", "--timeout=120s")
    for deployment in ("small", "large"):
        installed.kubectl(
            "rollout", "status", "--namespace", installed.namespace, f"deployment/{deployment}", "--timeout=400s"
        )
    installed.kubectl("wait", "--namespace", installed.namespace, *condition, "routerpolicy/chat")
    eventually(lambda: "3/3" in installed.kubectl("get", "rp", "--namespace", installed.namespace), "experts in status")
    body = {"model": "edge-chat", "max_tokens": 5, "prompt": "Where to?"}
    answer = requests.post(f"http://{installed.address('router')}/v1/completions", json=body, timeout=60)
    assert answer.ok, answer.text
    assert answer.headers["x-pointsman-decision-id"]
    nonsense = ("--type=merge", "--patch", '{"spec": {"picker": {"name": "Nonsense"}}}')
    with pytest.raises(subprocess.CalledProcessError) as refused:
        installed.kubectl("patch", "routerpolicy", "chat", "--namespace", installed.namespace, *nonsense)
    assert "spec.picker.name" in refused.value.stderr


def _an_upgrade_changes_what_it_should_and_loses_nothing(installed: Installed) -> None:
    authority, webhook = installed.secret("ca"), installed.secret("webhook-tls")
    clients = Clients(f"http://{installed.address('router')}")
    clients.start(3)
    try:
        note = {"podAnnotations": {"example.org/version": "2"}}
        changed = {"router": VALUES["router"] | note | {"replicas": 2}, "operator": VALUES["operator"] | note}
        installed.helm.upgrade(CHART, RELEASE, VALUES | changed)
        installed.until_ready("router", 2, "2")
        installed.until_ready("operator", 2, "2")
    finally:
        clients.stop()
    assert clients.broken == []
    assert clients.complete > 0
    assert installed.secret("ca") == authority
    renewed = installed.secret("webhook-tls")
    assert renewed["ca.crt"] == authority["tls.crt"]
    serials = [x509.load_pem_x509_certificate(one["tls.crt"]).serial_number for one in (webhook, renewed)]
    assert serials[0] != serials[1]
    assert "1 policies" in installed.helm.test(RELEASE, timeout=120, logs=True)["logs"]


def _left(installed: Installed) -> list[str]:
    selector = f"app.kubernetes.io/instance={RELEASE}"
    return [
        f"{kind} {one['metadata']['name']}"
        for kind in KINDS
        for one in installed.objects.list(kind, None, labelSelector=selector)
        if one["metadata"].get("namespace", installed.namespace) == installed.namespace
    ]
