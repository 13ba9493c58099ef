"""`pointsman route`, `experts` and `explain` with nothing but a kubeconfig: routers are pods behind port-forwards."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.certificates import CertificateAuthority
from tests.cluster.cluster import Cluster
from tests.integration.kubernetes.accounts import create_account
from tests.integration.kubernetes.conftest import Place
from tests.integration.stack.processes import eventually

pytestmark = pytest.mark.usefixtures("kubelet")

DEPLOYMENTS = "apps/v1/deployments"
LABELS = {"app.kubernetes.io/name": "pointsman", "app.kubernetes.io/component": "router"}
USAGE_ERROR = 2


@dataclass
class Result:
    code: int
    out: str
    err: str


@dataclass
class Cli:
    """The command line of somebody with a kubeconfig."""

    kubeconfig: Path

    def __call__(self, *arguments: str) -> Result:
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "COLUMNS": "200"}
        command = [str(Path(sys.executable).parent / "pointsman"), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def cli(cluster: Cluster) -> Cli:
    return Cli(cluster.kubeconfig)


def deploy(cluster: Cluster, namespace: str, node: str, *, replicas: int, **pod: Any) -> None:
    """Run routers that see all of the cluster, with the rights of manifests/rbac."""
    create_account(cluster, namespace)
    arguments = ["--kubernetes", "--listen=$(POD_IP):9002", "--admin-host=$(POD_IP)", "--drain-notice=0"]
    container = {
        "name": "router",
        "image": "pointsman-operator",
        "command": ["pointsman", "router"],
        "args": [*arguments, *pod.pop("arguments", ())],
        "env": [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "ports": [{"name": "grpc", "containerPort": 9002}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 9090}, "periodSeconds": 1},
        "volumeMounts": pod.pop("mounts", []),
    }
    spec = {
        "serviceAccountName": "pointsman-router",
        "nodeSelector": {"kubernetes.io/hostname": node},
        "terminationGracePeriodSeconds": 5,
        "containers": [container],
        **pod,
    }
    template = {"metadata": {"labels": LABELS}, "spec": spec}
    body = {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": template}
    cluster.objects.create(DEPLOYMENTS, {"metadata": {"name": "router"}, "spec": body}, namespace)

    def ready() -> bool:
        status = cluster.objects.get(DEPLOYMENTS, "router", namespace)["status"]
        return bool(status.get("readyReplicas") == replicas)

    eventually(ready, "the routers do not get ready", 120)


@pytest.fixture
def home(cluster: Cluster) -> Iterator[str]:
    """The routers' namespace."""
    name = cluster.create_namespace("routers")
    yield name
    cluster.objects.delete(DEPLOYMENTS, "router", name)
    eventually(lambda: not cluster.objects.list("pods", name), "the routers stay")
    cluster.delete_namespace(name)


def test_a_kubeconfig_is_all_it_takes(
    cluster: Cluster, place: Place, home: str, nodes: Callable[..., str], cli: Cli
) -> None:
    place.policy("chat")
    place.pod("a")
    place.pod("b", ready="False")
    deploy(cluster, home, nodes(), replicas=2)
    key = f"{place.namespace}/chat"
    here = ("-n", place.namespace, "--router-namespace", home)

    listed = cli("experts", *here, "chat", "--json")
    assert (listed.code, listed.err) == (0, "")
    experts = json.loads(listed.out)
    assert experts["policy"] == key
    assert {one["name"]: one["ready"] for one in experts["experts"]} == {"a": True, "b": False}

    decisions = [json.loads(cli("route", *here, "chat", "Where to?", "--json").out) for _ in range(2)]
    assert [one["endpoints"][0]["expert"] for one in decisions] == ["a", "a"]
    for decision in decisions:
        explained = cli("explain", *here, decision["decision_id"])
        assert explained.code == 0
        assert f"policy {key}" in explained.out
    assert f"More: pointsman explain -n {place.namespace}" in cli("route", *here, "chat").out

    unknown = cli("explain", *here, "no-such-decision")
    assert unknown.code != 0
    assert "is not known" in unknown.err

    missing = cli("experts", *here, "chatty")
    assert missing.code == USAGE_ERROR
    assert (
        f"no RouterPolicy chatty in namespace {place.namespace}; namespace {place.namespace} has: chat" in missing.err
    )


def test_routers_that_serve_tls_are_reached_with_their_secret(
    cluster: Cluster, place: Place, home: str, nodes: Callable[..., str], cli: Cli, tmp_path: Path
) -> None:
    place.policy("chat")
    place.pod("a")
    authority = CertificateAuthority(tmp_path)
    pair = authority.issue("router", ["pointsman-router", f"pointsman-router.{home}.svc"])
    files = {"ca.crt": authority.certificate, "tls.crt": pair.certificate, "tls.key": pair.key}
    data = {name: base64.b64encode(file.read_bytes()).decode() for name, file in files.items()}
    cluster.objects.create("secrets", {"metadata": {"name": "router-tls"}, "data": data}, home)
    folder = "/etc/pointsman/tls"
    deploy(
        cluster,
        home,
        nodes(),
        replicas=1,
        arguments=[
            f"--tls-certificate={folder}/tls.crt",
            f"--tls-key={folder}/tls.key",
            f"--tls-client-ca={folder}/ca.crt",
        ],
        mounts=[{"name": "tls", "mountPath": folder}],
        volumes=[{"name": "tls", "secret": {"secretName": "router-tls"}}],
    )
    listed = cli("experts", "-n", place.namespace, "--router-namespace", home, "--json")
    assert (listed.code, listed.err) == (0, "")
    assert [one["name"] for one in json.loads(listed.out)["experts"]] == ["a"]


def test_what_is_missing_is_said(cluster: Cluster, place: Place, cli: Cli, tmp_path: Path) -> None:
    place.policy("chat")
    here = ("-n", place.namespace)
    no_router = cli("experts", *here, "--router-namespace", place.namespace)
    assert no_router.code == USAGE_ERROR
    assert f"no router is ready in namespace {place.namespace}" in no_router.err

    nobody = Cli(tmp_path / "absent")("experts", *here)
    assert nobody.code == USAGE_ERROR
    assert "no usable kubeconfig" in nobody.err
    assert "Traceback" not in nobody.err

    cluster.objects.create("serviceaccounts", {"metadata": {"name": "visitor"}}, place.namespace)
    visitor = Cli(cluster.service_account_kubeconfig(place.namespace, "visitor"))("experts", *here)
    assert visitor.code == USAGE_ERROR
    assert "you may not list RouterPolicies" in visitor.err

    place.policy("code")
    several = cli("experts", *here)
    assert f"which RouterPolicy?; namespace {place.namespace} has: chat, code" in several.err
