"""Policies, experts and routers' reports for the tests of the control plane."""

import copy
from typing import Any

from pointsman_operator.control.reports import PolicyReport, RouterReport
from pointsman_operator.control.status import Subject
from pointsman_operator.control.validation import check
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.discovery.pods import Discovered
from pointsman_policy.experts import Expert

PICKERS = ("HanActor", "ImpactGreedy", "RoundRobin", "ShortestQueue")
WHERE = "namespace pointsman, labels app=router"
NOW = "2026-11-22T08:00:00Z"
LATER = "2026-11-22T09:00:00Z"

MANIFEST: dict[str, Any] = {
    "apiVersion": "pointsman.io/v1alpha1",
    "kind": "RouterPolicy",
    "metadata": {
        "name": "chat",
        "namespace": "edge",
        "uid": "u1",
        "generation": 2,
        "resourceVersion": "10",
        "creationTimestamp": "2026-11-01T00:00:00Z",
    },
    "spec": {
        "modelName": "edge-chat",
        "experts": {"selector": {"matchLabels": {"tier": "gpu", "app": "vllm"}}},
        "objectives": {"timeToFirstTokenMilliseconds": 2000},
        "telemetry": {"prometheusUrl": "http://prometheus:9090"},
    },
}


def manifest(**changes: Any) -> dict[str, Any]:
    """Return the policy with parts replaced, named like "spec__telemetry__source"."""
    made = copy.deepcopy(MANIFEST)
    for path, value in changes.items():
        *parents, last = path.split("__")
        part = made
        for parent in parents:
            part = part.setdefault(parent, {})
        part[last] = value
    return made


def subject(taken: str = "", discovered: Discovered | None = None, **changes: Any) -> Subject:
    made = manifest(**changes)
    metadata = made["metadata"]
    return Subject(
        metadata["uid"], metadata["generation"], check(made, PICKERS), taken, discovered or discovered_experts("a", "b")
    )


def discovered_experts(
    *ready: str, waiting: tuple[str, ...] = (), problems: dict[str, str] | None = None, pending: tuple[str, ...] = ()
) -> Discovered:
    endpoints = tuple(
        Endpoint(Expert(name=name, endpoint=f"10.0.0.{number}:8000", model="m", ready=name in ready), "edge")
        for number, name in enumerate((*ready, *waiting), start=1)
    )
    return Discovered(endpoints, pending, problems or {})


def report(router: str = "router-0", **changes: Any) -> RouterReport:
    """Return the report of a router on which all is well, but for the changes."""
    values: dict[str, Any] = {
        "uid": "u1",
        "generation": 2,
        "picker": "ImpactGreedy",
        "ready_expert_count": 2,
        "expert_count": 2,
        "fresh_expert_count": 2,
    }
    return RouterReport(router, {"edge/chat": PolicyReport(**values | changes)})
