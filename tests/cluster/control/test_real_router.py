"""Operator and router, both real, agree on what runs."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from tests.cluster.cluster import Cluster
from tests.cluster.control.operators import NAMESPACE, PROGRAM, ROOT, Operator
from tests.cluster.control.pods import add_pod, set_ready
from tests.cluster.control.policies import EXPERT, Policies, wait_for
from tests.cluster.control.routers import LABELS
from tests.cluster.part import Part
from tests.integration.stack.processes import free_port

ANNOTATIONS = {"pointsman.io/model": "llama"}


@pytest.fixture
def real_router(
    cluster: Cluster, installed: None, kubectl: Callable[..., str], router_port: int, tmp_path: Path
) -> Iterator[str]:
    """Run a router with its own rights; returns the name of its pod."""
    kubectl("apply", "-f", str(ROOT / "manifests/rbac/router.yaml"))
    kubeconfig = cluster.service_account_kubeconfig(NAMESPACE, "pointsman-router")
    name, ip, admin = f"router-{secrets.token_hex(3)}", f"127.67.0.{secrets.randbelow(250) + 1}", free_port()
    command = ["env", f"KUBECONFIG={kubeconfig}", str(PROGRAM), "router", "--kubernetes"]
    command += ["--listen", f"{ip}:{router_port}", "--admin-port", str(admin)]

    def ready() -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{admin}/readyz", timeout=5).ok
        except requests.RequestException:
            return False

    part = Part(name, command, ready, tmp_path / "router.log")
    part.start(240)
    add_pod(cluster, NAMESPACE, name, LABELS, ip)
    yield name
    cluster.objects.delete("pods", name, NAMESPACE, gracePeriodSeconds=0)
    part.stop()


def test_the_status_tells_what_a_router_runs(
    cluster: Cluster, policies: Policies, real_router: str, operator: Callable[..., Operator]
) -> None:
    operator()
    policies.create(spec__telemetry={"source": "DirectScrape", "intervalMilliseconds": 200})
    for number in (1, 2):
        add_pod(cluster, policies.namespace, f"expert-{number}", EXPERT, f"127.68.0.{number}", ANNOTATIONS)
    policies.wait(Accepted="Valid", ExpertsDiscovered="Found", Programmed="AllRouters")
    stale = wait_for(policies.conditions, lambda found: found["MetricsFresh"]["status"] == "False", "load is believed")
    assert real_router in stale["MetricsFresh"]["message"]
    active = policies.get()["status"]["activePolicy"]
    assert active["version"] != "built-in"
    policies.patch({"spec": {"picker": {"name": "ShortestQueue"}}})
    wait_for(
        policies.conditions,
        lambda found: (found["Programmed"]["status"], found["Programmed"]["observedGeneration"]) == ("True", 2),
        "the new generation is not programmed",
    )
    assert policies.get()["status"]["activePolicy"]["version"] == "built-in"
    policies.patch({"spec": {"picker": {"name": "Unheard"}}})
    told = policies.wait(Accepted="InvalidSpec", Programmed="NotAccepted")["Programmed"]["message"]
    assert told.endswith("Routers go on with the last generation that was.")
    policies.patch({"spec": {"picker": {"name": "RoundRobin"}}})
    policies.wait(Accepted="Valid", Programmed="AllRouters")
    for number in (1, 2):
        set_ready(cluster, policies.namespace, f"expert-{number}", ready=False)
    policies.wait(ExpertsDiscovered="NoneReady", MetricsFresh="NoExperts", Programmed="AllRouters")
    policies.create("younger", spec__modelName="model-chat")
    policies.wait("younger", Accepted="ModelNameTaken", Programmed="AllRouters")
