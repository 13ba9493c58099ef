"""Operators as processes."""

import base64
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from tests.cluster.certificates import CertificateAuthority, KeyPair
from tests.cluster.cluster import Cluster
from tests.cluster.part import Part

ROOT = Path(__file__).parents[3]
NAMESPACE = "pointsman"
"""Of operator and routers, as in manifests/rbac."""
PEERING = "pointsman-operator"
PROGRAM = Path(sys.executable).with_name("pointsman")


@dataclass
class Operator:
    """A running operator."""

    part: Part
    admin_port: int
    webhook_port: int
    webhook: KeyPair
    authority: CertificateAuthority

    def metric(self, line: str) -> float:
        """Return the value of a series; 0 if it is not exported yet."""
        text = requests.get(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=5).text
        return next((float(one.rpartition(" ")[2]) for one in text.splitlines() if one.startswith(f"{line} ")), 0.0)

    def ready(self) -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{self.admin_port}/readyz", timeout=5).ok
        except requests.RequestException:
            return False


@contextmanager
def webhook_configuration(cluster: Cluster, operator: Operator, policy: str = "Fail") -> Iterator[None]:
    """Have the API server ask the operator's webhook inside a ``with`` block."""
    resource = "admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    rule = {
        "apiGroups": ["pointsman.io"],
        "apiVersions": ["v1alpha1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["routerpolicies"],
    }
    authority = base64.b64encode(operator.authority.certificate.read_bytes()).decode()
    url = f"https://127.0.0.1:{operator.webhook_port}/validate-routerpolicy"
    webhook = {
        "name": "routerpolicies.pointsman.io",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": policy,
        "timeoutSeconds": 5,
        "rules": [rule],
        "clientConfig": {"url": url, "caBundle": authority},
    }
    name = f"test-{secrets.token_hex(3)}"
    cluster.objects.create(resource, {"metadata": {"name": name}, "webhooks": [webhook]})
    try:
        yield
    finally:
        cluster.objects.delete(resource, name)
