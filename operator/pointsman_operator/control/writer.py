"""Stores statuses: only what says something new, not too often, and always the newest in the end."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pointsman_operator.control.api import KubernetesApi, RefusedError
from pointsman_operator.control.crd import GROUP, PLURAL, VERSION
from pointsman_operator.control.facts import Stored
from pointsman_operator.control.metrics import OperatorMetrics
from pointsman_operator.control.status import Change, Subject, change, merge_patch
from pointsman_operator.control.status_document import Status
from pointsman_operator.errors import KubernetesError
from pointsman_operator.token_bucket import TokenBucket

_LOGGER = logging.getLogger(__name__)

_BURST = 3
_SECONDS_PER_WRITE = 1.0
_SECONDS_PER_FIGURE = 60.0
"""Least time from a write to one that only brings a figure up to date."""
_PAUSE_AFTER_FAILURE_SECONDS = 5.0
_DELETED_MEANWHILE = (404, 409)
"""The uid in the patch is not that of the object there is: it was deleted, or made anew."""


class StatusWriter:
    """Stores the statuses of policies, each at its own pace.

    Args:
        api: The API server.
        metrics: Counts writes.
        clock: Returns seconds; never goes back.
    """

    def __init__(self, api: KubernetesApi, metrics: OperatorMetrics, clock: Callable[[], float]) -> None:
        self._api = api
        self._metrics = metrics
        self._clock = clock
        self._policies: dict[str, _Policy] = {}

    def newest(self, uid: str, watched: Stored) -> Mapping[str, Any] | None:
        """Return the stored status: of the watch, or of the last write if the watch has not caught up with it."""
        written = self._policies[uid].written if uid in self._policies else None
        if written is None or _is_newer(watched.resource_version, written.resource_version):
            return watched.status
        return written.status

    def due(self, uid: str, stored: Mapping[str, Any] | None, made: Status) -> float | None:
        """Return in how many seconds a status should be stored; None = it says nothing new."""
        what = change(stored, made)
        if what is Change.NONE:
            return None
        policy = self._policy(uid)
        now = self._clock()
        waits = [policy.bucket.wait_seconds(), policy.not_before - now]
        if what is Change.SLOW:
            waits.append(policy.written_at + _SECONDS_PER_FIGURE - now)
        return max(0.0, *waits)

    async def write(self, subject: Subject, stored: Mapping[str, Any] | None, made: Status) -> bool:
        """Store a status that is due; tell whether that was done. Errors are logged and tried again later."""
        policy = self._policy(subject.uid)
        policy.bucket.take()
        namespace, _, name = subject.key.partition("/")
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}/{name}/status"
        try:
            answer = await self._api.patch(path, {"metadata": {"uid": subject.uid}, **merge_patch(stored, made)})
        except KubernetesError as error:
            policy.not_before = self._clock() + _PAUSE_AFTER_FAILURE_SECONDS
            if isinstance(error, RefusedError) and error.status in _DELETED_MEANWHILE:
                self._metrics.status_written("gone")
            else:
                self._metrics.status_written("failed")
                _LOGGER.warning("The status of RouterPolicy %s is not stored: %s", subject.key, error)
            return False
        policy.written = Stored(str(answer["metadata"]["resourceVersion"]), answer.get("status"))
        policy.written_at = self._clock()
        self._metrics.status_written("stored")
        return True

    def forget(self, there: frozenset[str]) -> None:
        """Keep only what is of the policies with these uids."""
        for uid in self._policies.keys() - there:
            del self._policies[uid]

    def _policy(self, uid: str) -> "_Policy":
        if uid not in self._policies:
            self._policies[uid] = _Policy(TokenBucket(_BURST, _SECONDS_PER_WRITE, self._clock))
        return self._policies[uid]


@dataclass(slots=True)
class _Policy:
    bucket: TokenBucket
    written: Stored | None = None
    written_at: float = float("-inf")
    not_before: float = float("-inf")


def _is_newer(version: str, other: str) -> bool:
    """Compare resource versions, which are numbers wherever etcd is the storage."""
    return int(version) > int(other) if version.isdigit() and other.isdigit() else version != other
