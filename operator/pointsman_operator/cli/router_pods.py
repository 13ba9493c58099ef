"""Routers in a cluster, found through the kubeconfig of whoever asks.

It takes rights to list RouterPolicies and pods and to forward a pod's port, and to read the routers' Secret if they
serve TLS.
"""

import base64
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from pointsman_operator.cli.extras import needs_extra
from pointsman_operator.cli.port_forward import forwarded
from pointsman_operator.errors import KubernetesError

SELECTOR = "app.kubernetes.io/name=pointsman,app.kubernetes.io/component=router"
POLICY_SERVICE_SELECTOR = "app.kubernetes.io/name=pointsman,app.kubernetes.io/component=policy-service"
_PORT_NAME = "grpc"
_DEFAULT_PORT = 9002
_TLS_ARGUMENT = "--tls-certificate"
_TLS_VOLUME = "tls"
_TIMEOUT_SECONDS = 10.0
_FORBIDDEN, _NOT_FOUND = 403, 404


@dataclass(frozen=True, slots=True)
class RouterPod:
    """A ready router."""

    namespace: str
    name: str
    port: int
    secret: str
    """With what its TLS needs; empty = it serves plain text."""


class Cluster:
    """A cluster as a kubeconfig shows it.

    Args:
        context: Of the kubeconfig; empty = its current one.

    Raises:
        KubernetesError: If there is no usable kubeconfig.
    """

    def __init__(self, context: str = "") -> None:
        with needs_extra("operator"):
            from kubernetes import client, config
            from kubernetes.config.config_exception import ConfigException
        try:
            self._configuration = client.Configuration()
            config.load_kube_config(  # type: ignore[no-untyped-call]
                context=context or None, client_configuration=self._configuration
            )
        except (ConfigException, OSError) as error:
            raise KubernetesError(
                f"no usable kubeconfig ({error}); name one in $KUBECONFIG, or leave out --namespace and give --target"
            ) from error
        self._client = client
        self._api = client.ApiClient(self._configuration)

    def close(self) -> None:
        """Close the connections."""
        self._api.close()  # type: ignore[no-untyped-call]

    def policy(self, namespace: str, name: str) -> str:
        """Return the key of a RouterPolicy; without a name, of the only one in the namespace.

        Raises:
            KubernetesError: If there is no such policy, or several and none is named; says which there are.
        """
        objects = self._client.CustomObjectsApi(self._api)
        found = self._call(
            "list RouterPolicies",
            lambda: objects.list_namespaced_custom_object(
                "pointsman.io", "v1alpha1", namespace, "routerpolicies", _request_timeout=_TIMEOUT_SECONDS
            ),
        )
        names = sorted(item["metadata"]["name"] for item in found["items"])
        chosen = name or (names[0] if len(names) == 1 else "")
        if chosen not in names:
            there = ", ".join(names) or "none"
            wanted = f"no RouterPolicy {name} in namespace {namespace}" if name else "which RouterPolicy?"
            raise KubernetesError(f"{wanted}; namespace {namespace} has: {there}")
        return f"{namespace}/{chosen}"

    def routers(self, namespace: str = "", selector: str = SELECTOR, what: str = "router") -> Sequence[RouterPod]:
        """Return the ready routers, or other parts with a gRPC port, at least one.

        Args:
            namespace: Where to look; empty = everywhere.
            selector: Their labels.
            what: They are called in messages.

        Raises:
            KubernetesError: If there is none, or it cannot be found out.
        """
        core = self._client.CoreV1Api(self._api)
        found = self._call(
            "list pods",
            lambda: (
                core.list_namespaced_pod(namespace, label_selector=selector, _request_timeout=_TIMEOUT_SECONDS)
                if namespace
                else core.list_pod_for_all_namespaces(label_selector=selector, _request_timeout=_TIMEOUT_SECONDS)
            ),
        )
        ready = sorted(filter(_is_ready, found.items), key=lambda pod: (pod.metadata.namespace, pod.metadata.name))
        if not ready:
            where = f"namespace {namespace}" if namespace else "the cluster"
            raise KubernetesError(
                f"no {what} is ready in {where} ({len(found.items)} pods have the labels {selector}); "
                f"see `kubectl get pods -A -l {selector.rpartition(',')[2]}`"
            )
        return [_router(pod) for pod in ready]

    @contextlib.contextmanager
    def channel(self, router: RouterPod) -> Iterator[grpc.Channel]:
        """Open a channel to a router inside a ``with`` block.

        Raises:
            KubernetesError: If its certificates cannot be read.
        """
        with forwarded(lambda: self._forward(router)) as path:
            if not router.secret:
                with grpc.insecure_channel(f"unix:{path}") as channel:
                    yield channel
                return
            pem = self._secret(router)
            credentials = grpc.ssl_channel_credentials(pem["ca.crt"], pem["tls.key"], pem["tls.crt"])
            options = [("grpc.ssl_target_name_override", _server_name(path, pem))]
            with grpc.secure_channel(f"unix:{path}", credentials, options) as channel:
                yield channel

    def _forward(self, router: RouterPod) -> socket.socket:
        from kubernetes.client.exceptions import ApiException
        from kubernetes.stream import portforward

        # The call turns its client into one for websockets while it lasts, so each has its own.
        core = self._client.CoreV1Api(self._client.ApiClient(self._configuration))
        try:
            forward = portforward(
                core.connect_get_namespaced_pod_portforward, router.name, router.namespace, ports=str(router.port)
            )
        except ApiException as error:
            raise ConnectionError(error.reason) from error
        end: socket.socket = forward.socket(router.port)
        end.setblocking(True)
        return end

    def _secret(self, router: RouterPod) -> dict[str, bytes]:
        core = self._client.CoreV1Api(self._api)
        secret = self._call(
            f"read Secret {router.secret} in namespace {router.namespace}, which the routers' TLS needs,",
            lambda: core.read_namespaced_secret(router.secret, router.namespace, _request_timeout=_TIMEOUT_SECONDS),
        )
        pem = {name: base64.b64decode(text) for name, text in (secret.data or {}).items()}
        missing = {"ca.crt", "tls.crt", "tls.key"} - pem.keys()
        if missing:
            raise KubernetesError(
                f"Secret {router.namespace}/{router.secret} lacks {', '.join(sorted(missing))}; issue it anew"
            )
        return pem

    def _call(self, what: str, call: Callable[[], Any]) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return call()
        except ApiException as error:
            if error.status == _FORBIDDEN:
                raise KubernetesError(f"you may not {what}; ask for that right in this cluster") from error
            if error.status == _NOT_FOUND:
                raise KubernetesError(
                    f"cannot {what}: the cluster does not have that; install the chart, or check --namespace"
                ) from error
            raise KubernetesError(f"cannot {what}: the API server answers {error.status} {error.reason}") from error
        except (HTTPError, OSError) as error:
            raise KubernetesError(
                f"cannot {what}: the API server at {self._configuration.host} does not answer; check the kubeconfig"
            ) from error


def _is_ready(pod: Any) -> bool:
    conditions = pod.status.conditions or ()
    return pod.metadata.deletion_timestamp is None and any(
        one.type == "Ready" and one.status == "True" for one in conditions
    )


def _router(pod: Any) -> RouterPod:
    ports = [port for container in pod.spec.containers for port in container.ports or () if port.name == _PORT_NAME]
    arguments = [
        argument for container in pod.spec.containers for argument in (container.command or []) + (container.args or [])
    ]
    secret = ""
    if any(argument.startswith(_TLS_ARGUMENT) for argument in arguments):
        secrets = [one.secret.secret_name for one in pod.spec.volumes or () if one.name == _TLS_VOLUME and one.secret]
        secret = secrets[0] if secrets else f"{pod.metadata.name}-tls"
    port = ports[0].container_port if ports else _DEFAULT_PORT
    return RouterPod(pod.metadata.namespace, pod.metadata.name, port, secret)


def _server_name(path: Path, pem: dict[str, bytes]) -> str:
    """Return a name that the router's certificate holds, so that gRPC can expect it.

    Raises:
        KubernetesError: If the certificate is not of the Secret's CA, or names no host.
    """
    context = ssl.create_default_context(cadata=pem["ca.crt"].decode())
    context.check_hostname = False
    try:
        with socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(_TIMEOUT_SECONDS)
            plain.connect(str(path))
            # The handshake needs no certificate of ours: servers judge it after they have shown their own.
            with context.wrap_socket(plain) as secured:
                shown: dict[str, Any] = secured.getpeercert() or {}
    except OSError as error:
        raise KubernetesError(f"no TLS connection to the router ({error}); check its certificate") from error
    names = [str(value) for kind, value in shown.get("subjectAltName", ()) if kind == "DNS"]
    if not names:
        raise KubernetesError("the router's certificate names no host; issue it with a DNS name")
    return names[0]
