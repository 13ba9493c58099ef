"""Who and what the story is about."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import grpc
import requests
from tests.cluster.cluster import Cluster
from tests.cluster.control.policies import Policies, wait_for
from tests.cluster.objects import Document, RefusedError
from tests.cluster.part import Part
from tests.e2e.clients import Clients, Ended
from tests.e2e.experts import Kind
from tests.e2e.release import Release

from pointsman.routing.v1 import routing_pb2

PATIENCE_SECONDS = 120.0
"""A process starts in seconds, where the machine has time for it."""


@dataclass
class Story:
    """A cluster with a release, a Prometheus, and whoever sends requests."""

    cluster: Cluster
    release: Release
    policies: Policies
    clients: Clients
    prometheus: Part
    prometheus_url: str
    nodes: dict[str, str]
    """Names of nodes by the names of the kinds of experts that run there."""
    values: dict[str, Any]
    """That the release was installed with."""

    @property
    def key(self) -> str:
        return f"{self.release.namespace}/chat"

    def experts(self, kind: Kind) -> list[Document]:
        """Return the pods of a kind of experts that are not on their way out."""
        pods = self.cluster.objects.list("pods", self.release.namespace, labelSelector=f"app={kind.name}")
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def addresses(self, kind: Kind) -> set[str]:
        return {f"{pod['status']['podIP']}:8000" for pod in self.experts(kind) if pod["status"].get("podIP")}

    def until_experts(self, summary: str, message: str) -> None:
        """Wait for the status to count experts, and to say of them what it should."""
        wait_for(
            lambda: (self.policies.get().get("status", {}), self.policies.conditions().get("ExpertsDiscovered", {})),
            lambda told: (
                told[0].get("experts", {}).get("summary") == summary
                and told[1]["status"] == "True"
                and str(told[1]["message"]).startswith(message)
            ),
            f"the status does not say {summary}, {message}",
            PATIENCE_SECONDS,
        )

    def until_in_effect(self, generation: int, routers: str = "All 2 routers run this generation.") -> None:
        """Wait until the status says that all routers run a generation."""

        def told() -> dict[str, Any]:
            try:
                return self.policies.conditions().get("Programmed", {})
            except RefusedError as refused:
                return {"message": str(refused)}

        def holds(one: dict[str, Any]) -> bool:
            programmed = one.get("status") == "True" and one["message"] == routers
            return programmed and one["observedGeneration"] == generation

        wait_for(told, holds, f"generation {generation} is not in effect", PATIENCE_SECONDS)

    def change(self, time_to_first_token: int) -> None:
        """Change the policy, as soon as the API server serves it."""

        def stored() -> str:
            try:
                self.policies.patch({"spec": {"objectives": {"timeToFirstTokenMilliseconds": time_to_first_token}}})
            except RefusedError as refused:
                return str(refused)
            return ""

        wait_for(stored, lambda refusal: not refusal, "the policy is not stored", PATIENCE_SECONDS)

    def recorded(self) -> float:
        """Return how many outcomes the policy service has stored since it started; 0 while it does not answer."""
        (pod,) = self.release.pods("policy-service")
        try:
            text = requests.get(f"http://{pod['status']['podIP']}:9094/metrics", timeout=10).text
        except (KeyError, requests.RequestException):
            return 0.0
        series = 'pointsman_policy_records_total{result="stored"} '
        return next((float(line.removeprefix(series)) for line in text.splitlines() if line.startswith(series)), 0.0)

    def decision(self, decision_id: str) -> routing_pb2.GetDecisionResponse | None:
        """Return what the router that decided knows of it, None if all that know it are gone."""
        request = routing_pb2.GetDecisionRequest(decision_id=decision_id)
        for router in self.release.pods("router"):
            with self.release.routing(router["status"]["podIP"]) as stub:
                try:
                    found: routing_pb2.GetDecisionResponse = stub.GetDecision(request, timeout=10)
                except grpc.RpcError:
                    continue
                return found
        return None

    def served_by(self, ended: Ended) -> str:
        """Return "ip:port" of the expert that answered, once its router has heard of the end; empty = nobody knows."""

        def heard() -> routing_pb2.GetDecisionResponse | None:
            return self.decision(ended.decision_id)

        found = wait_for(heard, lambda one: one is None or one.HasField("outcome"), "no outcome is known")
        return found.outcome.endpoint if found is not None else ""

    def until_answered_by(self, addresses: Collection[str]) -> None:
        """Wait until each of these experts, and no other, has answered new requests."""
        answered = wait_for(
            lambda: {self.served_by(one) for one in self.clients.proceed()},
            lambda found: found == set(addresses),
            f"not (only) {addresses} answer",
            PATIENCE_SECONDS,
        )
        assert answered == set(addresses)
