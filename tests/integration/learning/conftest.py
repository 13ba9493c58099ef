"""A router and a policy service as processes, and no experts: decisions are asked for and reported by gRPC."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
import yaml
from tests.integration.stack.processes import Process, answers, eventually, free_port

from pointsman.policy.v1 import policy_pb2 as learning_pb
from pointsman.policy.v1.policy_pb2_grpc import PolicyServiceStub
from pointsman.routing.v1 import routing_pb2 as pb
from pointsman.routing.v1.routing_pb2_grpc import RoutingServiceStub
from pointsman_policy.registry.calibration import Calibration, ModelCalibration
from pointsman_policy.registry.registry import Registry
from pointsman_policy.registry.version import PolicyVersion, write_version
from pointsman_policy.runtime.exported import ARTEFACTS, read_exported_policy

POLICY = "default/chat"
MODEL = "edge-chat"
LABELS = {"pointsman.io/test": "learning"}


@dataclass
class Site:
    """One router and one policy service."""

    folder: Path
    target: str
    admin_url: str
    service_target: str
    parts: dict[str, Process] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / "policy-service"

    def start(self, *names: str) -> None:
        for name in names:
            self.parts[name].launch()
        for name in names:
            self.parts[name].wait_until_ready()

    def route(self, request_id: str = "") -> pb.RouteResponse:
        with grpc.insecure_channel(self.target) as channel:
            stub = RoutingServiceStub(channel)  # type: ignore[no-untyped-call]
            response: pb.RouteResponse = stub.Route(
                pb.RouteRequest(model=MODEL, prompt="Where to?", request_id=request_id), timeout=30
            )
        return response

    def serve(self, count: int) -> list[pb.RouteResponse]:
        """Ask for decisions, and report that all went well."""
        made = []
        with grpc.insecure_channel(self.target) as channel:
            stub = RoutingServiceStub(channel)  # type: ignore[no-untyped-call]
            for number in range(count):
                request = pb.RouteRequest(model=MODEL, prompt=f"Where to, number {number}?", request_id=f"r-{number}")
                made.append(stub.Route(request, timeout=30))
                stub.ReportOutcome(
                    pb.ReportOutcomeRequest(
                        decision_id=made[-1].decision_id,
                        status=pb.OUTCOME_STATUS_COMPLETED,
                        ttft_seconds=0.2,
                        duration_seconds=1.0,
                        output_token_count=50,
                    ),
                    timeout=30,
                )
        return made

    def rollout(self) -> learning_pb.RolloutReport:
        with self.service() as stub:
            response = stub.ListRollouts(learning_pb.ListRolloutsRequest(policies=[POLICY]), timeout=30)
        (report,) = response.rollouts
        found: learning_pb.RolloutReport = report
        return found

    def promote(self, version: str, stage: learning_pb.Stage) -> None:
        with self.service() as stub:
            stub.Promote(
                learning_pb.PromoteRequest(policy=POLICY, version=version, force=True, stage=stage), timeout=30
            )

    def add_version(self, best: str) -> str:
        """Put a version into the registry that takes one of the experts' models for the best by far."""
        models = {
            name: ModelCalibration(quality=0.95 if name == best else 0.05, labels=99, outcomes=99)
            for name in ("model-a", "model-b")
        }
        exported = read_exported_policy(ARTEFACTS / "impact-greedy")
        version = PolicyVersion(POLICY, 1.7e9, "", 99, exported, Calibration(models=models))
        made = self.folder / f"version-{best}"
        written = write_version(made, version)
        Registry(self.root).add(POLICY, made)
        return written.version

    def state(self) -> dict[str, Any]:
        document: dict[str, Any] = requests.get(f"{self.admin_url}/debug/state", timeout=10).json()
        return document

    def decides(self, version: str) -> None:
        eventually(lambda: self.route().policy_version == version, f"version {version!r} does not decide")

    @contextmanager
    def service(self) -> Iterator[PolicyServiceStub]:
        with grpc.insecure_channel(self.service_target) as channel:
            yield PolicyServiceStub(channel)  # type: ignore[no-untyped-call]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    admin, service_admin = free_port(), free_port()
    made = Site(tmp_path, f"127.0.0.1:{free_port()}", f"http://127.0.0.1:{admin}", f"127.0.0.1:{free_port()}")
    _write(tmp_path)
    router = (
        *("router", "--policy", tmp_path / "policies.yaml", "--experts", tmp_path / "experts.yaml"),
        *("--listen", made.target, "--admin-port", admin, "--seed", 1, "--drain-notice", 0, "--drain-grace", 1),
        *("--policy-service", made.service_target, "--state-dir", tmp_path / "state"),
    )
    service = (
        *("policy", "--root", made.root, "--listen", made.service_target, "--admin-port", service_admin),
        *("--policy", tmp_path / "policies.yaml"),
    )
    made.parts = {
        "router": Process(_command(*router), lambda: answers(f"{made.admin_url}/readyz"), tmp_path / "router.log"),
        "service": Process(
            _command(*service), lambda: answers(f"http://127.0.0.1:{service_admin}/readyz"), tmp_path / "service.log"
        ),
    }
    yield made
    for part in made.parts.values():
        part.stop()


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "pointsman_operator.cli", *map(str, arguments)]


def _write(folder: Path) -> None:
    policy = {
        "apiVersion": "pointsman.io/v1alpha1",
        "kind": "RouterPolicy",
        "metadata": {"name": "chat"},
        "spec": {
            "modelName": MODEL,
            "experts": {"selector": {"matchLabels": LABELS}},
            "picker": {"name": "ImpactGreedy", "fallback": []},
            "telemetry": {"source": "DirectScrape"},
            "rollout": {"mode": "Manual"},
        },
    }
    (folder / "policies.yaml").write_text(yaml.safe_dump(policy))
    experts = [
        {
            "name": name,
            "endpoint": f"127.0.0.1:{free_port()}",
            "model": f"model-{name}",
            "servedModelNames": [MODEL],
            "labels": LABELS,
            "qualityPriorPercent": quality,
        }
        for name, quality in (("a", 80), ("b", 40))
    ]
    (folder / "experts.yaml").write_text(yaml.safe_dump({"experts": experts}))
