"""A real policy service, and what the operator says of it."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from tests.cluster.control.operators import PROGRAM, Operator
from tests.cluster.control.policies import Policies, wait_for
from tests.cluster.control.routers import Router
from tests.cluster.part import Part
from tests.integration.stack.processes import free_port

from pointsman.policy.v1 import policy_pb2, policy_pb2_grpc
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.registry.registry import Registry
from pointsman_policy.registry.version import GateReport, PolicyVersion, write_gate, write_version
from pointsman_policy.runtime.exported import ARTEFACTS, read_exported_policy


@dataclass
class Service:
    """A policy service that knows one version of one policy."""

    part: Part
    address: str
    policy: str
    version: str
    digest: str

    def call(self, method: str, request: Any) -> Any:
        with grpc.insecure_channel(self.address) as channel:
            stub = policy_pb2_grpc.PolicyServiceStub(channel)  # type: ignore[no-untyped-call]
            return getattr(stub, method)(request, timeout=10)


@pytest.fixture
def service(policies: Policies, tmp_path: Path) -> Iterator[Service]:
    policy = f"{policies.namespace}/chat"
    exported = read_exported_policy(ARTEFACTS / "han")
    version = write_version(
        tmp_path / "made", PolicyVersion(policy, 1_800_000_000.0, "", 3_000, exported, Calibration(), {"seed": "1"})
    )
    gate = GateReport(
        passed=True,
        summary="beats both",
        candidate_qos=0.7,
        active_qos=0.6,
        rule_qos=0.65,
        gain_lower_bound=0.05,
        replay_agreement=0.9,
        scenarios=(),
    )
    write_gate(tmp_path / "made", gate)
    root = tmp_path / "root"
    Registry(root).add(policy, tmp_path / "made")
    write_gate(Registry(root).folder(policy, version.version), gate)
    port, admin = free_port(), free_port()
    command = [
        *(str(PROGRAM), "policy", "--root", str(root), "--listen", f"127.0.0.1:{port}"),
        *("--admin-port", str(admin)),
    ]
    part = Part("policy-service", command, lambda: _ready(admin), tmp_path / "policy-service.log")
    with ExitStack() as stack:
        stack.callback(part.stop)
        part.start()
        yield Service(part, f"127.0.0.1:{port}", policy, version.version, version.digest)


def _ready(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/readyz", timeout=5).ok
    except requests.RequestException:
        return False


def test_the_status_follows_a_version_from_shadow_to_its_withdrawal(
    policies: Policies,
    routers: Callable[..., Router],
    operator: Callable[..., Operator],
    kubectl: Callable[..., str],
    service: Service,
) -> None:
    router = routers()
    running = operator("--policy-service", service.address)
    policies.create(spec__rollout={"mode": "Manual", "canaryPercents": [10]})
    policies.wait(PolicyPromoted="NoCandidate", LatencyModelFits="TooFewOutcomes")
    assert running.metric("pointsman_operator_policy_service_connected") == 1.0

    service.call("Promote", policy_pb2.PromoteRequest(policy=service.policy, version=service.version))
    policies.wait(PolicyPromoted="Shadow")
    candidate = policies.get()["status"]["candidate"]
    assert (candidate["version"], candidate["digest"], candidate["stage"]) == (
        service.version,
        service.digest,
        "Shadow",
    )
    assert candidate["gate"]["candidateQosPermille"] == 700
    assert candidate["waitingFor"] == "a promotion, because rollout.mode is Manual"

    service.call("Promote", policy_pb2.PromoteRequest(policy=service.policy))
    policies.wait(PolicyPromoted="Canary")
    assert policies.get()["status"]["candidate"]["canary"]["percent"] == 10
    assert "Canary" in kubectl("get", "rp", "-n", policies.namespace, "-o", "wide")

    router.states[service.policy] = {"policy_version": service.version}
    service.call("Promote", policy_pb2.PromoteRequest(policy=service.policy))
    assert policies.wait(PolicyPromoted="Promoted")["PolicyPromoted"]["status"] == "True"
    status = wait_for(
        lambda: policies.get()["status"],
        lambda found: found["activePolicy"].get("digest") == service.digest,
        "the active version has no digest",
    )
    assert "candidate" not in status
    assert [entry["stage"] for entry in status["history"]] == ["Active", "Canary", "Shadow"]

    service.call("RollBack", policy_pb2.RollBackRequest(policy=service.policy, reason="answers are odd"))
    withdrawn = policies.wait(PolicyPromoted="RolledBack")["PolicyPromoted"]
    assert withdrawn["status"] == "False"
    assert withdrawn["message"] == (
        f"Version {service.version} was withdrawn: answers are odd. Routers run the packaged policy."
    )
    events = wait_for(
        lambda: _events(kubectl, policies.namespace),
        lambda found: {"VersionShadow", "VersionCanary", "VersionActive", "VersionRolledBack"} <= found.keys(),
        "not every step is an event",
    )
    assert events["VersionRolledBack"] == "Warning"


def _events(kubectl: Callable[..., str], namespace: str) -> dict[str, str]:
    found = json.loads(kubectl("get", "events", "-n", namespace, "-o", "json"))["items"]
    return {event["reason"]: event["type"] for event in found}


def test_a_policy_service_that_goes_is_told_of_and_changes_nothing_else(
    policies: Policies, routers: Callable[..., Router], operator: Callable[..., Operator], service: Service
) -> None:
    routers()
    policies.create(spec__rollout={"mode": "Manual"})
    running = operator("--policy-service", service.address)
    policies.wait(PolicyPromoted="NoCandidate")
    service.call("Promote", policy_pb2.PromoteRequest(policy=service.policy, version=service.version))
    policies.wait(PolicyPromoted="Shadow", Programmed="AllRouters")
    candidate = policies.get()["status"]["candidate"]

    service.part.stop()
    policies.wait(PolicyPromoted="PolicyServiceUnreachable", Programmed="AllRouters", Accepted="Valid")
    assert policies.get()["status"]["candidate"] == candidate
    assert running.metric("pointsman_operator_policy_service_connected") == 0.0

    service.part.start()
    policies.wait(PolicyPromoted="Shadow")
    assert policies.get()["status"]["candidate"] == candidate
