"""What a container's document means, without a cluster: variables, mount paths, amounts, files that change at once."""

from pathlib import Path

import pytest
from tests.cluster.kubelet.atomic_files import AtomicFolder, File
from tests.cluster.kubelet.expansion import MountPaths, expand
from tests.cluster.kubelet.service_proxy import backends_by_frontend
from tests.cluster.kubelet.sources import NotThereError, pod_field, resource_field

FOLDERS = {
    "/run/app": "/tmp/1/run",
    "/run/app/keys": "/tmp/1/keys",
    "/etc/app.yaml/": "/tmp/y",
    "/prometheus": "/tmp/p",
}
MOUNTS = MountPaths({path: Path(folder) for path, folder in FOLDERS.items()})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("x$(A)-$(B)y", "x1-two y"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$$(A)", "$(A)"),
        ("$A ${A} $", "$A ${A} $"),
    ],
)
def test_variables_are_expanded_as_kubernetes_does(text: str, expected: str) -> None:
    assert expand(text, {"A": "1", "B": "two "}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/run/app", "/tmp/1/run"),
        ("/run/app/x.sock", "/tmp/1/run/x.sock"),
        ("/run/app/keys/tls.key", "/tmp/1/keys/tls.key"),
        ("--listen=unix:/run/app/x", "--listen=unix:/tmp/1/run/x"),
        ("unix:///run/app/x", "unix:///tmp/1/run/x"),
        ('{"path": "/run/app"}', '{"path": "/tmp/1/run"}'),
        ("/run/app:/run/app/keys", "/tmp/1/run:/tmp/1/keys"),
        ("--config=/etc/app.yaml", "--config=/tmp/y"),
    ],
)
def test_mount_paths_become_folders_of_this_machine(text: str, expected: str) -> None:
    assert MOUNTS.in_text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "/var/run/app",
        "/run/application",
        "/run/app-2",
        "/run/app.d/x",
        "http://prometheus/app",
        "http://prometheus/run/app",
        "run/app",
    ],
)
def test_other_paths_stay_as_they_are(text: str) -> None:
    assert MOUNTS.in_text(text) == text


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ({"resource": "limits.cpu"}, "2"),
        ({"resource": "limits.cpu", "divisor": "1m"}, "1500"),
        ({"resource": "requests.memory", "divisor": "1Mi"}, "1536"),
        ({"resource": "limits.memory", "divisor": "1Gi"}, "256"),
    ],
)
def test_resources_are_given_in_units_of_their_divisor_rounded_up(reference: dict[str, str], expected: str) -> None:
    container = {"resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "1.5Gi"}}}
    assert resource_field(container, reference) == expected


def test_a_field_that_the_downward_api_lacks_is_refused() -> None:
    pod = {"metadata": {"name": "a", "labels": {"b/c": "d"}}, "spec": {}, "status": {"podIP": "127.0.0.9"}}
    assert pod_field(pod, "metadata.labels['b/c']") == "d"
    assert pod_field(pod, "metadata.labels") == 'b/c="d"'
    assert pod_field(pod, "status.podIPs") == "127.0.0.9"
    with pytest.raises(NotThereError, match="kind"):
        pod_field(pod, "kind")


def test_files_are_replaced_all_at_once(tmp_path: Path) -> None:
    folder = AtomicFolder(tmp_path / "volume")
    assert folder.write({"a": File(b"1"), "deep/b": File(b"2", 0o600)})
    before = (tmp_path / "volume" / "..data").resolve()
    assert not folder.write({"a": File(b"1"), "deep/b": File(b"2", 0o600)})
    assert folder.write({"a": File(b"3")})
    assert (tmp_path / "volume" / "a").read_bytes() == b"3"
    assert not (tmp_path / "volume" / "deep").is_symlink()
    assert not before.exists()


def test_a_service_stands_for_the_ready_pods_of_its_namespace() -> None:
    def pod(name: str, namespace: str, address: str, ready: str) -> dict[str, object]:
        return {
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": "web", "more": "x"}},
            "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
            "status": {"podIP": address, "conditions": [{"type": "Ready", "status": ready}]},
        }

    pods = [pod("b", "n", "127.9.0.2", "True"), pod("a", "n", "127.9.0.1", "True")]
    pods += [pod("c", "n", "127.9.0.3", "False"), pod("d", "other", "127.9.0.4", "True")]
    leaving = pod("e", "n", "127.9.0.5", "True")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"  # type: ignore[index]
    ports = [{"port": 80, "targetPort": "http"}, {"port": 81, "targetPort": "unknown"}, {"port": 82, "protocol": "UDP"}]
    spec = {"clusterIP": "127.9.1.1", "selector": {"app": "web"}, "ports": ports}
    services = [{"metadata": {"name": "s", "namespace": "n"}, "spec": spec}]
    expected = {("127.9.1.1", 80): [("127.9.0.1", 8080), ("127.9.0.2", 8080)]}
    assert backends_by_frontend(services, [*pods, leaving]) == expected
