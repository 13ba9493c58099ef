"""RouterPolicies on the API server."""

import copy
import time
from collections.abc import Callable
from typing import Any, TypeVar

from tests.cluster.cluster import Cluster

RESOURCE = "pointsman.io/v1alpha1/routerpolicies"
EXPERT = {"pointsman.io/expert": "true"}

T = TypeVar("T")


def manifest(name: str = "chat", **changes: Any) -> dict[str, Any]:
    """Return a policy with parts replaced, named like "spec__telemetry__source"."""
    made: dict[str, Any] = {
        "apiVersion": "pointsman.io/v1alpha1",
        "kind": "RouterPolicy",
        "metadata": {"name": name},
        "spec": {
            "modelName": f"model-{name}",
            "experts": {"selector": {"matchLabels": dict(EXPERT)}},
            "objectives": {"timeToFirstTokenMilliseconds": 2000},
            "telemetry": {"prometheusUrl": "http://127.0.0.1:9090"},
        },
    }
    made = copy.deepcopy(made)
    for path, value in changes.items():
        *parents, last = path.split("__")
        part = made
        for parent in parents:
            part = part.setdefault(parent, {})
        part[last] = value
    return made


class Policies:
    """The policies of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self.namespace = namespace

    def create(self, name: str = "chat", **changes: Any) -> dict[str, Any]:
        return self._cluster.objects.create(RESOURCE, manifest(name, **changes), self.namespace)

    def get(self, name: str = "chat") -> dict[str, Any]:
        return self._cluster.objects.get(RESOURCE, name, self.namespace)

    def patch(self, body: dict[str, Any], name: str = "chat") -> dict[str, Any]:
        return self._cluster.objects.patch(RESOURCE, name, body, self.namespace)

    def delete(self, name: str = "chat") -> None:
        self._cluster.objects.delete(RESOURCE, name, self.namespace)

    def conditions(self, name: str = "chat") -> dict[str, dict[str, Any]]:
        stored = self.get(name).get("status", {}).get("conditions", [])
        return {condition["type"]: condition for condition in stored}

    def reasons(self, name: str = "chat") -> dict[str, tuple[str, str]]:
        return {kind: (one["status"], one["reason"]) for kind, one in self.conditions(name).items()}

    def wait(self, name: str = "chat", seconds: float = 30.0, **reasons: str) -> dict[str, dict[str, Any]]:
        """Return the conditions once those of these types have these reasons.

        Raises:
            AssertionError: They have not in time.
        """
        return wait_for(
            lambda: self.conditions(name),
            lambda found: all(found.get(kind, {}).get("reason") == reason for kind, reason in reasons.items()),
            f"{name} has not {reasons}",
            seconds,
        )


def wait_for(read: Callable[[], T], holds: Callable[[T], object], what: str, seconds: float = 30.0) -> T:
    """Return what is read once it is as wanted; the error shows what was read last."""
    deadline = time.monotonic() + seconds
    while not holds(found := read()):
        assert time.monotonic() < deadline, f"{what} after {seconds:g} s, but: {found}"
        time.sleep(0.05)
    return found
