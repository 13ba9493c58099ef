"""Logs, exec and port-forward reach a pod's process through the API server, by the kubernetes package."""

import contextlib
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client, stream
from tests.cluster.cluster import Cluster
from tests.cluster.control_plane import KUBELET, KUBELET_PORT
from tests.integration.stack.processes import eventually

SERVE = "echo serving; exec python -m http.server 8000 --bind $(POD_IP)"


@pytest.fixture
def web(cluster: Cluster, kubelet: object, namespace: str, nodes: Callable[..., str]) -> str:
    """A running pod of this name."""
    nodes()
    address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    container = {
        "name": "web",
        "image": "python",
        "command": ["sh", "-c", SERVE],
        "env": [address],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8000}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    volumes = [{"name": "data", "emptyDir": {}}]
    spec = {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 1}
    cluster.objects.create("pods", {"metadata": {"name": "web"}, "spec": spec}, namespace)

    def ready() -> bool:
        conditions = cluster.objects.get("pods", "web", namespace)["status"].get("conditions", ())
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    eventually(ready, "the pod does not get ready")
    return "web"


@pytest.fixture
def core(cluster: Cluster) -> client.CoreV1Api:
    return client.CoreV1Api(cluster.api)


def test_logs_are_what_the_process_said(core: client.CoreV1Api, namespace: str, web: str) -> None:
    assert core.read_namespaced_pod_log(web, namespace).startswith("serving\n")
    assert core.read_namespaced_pod_log(web, namespace, tail_lines=1).count("\n") == 1


def test_exec_runs_beside_the_process(core: client.CoreV1Api, namespace: str, web: str) -> None:
    command = ["sh", "-c", "echo $HOSTNAME; touch /data/x && ls /data; echo bad >&2; exit 4"]
    session = stream.stream(
        core.connect_get_namespaced_pod_exec,
        web,
        namespace,
        command=command,
        stdout=True,
        stderr=True,
        stdin=False,
        tty=False,
        _preload_content=False,
    )
    session.run_forever(timeout=20)
    session.sock.shutdown()
    assert session.read_stdout().splitlines() == ["web", "x"]
    assert session.read_stderr() == "bad\n"
    assert session.returncode == 4


@contextlib.contextmanager
def forwarded(core: client.CoreV1Api, namespace: str, pod: str, port: int) -> Iterator[Any]:
    """Lend a forwarded port; the package leaves the connection open where the pod ends it."""
    forward = stream.portforward(core.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port))
    try:
        yield forward
    finally:
        forward.close()
        eventually(lambda: "port forward" not in str(threading.enumerate()), "the package's thread does not end")
        forward.websocket.shutdown()


def test_a_forwarded_port_is_answered_by_the_pod(core: client.CoreV1Api, namespace: str, web: str) -> None:
    with forwarded(core, namespace, web, 8000) as forward:
        connection = forward.socket(8000)
        connection.settimeout(20)
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.0 200 OK")


def test_a_port_on_which_nothing_listens_is_named(core: client.CoreV1Api, namespace: str, web: str) -> None:
    with forwarded(core, namespace, web, 8001) as forward:
        eventually(lambda: forward.error(8001), "no error")
        assert "8001" in forward.error(8001)


def test_nobody_but_the_api_server_may_ask_the_kubelet(cluster: Cluster, kubelet: object) -> None:
    address = cluster.control_plane.addresses.control_plane(KUBELET)
    trust = ssl.create_default_context(cafile=str(cluster.ca))
    with pytest.raises(OSError, match=r"(?i)certificate|reset|closed"):
        urllib.request.urlopen(f"https://{address}:{KUBELET_PORT}/containerLogs/a/b/c", context=trust, timeout=10)
