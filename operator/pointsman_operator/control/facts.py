"""What the operator knows at a moment, gathered from the cluster's objects and the routers' reports."""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pointsman_operator.control.reports import RouterReport
from pointsman_operator.control.rollouts import PolicyRollout, Rollouts
from pointsman_operator.control.status import Subject
from pointsman_operator.control.validation import Checked, Claim, check, owners, taken
from pointsman_operator.discovery.catalogue import Objects, PolicyObject
from pointsman_operator.discovery.pods import Discovered, Pod, discover
from pointsman_operator.routerpolicy import RouterPolicy

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
    """A RouterPolicy's status as the API server has it."""

    resource_version: str
    """Of the object."""
    status: Mapping[str, Any] | None
    """None = it has none yet."""


class Facts:
    """Everything that a status is made of. Used on the event loop only.

    Args:
        picker_names: The pickers there are.
        has_policy_service: Whether there is one to ask.
    """

    def __init__(self, picker_names: Collection[str], *, has_policy_service: bool = False) -> None:
        self.picker_names = picker_names
        self._has_policy_service = has_policy_service
        self.reports: tuple[RouterReport, ...] | None = None
        """Of all ready routers; None = nobody was asked yet."""
        self.rollouts: Rollouts | None = None
        """What the policy service says; None = there is none, or it was not asked yet."""
        self.stored: Callable[[str], Stored | None] = lambda uid: None
        """Returns what is stored of the policy with a uid; None = it was not seen yet."""
        self._objects: Objects | None = None
        self._checked: dict[tuple[str, int], Checked] = {}
        self._subjects: tuple[Subject, ...] | None = None

    @property
    def complete(self) -> bool:
        """Whether every source has spoken at least once, so that nothing is called missing that was not looked for."""
        asked = self.rollouts is not None or not self._has_policy_service
        return self._objects is not None and self.reports is not None and asked

    @property
    def has_objects(self) -> bool:
        """Whether the cluster's objects are known."""
        return self._objects is not None

    @property
    def policy_count(self) -> int:
        """How many RouterPolicies there are."""
        return len(self._objects.policies) if self._objects else 0

    def take(self, objects: Objects) -> None:
        """Take over what the cluster holds now."""
        self._objects = objects
        self._subjects = None

    def claims(self) -> list[Claim]:
        """Return the model names that the valid policies claim."""
        policies = self._objects.policies if self._objects else ()
        return [
            Claim(one.created_at, one.key, checked.policy.spec.model_name)
            for one in policies
            if (checked := self._check(one)).policy is not None
        ]

    def rollout(self, key: str) -> PolicyRollout | None:
        """Return what is known of a policy's rollout; None = there is no policy service."""
        return None if self.rollouts is None else self.rollouts.of(key)

    def valid_policies(self) -> list[RouterPolicy]:
        """Return the policies that are right by themselves."""
        return [one.checked.policy for one in self.subjects() if one.checked.policy is not None]

    def subjects(self) -> tuple[Subject, ...]:
        """Return all policies with what was found out about each."""
        if self._subjects is None:
            self._subjects = self._make_subjects(self._objects or Objects())
        return self._subjects

    def _make_subjects(self, objects: Objects) -> tuple[Subject, ...]:
        there = {(one.uid, one.generation) for one in objects.policies}
        self._checked = {key: checked for key, checked in self._checked.items() if key in there}
        owner = owners(self.claims())
        look = _Look(objects)
        return tuple(self._subject(one, owner, look) for one in objects.policies)

    def _subject(self, one: PolicyObject, owner: Mapping[str, str], look: "_Look") -> Subject:
        checked = self._check(one)
        policy = checked.policy
        if policy is None:
            return Subject(one.uid, one.generation, checked)
        holder = owner[policy.spec.model_name]
        return Subject(
            one.uid,
            one.generation,
            checked,
            "" if holder == one.key else taken(policy, holder),
            _discovered(look, policy),
        )

    def _check(self, one: PolicyObject) -> Checked:
        known = self._checked.get((one.uid, one.generation))
        if known is None:
            known = self._checked[one.uid, one.generation] = check(one.manifest, self.picker_names)
        return known


def _discovered(look: "_Look", policy: RouterPolicy) -> Discovered:
    try:
        return look.discover(policy)
    except Exception as error:
        _LOGGER.exception("The experts of RouterPolicy %s cannot be told", policy.key)
        return Discovered(
            problems={"": f"a pod or a pool cannot be read ({type(error).__name__}); see the operator's log"}
        )


class _Look:
    """Finds experts among the objects of one moment."""

    def __init__(self, objects: Objects) -> None:
        self._pods: dict[str, list[Pod]] = {}
        for pod in objects.pods:
            self._pods.setdefault(pod.namespace, []).append(pod)
        self._nodes = {node.name: node.labels for node in objects.nodes}
        self._pools = {(pool.group, pool.namespace, pool.name): pool for pool in objects.pools}

    def discover(self, policy: RouterPolicy) -> Discovered:
        reference, namespace = policy.spec.experts.inference_pool_ref, policy.metadata.namespace
        pool = self._pools.get((reference.group, namespace, reference.name)) if reference else None
        return discover(policy, self._pods.get(namespace, ()), lambda name: self._nodes.get(name, {}), pool)
