"""Kubernetes objects as the API server returns them, made in one line."""

from collections.abc import Mapping
from typing import Any

LABELS = {"pointsman.io/expert": "true"}


def pod(
    name: str = "a",
    *,
    namespace: str = "edge",
    ip: str = "10.0.0.1",
    labels: Mapping[str, str] = LABELS,
    ready: str = "True",
    phase: str = "Running",
    node: str = "node-1",
    deleted: bool = False,
    **annotations: str,
) -> dict[str, Any]:
    """A pod; annotations without their prefix, underscores for dashes. It serves model "m" unless it says otherwise."""
    given = {f"pointsman.io/{key.replace('_', '-')}": text for key, text in {"model": "m", **annotations}.items()}
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{namespace}-{name}",
        "labels": dict(labels),
        "annotations": {key: text for key, text in given.items() if text} | {"other.io/note": "x"},
    }
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"nodeName": node, "containers": [{"name": "server", "image": "server"}]},
        "status": {
            "phase": phase,
            "podIP": ip,
            "conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": ready}],
        },
    }


def policy(
    name: str = "chat", *, namespace: str = "edge", generation: int = 1, created: str = "2026-01-01", **spec: Any
) -> dict[str, Any]:
    """A RouterPolicy that reads its experts directly and selects `LABELS`."""
    return {
        "apiVersion": "pointsman.io/v1alpha1",
        "kind": "RouterPolicy",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{namespace}-{name}",
            "generation": generation,
            "creationTimestamp": f"{created}T00:00:00Z",
        },
        "spec": {
            "modelName": f"{namespace}-{name}",
            "experts": {"selector": {"matchLabels": LABELS}},
            "telemetry": {"source": "DirectScrape"},
            **spec,
        },
    }


def pool(name: str = "pool", *, namespace: str = "edge", **spec: Any) -> dict[str, Any]:
    """An InferencePool (v1) that selects `LABELS` on port 9000."""
    return {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}"},
        "spec": {
            "selector": {"matchLabels": LABELS},
            "targetPorts": [{"number": 9000}, {"number": 9001}],
            "endpointPickerRef": {"name": "pointsman", "port": {"number": 9002}},
            **spec,
        },
    }
