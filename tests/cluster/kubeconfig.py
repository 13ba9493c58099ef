"""Kubeconfig files: whoever reads one reaches the API server as one user."""

import base64
from pathlib import Path

import yaml


def write_kubeconfig(path: Path, *, server: str, ca: Path, token: str, namespace: str = "default") -> Path:
    """Write a kubeconfig that stands alone (the CA is inside) and that only its owner reads; return its path."""
    authority = base64.b64encode(ca.read_bytes()).decode()
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
        "current-context": "test",
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document))
    return path
