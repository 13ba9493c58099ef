"""How the API server is reached: from a kubeconfig, or from the service account of the pod that this runs in."""

import os
from collections.abc import Mapping
from pathlib import Path

import kopf

from pointsman_operator.errors import KubernetesError

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def connect(
    environment: Mapping[str, str] = os.environ, service_account: Path = _SERVICE_ACCOUNT
) -> kopf.ConnectionInfo:
    """Return server and credentials: of $KUBECONFIG, else of the pod's service account, else of ~/.kube/config.

    Call it anew when the server refuses the credentials: tokens are replaced about every hour.

    Raises:
        KubernetesError: If there is none of these, or it cannot be read.
    """
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
    try:
        if not environment.get("KUBECONFIG") and host and (service_account / "token").exists():
            return kopf.ConnectionInfo(
                server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
                ca_path=str(service_account / "ca.crt"),
                token=(service_account / "token").read_text(encoding="utf-8").strip(),
            )
        found = kopf.login_with_kubeconfig(settings=kopf.OperatorSettings())
    except Exception as error:
        raise KubernetesError(f"the kubeconfig cannot be used ({type(error).__name__}: {error}); correct it") from error
    if found is None or not found.server:
        raise KubernetesError(
            "the API server is not known; run in a pod with a service account, or name a kubeconfig in $KUBECONFIG"
        )
    return found
