"""The router's account in a cluster, made as manifests/rbac says."""

from pathlib import Path

import yaml
from tests.cluster.cluster import Cluster
from tests.cluster.objects import Document

ROOT = Path(__file__).parents[3]
NAME = "pointsman-router"
RESOURCES = {
    "ServiceAccount": "serviceaccounts",
    "ClusterRole": "rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "rbac.authorization.k8s.io/v1/clusterrolebindings",
}


def create_account(cluster: Cluster, namespace: str, without: str = "") -> None:
    """Create it in a namespace, or with the rights on one resource left out."""
    for document in yaml.safe_load_all((ROOT / "manifests/rbac/router.yaml").read_text()):
        _place(document, namespace)
        if document["kind"] == "ClusterRole":
            document["rules"] = [rule for rule in document["rules"] if without not in rule["resources"]]
        inside = namespace if document["kind"] == "ServiceAccount" else None
        cluster.objects.create(RESOURCES[document["kind"]], document, inside)


def _place(document: Document, namespace: str) -> None:
    if document["kind"] == "ServiceAccount":
        document["metadata"]["namespace"] = namespace
        return
    document["metadata"]["name"] += f"-{namespace}"
    if document["kind"] == "ClusterRoleBinding":
        document["roleRef"]["name"] += f"-{namespace}"
        document["subjects"][0]["namespace"] = namespace
