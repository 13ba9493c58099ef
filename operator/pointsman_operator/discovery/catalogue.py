"""What the objects of a cluster mean for routing: policies in order of precedence, and the experts of each.

Pure but for its memory: a policy that becomes wrong stays in force as it last was, and a pod that stays as it is keeps
its `Endpoint`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.discovery.pods import Pod, Pool, discover
from pointsman_operator.discovery.store import KnownPolicy
from pointsman_operator.routerpolicy import RouterPolicy, parse_policy
from pointsman_policy.errors import DocumentError

_NAMED_PROBLEMS = 3


@dataclass(frozen=True, slots=True)
class PolicyObject:
    """A RouterPolicy as it is stored: checked by nobody yet."""

    key: str
    """As "namespace/name"."""
    uid: str
    generation: int
    created_at: str
    """RFC 3339 in UTC, so that texts compare as times do."""
    manifest: Mapping[str, Any]
    """Without its status."""


@dataclass(frozen=True, slots=True)
class NodeObject:
    """A node."""

    name: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Objects:
    """All that a cluster holds of interest, at one moment."""

    policies: Sequence[PolicyObject] = ()
    pods: Sequence[Pod] = ()
    nodes: Sequence[NodeObject] = ()
    pools: Sequence[Pool] = ()


@dataclass(frozen=True, slots=True)
class Findings:
    """What they mean."""

    policies: tuple[KnownPolicy, ...] = ()
    """In order of precedence: the older first, then by key."""
    endpoints: tuple[Endpoint, ...] = ()
    """The experts of all policies, in the policies' order."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with policies ("policies") and experts ("experts"); empty = nothing."""


@dataclass(slots=True)
class _Known:
    """What was made of a policy's object."""

    generation: int
    policy: RouterPolicy | None
    problem: str


def read_policy_object(manifest: Mapping[str, Any]) -> PolicyObject:
    """Take what routing needs of a stored RouterPolicy; its status, which changes often, is none of it."""
    metadata = manifest.get("metadata") or {}
    return PolicyObject(
        key=f"{metadata.get('namespace', '')}/{metadata.get('name', '')}",
        uid=metadata.get("uid") or "",
        generation=metadata.get("generation") or 0,
        created_at=metadata.get("creationTimestamp") or "",
        manifest={
            "apiVersion": manifest.get("apiVersion"),
            "kind": manifest.get("kind"),
            "metadata": {"name": metadata.get("name"), "namespace": metadata.get("namespace")},
            "spec": manifest.get("spec"),
        },
    )


class Catalogue:
    """Makes findings of objects, again and again.

    Args:
        picker_names: The pickers there are.
    """

    def __init__(self, picker_names: Collection[str]) -> None:
        self._picker_names = picker_names
        self._known: dict[tuple[str, str], _Known] = {}
        self._endpoints: dict[tuple[str, str, str], Endpoint] = {}

    def update(self, objects: Objects) -> Findings:
        """Return what the objects mean now."""
        ordered = sorted(objects.policies, key=lambda one: (one.created_at, one.key, one.uid))
        ordered = list({one.key: one for one in ordered}.values())  # of one that was made anew, the new one
        policies = [self._policy(one) for one in ordered]
        self._forget({(one.key, one.uid) for one in ordered})
        pods: dict[str, list[Pod]] = {}
        for pod in objects.pods:
            pods.setdefault(pod.namespace, []).append(pod)
        nodes = {node.name: node.labels for node in objects.nodes}
        pools = {(pool.group, pool.namespace, pool.name): pool for pool in objects.pools}
        endpoints: list[Endpoint] = []
        problems: list[str] = []
        for policy in [known.policy for known in policies if known.policy is not None]:
            reference = policy.spec.experts.inference_pool_ref
            namespace = policy.metadata.namespace
            pool = pools.get((reference.group, namespace, reference.name)) if reference else None
            found = discover(policy, pods.get(namespace, ()), lambda name: nodes.get(name, {}), pool)
            endpoints += map(self._same, found.endpoints)
            problems += [f"{namespace}/{name or policy.metadata.name}: {why}" for name, why in found.problems.items()]
        self._endpoints = {_identity(endpoint): endpoint for endpoint in endpoints}
        wrong = [f"{known.key}: {known.problem}" for known in policies if known.problem]
        return Findings(
            tuple(policies), tuple(endpoints), {"policies": _summary(wrong), "experts": _summary(sorted(set(problems)))}
        )

    def _policy(self, one: PolicyObject) -> KnownPolicy:
        known = self._known.get((one.key, one.uid))
        if known is None or known.generation != one.generation:
            known = self._read(one, known.policy if known else None)
            self._known[one.key, one.uid] = known
        return KnownPolicy(one.key, known.policy, one.uid, one.generation, known.problem)

    def _read(self, one: PolicyObject, before: RouterPolicy | None) -> _Known:
        try:
            policy = parse_policy(one.manifest, f"RouterPolicy {one.key}", self._picker_names)
        except DocumentError as error:
            return _Known(one.generation, before, str(error))
        return _Known(one.generation, before if policy == before else policy, "")

    def _same(self, endpoint: Endpoint) -> Endpoint:
        before = self._endpoints.get(_identity(endpoint))
        return before if before is not None and before.expert == endpoint.expert else endpoint

    def _forget(self, there: Collection[tuple[str, str]]) -> None:
        for gone in self._known.keys() - there:
            del self._known[gone]


def _identity(endpoint: Endpoint) -> tuple[str, str, str]:
    return endpoint.policy, endpoint.name, endpoint.address


def _summary(problems: Iterable[str]) -> str:
    texts = list(problems)
    more = len(texts) - _NAMED_PROBLEMS
    return "; ".join(texts[:_NAMED_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")
