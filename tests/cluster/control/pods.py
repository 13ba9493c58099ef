"""Pods that nobody runs: their status is what a test says."""

from collections.abc import Mapping

from tests.cluster.cluster import Cluster


def add_pod(
    cluster: Cluster,
    namespace: str,
    name: str,
    labels: Mapping[str, str],
    ip: str,
    annotations: Mapping[str, str] | None = None,
) -> None:
    metadata = {"name": name, "labels": dict(labels), "annotations": dict(annotations or {})}
    spec = {"schedulerName": "nobody", "containers": [{"name": "main", "image": "any"}]}
    cluster.objects.create("pods", {"metadata": metadata, "spec": spec}, namespace)
    status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}
    cluster.objects.patch("pods", f"{name}/status", {"status": status}, namespace)
    set_ready(cluster, namespace, name, ready=True)


def set_ready(cluster: Cluster, namespace: str, name: str, *, ready: bool) -> None:
    conditions = [{"type": "Ready", "status": str(ready)}]
    cluster.objects.patch("pods", f"{name}/status", {"status": {"conditions": conditions}}, namespace)
