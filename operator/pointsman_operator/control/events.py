"""Kubernetes events: what happened to a policy, for ``kubectl describe``. Few, and none that the status contradicts."""

import datetime
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pointsman_operator.control.api import KubernetesApi
from pointsman_operator.control.metrics import OperatorMetrics
from pointsman_operator.control.rollout_document import HistoryEntry
from pointsman_operator.control.status import Subject
from pointsman_operator.control.status_document import Status
from pointsman_operator.errors import KubernetesError
from pointsman_operator.routerpolicy import API_VERSION
from pointsman_operator.token_bucket import TokenBucket

_LOGGER = logging.getLogger(__name__)

_BURST = 8
_STEPS_BURST = 10
_SECONDS_PER_EVENT = 30.0
_SECONDS_PER_SUMMARY = 30.0
_MOST_NAMED = 5
_LONGEST_MESSAGE = 1_000
"""The API takes 1024."""
_COMPONENT = "pointsman-operator"
_BAD_STAGES = ("Rejected", "RolledBack")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""

    kind: Literal["Normal", "Warning"]
    reason: str
    message: str


def flips(before: Status, after: Status) -> Iterator[Event]:
    """Yield an event for each condition whose status is another one, new ones that are not True included.

    `rollout_steps` tells of condition PolicyPromoted, and of each step towards it.
    """
    known = {condition.type: condition.status for condition in before.conditions}
    for condition in after.conditions:
        old = known.get(condition.type)
        if condition.status == old or (old is None and condition.status == "Unknown"):
            continue
        if condition.type == "PolicyPromoted":
            continue
        kind: Literal["Normal", "Warning"] = "Warning" if condition.status == "False" else "Normal"
        yield Event(kind, condition.reason, f"{condition.type} is {condition.status}: {condition.message}")


def rollout_steps(before: Status, after: Status) -> Iterator[Event]:
    """Yield an event for each entry of the rollout's history that is new, oldest first."""
    known = frozenset(map(_identity, before.history or ()))
    for entry in reversed(after.history or ()):
        if _identity(entry) not in known:
            kind: Literal["Normal", "Warning"] = "Warning" if entry.stage in _BAD_STAGES else "Normal"
            yield Event(kind, f"Version{entry.stage}", f"Version {entry.version} is {entry.stage}: {entry.reason}.")


def experts_changed(before: frozenset[str], after: frozenset[str], total: int) -> Event | None:
    """Return one event for all experts that joined and left; None = they are the same.

    Args:
        before: Names of those that were ready.
        after: Names of those that are.
        total: How many are selected, ready or not.
    """
    parts = [
        f"{len(names)} {what} ({_some(sorted(names))})"
        for what, names in (("joined", after - before), ("left", before - after))
        if names
    ]
    if not parts:
        return None
    return Event("Normal", "ExpertsChanged", f"{', '.join(parts)}: {len(after)} of {total} experts are ready.")


class Announcer:
    """Posts events, not too many of each policy.

    Args:
        api: The API server.
        metrics: Counts events.
        identity: Of this replica.
        clock: Returns seconds; never goes back.
    """

    def __init__(self, api: KubernetesApi, metrics: OperatorMetrics, identity: str, clock: Callable[[], float]) -> None:
        self._api = api
        self._metrics = metrics
        self._identity = identity
        self._clock = clock
        self._policies: dict[str, _Policy] = {}

    async def conditions(self, subject: Subject, before: Status, after: Status) -> None:
        """Tell what is new in a status that was stored."""
        policy = self._policy(subject.uid)
        for event in flips(before, after):
            await self._post(subject, event, policy.bucket)
        for event in rollout_steps(before, after):
            await self._post(subject, event, policy.steps)

    async def experts(self, subject: Subject) -> None:
        """Tell of experts that joined or left since the last time; the first time is only remembered."""
        policy = self._policy(subject.uid)
        now = self._clock()
        ready = frozenset(one.name for one in subject.discovered.endpoints if one.expert.ready)
        if policy.experts is None:
            policy.experts = ready
        elif now >= policy.next_summary:
            event = experts_changed(policy.experts, ready, subject.discovered.total)
            if event is not None:
                policy.experts = ready
                policy.next_summary = now + _SECONDS_PER_SUMMARY
                await self._post(subject, event, policy.bucket)

    def forget(self, there: frozenset[str]) -> None:
        """Keep only what is of the policies with these uids."""
        for uid in self._policies.keys() - there:
            del self._policies[uid]

    def _policy(self, uid: str) -> "_Policy":
        if uid not in self._policies:
            self._policies[uid] = _Policy(
                TokenBucket(_BURST, _SECONDS_PER_EVENT, self._clock),
                TokenBucket(_STEPS_BURST, _SECONDS_PER_EVENT, self._clock),
            )
        return self._policies[uid]

    async def _post(self, subject: Subject, event: Event, bucket: TokenBucket) -> None:
        if not bucket.take():
            self._metrics.event("suppressed")
            return
        namespace, _, name = subject.key.partition("/")
        now = datetime.datetime.now(datetime.UTC)
        try:
            await self._api.create(
                f"/api/v1/namespaces/{namespace}/events",
                document(subject.uid, namespace, name, event, now, self._identity),
            )
        except KubernetesError as error:
            self._metrics.event("failed")
            _LOGGER.warning("An event of RouterPolicy %s is not posted: %s", subject.key, error)
        else:
            self._metrics.event("posted")


def _identity(entry: HistoryEntry) -> tuple[str, str, str, str]:
    return entry.at, entry.version, entry.stage, entry.reason


@dataclass(slots=True)
class _Policy:
    bucket: TokenBucket
    steps: TokenBucket
    """Of rollouts, which nobody should miss because conditions flapped."""
    experts: frozenset[str] | None = None
    next_summary: float = field(default=float("-inf"))


def document(
    uid: str, namespace: str, name: str, event: Event, now: datetime.datetime, identity: str
) -> dict[str, Any]:
    """Return an event as the API takes it."""
    time = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{name[:200]}.", "namespace": namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": "RouterPolicy",
            "namespace": namespace,
            "name": name,
            "uid": uid,
        },
        "type": event.kind,
        "reason": event.reason,
        "message": event.message[:_LONGEST_MESSAGE],
        "source": {"component": _COMPONENT},
        "reportingComponent": _COMPONENT,
        "reportingInstance": identity[:128],
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
