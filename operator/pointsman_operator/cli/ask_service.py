"""Where `pointsman policies` asks: a policy service by its address, or the one of a cluster."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman.policy.v1 import policy_pb2_grpc
from pointsman_operator.cli.router_pods import POLICY_SERVICE_SELECTOR, Cluster
from pointsman_operator.errors import UsageError

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ServicePlace:
    """Which policy service to ask."""

    target: str
    """Its gRPC address; used without `namespace`."""
    namespace: str = ""
    """Of the RouterPolicy in question; empty = not in a cluster."""
    service_namespace: str = ""
    """Of the policy service; empty = anywhere."""
    context: str = ""
    """Of the kubeconfig; empty = its current one."""


class PolicyService:
    """Asks a policy service.

    Args:
        channel: To it.
        namespace: Of RouterPolicies that are named without one; empty = they are named in full.
    """

    def __init__(self, channel: grpc.Channel, namespace: str) -> None:
        self.stub: Any = policy_pb2_grpc.PolicyServiceStub(channel)  # type: ignore[no-untyped-call]
        self._namespace = namespace

    def rollouts(self) -> list[pb.RolloutReport]:
        """Return where all policies stand, or those of the namespace.

        Raises:
            grpc.RpcError: If the service does not answer.
        """
        response = self.stub.ListRollouts(pb.ListRolloutsRequest(), timeout=TIMEOUT_SECONDS)
        return [
            one for one in response.rollouts if one.policy.startswith(f"{self._namespace}/" if self._namespace else "")
        ]

    def key(self, policy: str) -> str:
        """Return the key of a policy; without a name, of the only one that there is.

        Raises:
            UsageError: If there are several, or none; says which.
            grpc.RpcError: If the service does not answer.
        """
        if policy:
            return policy if "/" in policy or not self._namespace else f"{self._namespace}/{policy}"
        known = [one.policy for one in self.rollouts()]
        if len(known) != 1:
            raise UsageError(f"name a RouterPolicy; the policy service knows: {', '.join(known) or 'none'}")
        return known[0]

    def rollout(self, policy: str) -> pb.RolloutReport:
        """Return where a policy stands.

        Raises:
            grpc.RpcError: If the service does not answer.
        """
        request = pb.ListRolloutsRequest(policies=[policy])
        report: pb.RolloutReport = self.stub.ListRollouts(request, timeout=TIMEOUT_SECONDS).rollouts[0]
        return report

    def versions(self, policy: str) -> list[pb.VersionReport]:
        """Return a policy's versions, newest first.

        Raises:
            grpc.RpcError: If the service does not answer.
        """
        return list(self.stub.ListVersions(pb.ListVersionsRequest(policy=policy), timeout=TIMEOUT_SECONDS).versions)

    def version(self, policy: str, name: str) -> pb.VersionReport:
        """Return one of a policy's versions, by the beginning of its name.

        Args:
            policy: Its key.
            name: Empty = the candidate, else the active version, else the newest.

        Raises:
            UsageError: If there is no such version, or there are several.
            grpc.RpcError: If the service does not answer.
        """
        versions = self.versions(policy)
        if not name and versions:
            rollout = self.rollout(policy)
            name = rollout.candidate.id.version or rollout.active.version or versions[0].id.version
        found = [one for one in versions if name and one.id.version.startswith(name)]
        if len(found) != 1:
            known = ", ".join(one.id.version for one in versions) or "none yet"
            raise UsageError(f"{policy} has {len(found) or 'no'} versions {name!r}; it has: {known}")
        return found[0]


@contextlib.contextmanager
def policy_service(place: ServicePlace) -> Iterator[PolicyService]:
    """Open the way to the policy service inside a ``with`` block.

    Raises:
        KubernetesError: If there is no usable kubeconfig, or no policy service is ready.
        ConnectionError: If nothing answers at the target.
        grpc.RpcError: If the service refuses.
    """
    if not place.namespace:
        with grpc.insecure_channel(place.target) as channel, _reachable(place.target):
            yield PolicyService(channel, "")
        return
    with contextlib.closing(Cluster(place.context)) as cluster:
        pod = cluster.routers(place.service_namespace, POLICY_SERVICE_SELECTOR, "policy service")[0]
        with cluster.channel(pod) as channel:
            yield PolicyService(channel, place.namespace)


@contextlib.contextmanager
def _reachable(target: str) -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        details = error.details() or ""
        if error.code() is not grpc.StatusCode.UNAVAILABLE or "connect" not in details.lower():
            raise
        raise ConnectionError(
            f"no policy service answers at {target} ({details}); start one with `pointsman policy`, "
            "or name it with --target HOST:PORT"
        ) from error
