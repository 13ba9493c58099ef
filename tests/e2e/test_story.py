"""What a user does and sees, from `helm install` to `helm uninstall`, on a real API server and with the chart's rights.

Clients stream answers all the time. What happens to the cluster meanwhile costs none of them an answer, but those that
a killed expert was giving: nobody else has these.
"""

import ipaddress
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from helm_python import Config
from tests.cluster.cluster import Cluster
from tests.cluster.control.policies import Policies, wait_for
from tests.cluster.process_kubelet import ProcessKubelet
from tests.e2e.clients import DECISION_HEADER, Clients, Ended
from tests.e2e.experts import GPU_LABEL, KINDS, LARGE, MEDIUM, MODEL_NAME, policy
from tests.e2e.prometheus import running_prometheus
from tests.e2e.release import CHART, CRDS, DEFINITIONS, NAME, KubectlError, Release, is_ready, process_id
from tests.e2e.story import PATIENCE_SECONDS, Story
from tests.integration.stack.processes import eventually

from pointsman.routing.v1 import routing_pb2

logger = logging.getLogger(__name__)

CLIENTS = 3
ROUTER = {"replicas": 2, "tls": {"enabled": True}, "drain": {"noticeSeconds": 1, "graceSeconds": 60}}
OPERATOR = {"replicas": 2}
GATEWAY = {"concurrency": 1, "decisionTimeoutMilliseconds": 5000}
"""The machine may be busy; a decision that is late would be the gateway's own."""
POLICY_SERVICE = {"enabled": True, "tls": {"enabled": True}}
VALUES: dict[str, Any] = {"router": ROUTER, "operator": OPERATOR, "gateway": GATEWAY}
CLAIM = f"{NAME}-policy-service"


@pytest.fixture
def definitions_are_removed(cluster: Cluster) -> Iterator[None]:
    """Helm takes no definitions that others made, and keeps its own when a release goes: none before, none after."""
    _remove_definitions(cluster)
    yield
    _remove_definitions(cluster)


def _remove_definitions(cluster: Cluster) -> None:
    for name in DEFINITIONS:
        cluster.objects.delete(CRDS, name)
    eventually(lambda: not any(cluster.objects.find(CRDS, name) for name in DEFINITIONS), "definitions stay")


@pytest.fixture
def story(
    cluster: Cluster,
    kubelet: ProcessKubelet,
    namespace: str,
    nodes: Callable[..., str],
    definitions_are_removed: None,
    tmp_path: Path,
) -> Iterator[Story]:
    names = {kind.name: nodes({GPU_LABEL: kind.gpu}) for kind in KINDS}
    with (
        _volume(cluster, namespace),
        running_prometheus(cluster, namespace, tmp_path) as (prometheus, prometheus_url),
        Config(kubeconfig_path=cluster.kubeconfig, namespace=namespace) as helm,
    ):
        release = Release(helm, cluster.objects, namespace, cluster.kubeconfig)
        values = VALUES | {"policyService": POLICY_SERVICE | {"clusterIP": _free_address(cluster)}}
        helm.install(CHART, NAME, values)
        clients = Clients(release.url, MODEL_NAME)
        policies = Policies(cluster, namespace)
        yield Story(cluster, release, policies, clients, prometheus, prometheus_url, names, values)
        clients.stop()
        helm.uninstall(NAME, ignore_not_found=True)


@contextmanager
def _volume(cluster: Cluster, namespace: str) -> Iterator[None]:
    """Have a volume for the policy service, as a provisioner would make it."""
    name = f"volume-{namespace}"
    spec = {
        "capacity": {"storage": "100Gi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/nowhere"},
        "claimRef": {"namespace": namespace, "name": CLAIM},
    }
    cluster.objects.create("persistentvolumes", {"metadata": {"name": name}, "spec": spec})
    yield
    cluster.objects.delete("persistentvolumes", name)


def _free_address(cluster: Cluster) -> str:
    """Return an address for a Service: without DNS, clients must know it beforehand."""
    network = ipaddress.ip_network(cluster.control_plane.addresses.services)
    taken = {one["spec"].get("clusterIP") for one in cluster.objects.list("services")}
    return next(str(one) for one in reversed(list(network.hosts())) if str(one) not in taken)


def test_a_user_installs_routes_breaks_upgrades_and_uninstalls(story: Story) -> None:
    for step in (
        _helm_installs_the_chart,
        _nobody_has_more_rights_than_needed,
        _experts_and_a_policy_come_into_effect,
        _a_wrong_change_is_refused,
        _grpc_names_the_best_expert,
        _the_gateway_has_it_answer,
    ):
        _tell(step, story)
    story.clients.start(CLIENTS)
    for step in (
        _outcomes_reach_the_policy_service,
        _the_policy_service_is_killed,
        _experts_are_scaled_up_and_down,
        _a_node_is_cordoned_and_its_pod_evicted,
        _prometheus_goes_and_comes_back,
        _the_api_server_goes_and_comes_back,
        _the_active_operator_is_killed,
        _the_routers_are_rolled,
        _helm_upgrades_the_release,
    ):
        _tell(step, story)
        assert story.clients.failures == [], step.__name__
    _tell(_an_expert_is_killed, story)
    story.clients.stop()
    assert [one for one in story.clients.answers if not one.decision_id] == [], "no router decided on these"
    _tell(_helm_uninstalls_the_release, story)


def _tell(step: Callable[[Story], None], story: Story) -> None:
    began = time.monotonic()
    step(story)
    seconds, answers = time.monotonic() - began, story.clients.answers
    undecided = sum(not one.decision_id for one in answers)
    logger.info("%s: %.1f s; %d answers, %d undecided", step.__name__.strip("_"), seconds, len(answers), undecided)


def _helm_installs_the_chart(story: Story) -> None:
    operators = story.release.until_ready("operator", 2)
    story.release.until_ready("router", 2)
    story.release.until_ready("policy-service", 1)
    assert {one["restartCount"] for pod in operators for one in pod["status"]["containerStatuses"]} == {0}
    assert "0 policies" in story.release.helm.test(NAME, timeout=120, logs=True)["logs"]


def _nobody_has_more_rights_than_needed(story: Story) -> None:
    release = story.release
    accounts = {pod["spec"]["serviceAccountName"] for part in ("router", "operator") for pod in release.pods(part)}
    assert accounts == {f"{NAME}-router", f"{NAME}-operator"}
    for account in accounts:
        user = f"system:serviceaccount:{release.namespace}:{account}"
        for verb, group, resource in (("list", "", "pods"), ("watch", "pointsman.io", "routerpolicies")):
            assert _may(release, user, verb, group, resource), (account, verb, resource)
        for verb, group, resource in (
            ("*", "*", "*"),
            ("get", "", "secrets"),
            ("create", "", "pods"),
            ("update", "pointsman.io", "routerpolicies"),
        ):
            assert not _may(release, user, verb, group, resource), (account, verb, resource)
    (pod,) = release.pods("policy-service")
    user = f"system:serviceaccount:{release.namespace}:{pod['spec']['serviceAccountName']}"
    assert not _may(release, user, "list", "", "pods")
    assert pod["spec"]["automountServiceAccountToken"] is False


def _may(release: Release, user: str, verb: str, group: str, resource: str) -> bool:
    """Tell whether somebody may do something in the release's namespace."""
    attributes = {"verb": verb, "group": group, "resource": resource, "namespace": release.namespace}
    review = {"spec": {"user": user, "resourceAttributes": attributes}}
    answer = release.objects.create("authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


def _experts_and_a_policy_come_into_effect(story: Story) -> None:
    kubectl = story.release.kubectl
    documents = [kind.deployment() for kind in KINDS] + [policy(story.prometheus_url)]
    told = kubectl("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}))
    assert told.count("created") == len(documents)
    for condition in ("Accepted", "ExpertsDiscovered", "MetricsFresh", "Programmed"):
        kubectl("wait", f"--for=condition={condition}", "--timeout=300s", "routerpolicy/chat")
    story.until_experts("3/3", "3 of 3 experts are ready.")
    story.until_in_effect(1)
    story.policies.wait(Accepted="Valid", MetricsFresh="Fresh", seconds=PATIENCE_SECONDS)
    header, line = kubectl("get", "rp").splitlines()
    assert header.split() == ["NAME", "PICKER", "ACTIVE", "EXPERTS", "FRESH", "SLO", "AGE"]
    assert line.split()[:5] == ["chat", "SloFilteredQuality", "built-in", "3/3", "True"]


def _a_wrong_change_is_refused(story: Story) -> None:
    with pytest.raises(KubectlError, match=r"spec\.picker\.name: no picker is called 'Nonsense'"):
        story.release.kubectl(
            "patch", "rp", "chat", "--type=merge", "--patch", '{"spec": {"picker": {"name": "Nonsense"}}}'
        )


def _grpc_names_the_best_expert(story: Story) -> None:
    with story.release.routing() as stub:
        decision = stub.Route(routing_pb2.RouteRequest(model=MODEL_NAME, prompt="Where to?"), timeout=30)
        assert {decision.endpoints[0].endpoint} == story.addresses(LARGE)
        assert decision.endpoints[0].quality > decision.endpoints[-1].quality
        wait_for(  # the status speaks of what the operator sees, a moment before or after a router
            lambda: stub.ListExperts(routing_pb2.ListExpertsRequest(model=MODEL_NAME), timeout=30).experts,
            lambda experts: sorted(one.gpu for one in experts) == ["A100-SXM-80G", "L4", "L40S"],
            "a router does not know all experts",
            PATIENCE_SECONDS,
        )
    assert decision.policy == story.key


def _the_gateway_has_it_answer(story: Story) -> None:
    body = {"model": MODEL_NAME, "max_tokens": 5, "messages": [{"role": "user", "content": "Where to?"}]}
    answer = requests.post(f"{story.release.url}/v1/chat/completions", json=body, timeout=60)
    assert answer.ok, answer.text
    assert answer.json()["choices"][0]["message"]["content"]
    assert {story.served_by(Ended(answer.headers[DECISION_HEADER], ""))} == story.addresses(LARGE)


def _outcomes_reach_the_policy_service(story: Story) -> None:
    wait_for(story.recorded, lambda count: count >= 8, "no outcome is stored", PATIENCE_SECONDS)
    promoted = story.policies.wait(PolicyPromoted="NoCandidate", seconds=PATIENCE_SECONDS)["PolicyPromoted"]
    assert promoted["message"].endswith("Routers run the packaged policy.")


def _the_policy_service_is_killed(story: Story) -> None:
    (pod,) = story.release.pods("policy-service")
    os.kill(process_id(pod, "policy-service"), signal.SIGKILL)
    story.policies.wait(PolicyPromoted="PolicyServiceUnreachable", seconds=PATIENCE_SECONDS)
    story.clients.proceed()
    story.policies.wait(PolicyPromoted="NoCandidate", seconds=PATIENCE_SECONDS)
    wait_for(story.recorded, bool, "no outcome is stored afterwards", PATIENCE_SECONDS)


def _experts_are_scaled_up_and_down(story: Story) -> None:
    story.until_answered_by(story.addresses(LARGE))
    story.release.kubectl("scale", "deployment/large", "--replicas=2")
    story.until_experts("4/4", "4 of 4 experts are ready.")
    both = story.addresses(LARGE)
    assert len(both) == 2
    story.until_answered_by(both)
    story.release.kubectl("scale", "deployment/large", "--replicas=1")
    story.until_experts("3/3", "3 of 3 experts are ready.")
    story.until_answered_by(story.addresses(LARGE))


def _a_node_is_cordoned_and_its_pod_evicted(story: Story) -> None:
    node, kubectl = story.nodes[LARGE.name], story.release.kubectl
    (pod,) = story.experts(LARGE)
    kubectl("cordon", node)
    kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
    story.until_experts("2/3", "2 of 3 experts are ready; not ready large-")
    story.until_answered_by(story.addresses(MEDIUM))
    (waiting,) = story.experts(LARGE)
    assert waiting["status"]["phase"] == "Pending"
    kubectl("uncordon", node)
    story.until_experts("3/3", "3 of 3 experts are ready.")
    story.until_answered_by(story.addresses(LARGE))


def _prometheus_goes_and_comes_back(story: Story) -> None:
    story.prometheus.stop(signal.SIGKILL)
    told = story.policies.wait(MetricsFresh="ReadAnotherWay", seconds=PATIENCE_SECONDS)["MetricsFresh"]
    assert "Prometheus" in told["message"]
    assert "the experts are read directly meanwhile" in told["message"]
    story.until_answered_by(story.addresses(LARGE))
    story.prometheus.start()
    story.policies.wait(MetricsFresh="Fresh", seconds=PATIENCE_SECONDS)


def _the_api_server_goes_and_comes_back(story: Story) -> None:
    before = story.addresses(LARGE)
    story.cluster.control_plane.api_server.stop()
    story.clients.proceed(10)
    story.cluster.control_plane.api_server.start()
    story.change(4000)
    story.until_in_effect(2)
    story.until_answered_by(before)


def _the_active_operator_is_killed(story: Story) -> None:
    # The API server was away a moment ago; until they have met there again, both may take themselves for active.
    eventually(lambda: len(_active_operators(story)) == 1, "not exactly one operator is active")
    (active,) = _active_operators(story)
    os.kill(process_id(active, "operator"), signal.SIGKILL)
    story.change(3000)
    story.until_in_effect(3)
    story.release.until_ready("operator", 2)
    name = active["metadata"]["name"]
    (again,) = [pod for pod in story.release.pods("operator") if pod["metadata"]["name"] == name]
    assert again["status"]["containerStatuses"][0]["restartCount"] == 1


def _active_operators(story: Story) -> list[dict[str, Any]]:
    return [pod for pod in story.release.pods("operator") if _is_active(pod["status"]["podIP"])]


def _is_active(address: str) -> bool:
    metrics = requests.get(f"http://{address}:8080/metrics", timeout=10).text
    return "\npointsman_operator_active 1.0\n" in metrics


def _the_routers_are_rolled(story: Story) -> None:
    before = {pod["metadata"]["uid"] for pod in story.release.pods("router")}
    story.release.kubectl("rollout", "restart", f"deployment/{NAME}-router")
    story.release.kubectl("rollout", "status", f"deployment/{NAME}-router", "--timeout=400s")
    pods = story.release.until_ready("router", 2)
    assert not before & {pod["metadata"]["uid"] for pod in pods}
    story.until_in_effect(3)
    story.until_answered_by(story.addresses(LARGE))


def _helm_upgrades_the_release(story: Story) -> None:
    release = story.release
    authority, webhook = release.secret("ca"), release.secret("webhook-tls")
    changed = {
        "router": ROUTER | {"replicas": 1},
        "operator": OPERATOR | {"podAnnotations": {"example.org/version": "2"}},
    }
    release.helm.upgrade(CHART, NAME, story.values | changed)
    release.until_ready("router", 1)
    release.until_ready("operator", 2, "2")
    assert release.secret("ca") == authority
    renewed = release.secret("webhook-tls")
    assert renewed["ca.crt"] == authority["tls.crt"]
    serials = [x509.load_pem_x509_certificate(one["tls.crt"]).serial_number for one in (webhook, renewed)]
    assert serials[0] != serials[1]
    story.until_in_effect(3, "The only router runs this generation.")
    told = release.helm.test(NAME, timeout=120, logs=True)["logs"]
    assert told.count("1 policies") == 2, "the router's, and the policy service's"


def _an_expert_is_killed(story: Story) -> None:
    (victim,) = story.experts(LARGE)
    address = f"{victim['status']['podIP']}:8000"
    os.kill(process_id(victim, "expert"), signal.SIGKILL)
    name = victim["metadata"]["name"]
    story.until_experts("2/3", f"2 of 3 experts are ready; not ready {name}.")
    story.clients.proceed()
    story.until_experts("3/3", "3 of 3 experts are ready.")
    story.until_answered_by({address})
    (again,) = story.experts(LARGE)
    assert again["metadata"]["uid"] == victim["metadata"]["uid"]
    assert again["status"]["containerStatuses"][0]["restartCount"] == 1
    assert is_ready(again)
    cut = story.clients.failures
    assert len(cut) <= CLIENTS
    assert {story.served_by(one) for one in cut} <= {address}


def _helm_uninstalls_the_release(story: Story) -> None:
    release = story.release
    release.helm.uninstall(NAME)
    wait_for(release.left, lambda left: not left, "not everything goes", PATIENCE_SECONDS)
    for name in DEFINITIONS:
        assert release.objects.find(CRDS, name), name
    assert release.objects.find("persistentvolumeclaims", CLAIM, release.namespace), "outcomes go with the release"
    assert story.policies.get()["spec"]["modelName"] == MODEL_NAME
