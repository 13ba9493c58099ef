"""Where `pointsman route`, `experts` and `explain` ask: one router by its address, or the routers of a cluster."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from pointsman.routing.v1 import routing_pb2_grpc
from pointsman_operator.cli.router_pods import Cluster, RouterPod
from pointsman_operator.errors import KubernetesError, UsageError

Answer = TypeVar("Answer")

_CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Where:
    """Which routers to ask."""

    target: str
    """gRPC address of a router; used without `namespace`."""
    namespace: str = ""
    """Of the RouterPolicy in question; empty = not in a cluster."""
    router_namespace: str = ""
    """Of the routers; empty = everywhere."""
    context: str = ""
    """Of the kubeconfig; empty = its current one."""


class Routers:
    """Asks routers.

    Args:
        where: Which.
        cluster: None = the one at `where.target`.
    """

    def __init__(self, where: Where, cluster: Cluster | None) -> None:
        self._where = where
        self._cluster = cluster

    def model(self, policy: str, model: str) -> str:
        """Return the "model" to ask for: in a cluster the policy's key, else the policy or model that is named.

        Raises:
            UsageError: If both are named.
            KubernetesError: If the cluster has no such policy.
        """
        if policy and model != "auto":
            raise UsageError("name either a RouterPolicy or --model, not both")
        if self._cluster is None:
            return policy or model
        if model != "auto":
            return model
        return self._cluster.policy(self._where.namespace, policy)

    def ask(self, question: Callable[[Any], Answer], *, until_known: bool = False) -> Answer:
        """Ask one router after the other until one answers.

        Args:
            question: Calls a RoutingService stub.
            until_known: Whether NOT_FOUND means that another router may know.

        Raises:
            KubernetesError: If no router can be reached, or the cluster does not show them.
            grpc.RpcError: If the router refuses.
        """
        if self._cluster is None:
            with grpc.insecure_channel(self._where.target) as channel:
                return question(_stub(channel))
        pods = self._cluster.routers(self._where.router_namespace)
        refusal: grpc.RpcError | None = None
        for pod in pods:
            with self._cluster.channel(pod) as channel:
                if not _connected(channel):
                    continue
                try:
                    return question(_stub(channel))
                except grpc.RpcError as error:
                    if not until_known or error.code() is not grpc.StatusCode.NOT_FOUND:
                        raise
                    refusal = error
        if refusal is not None:
            raise refusal
        raise KubernetesError(_unreachable(pods))


@contextlib.contextmanager
def routers(where: Where) -> Iterator[Routers]:
    """Open the way to the routers inside a ``with`` block.

    Raises:
        KubernetesError: If there is no usable kubeconfig.
    """
    if not where.namespace:
        yield Routers(where, None)
        return
    with contextlib.closing(Cluster(where.context)) as cluster:
        yield Routers(where, cluster)


def _stub(channel: grpc.Channel) -> Any:
    return routing_pb2_grpc.RoutingServiceStub(channel)  # type: ignore[no-untyped-call]


def _connected(channel: grpc.Channel) -> bool:
    with contextlib.suppress(grpc.FutureTimeoutError):
        grpc.channel_ready_future(channel).result(_CONNECT_SECONDS)
        return True
    return False


def _unreachable(pods: Sequence[RouterPod]) -> str:
    names = ", ".join(f"{pod.namespace}/{pod.name}" for pod in pods)
    return f"none of the routers ({names}) can be reached; check that you may create pods/portforward there"
