"""Flapping pods, restarts, standbys, an API server that goes away: the status stays true and is not written in vain."""

import signal
import time
from collections.abc import Callable

import psutil
from tests.cluster.cluster import Cluster
from tests.cluster.control.operators import Operator
from tests.cluster.control.pods import add_pod, set_ready
from tests.cluster.control.policies import EXPERT, Policies, wait_for
from tests.cluster.control.routers import Router

ANNOTATIONS = {"pointsman.io/model": "llama"}
STORED = 'pointsman_operator_status_writes_total{result="stored"}'
ACTIVE = "pointsman_operator_active"
POLLS = 'pointsman_operator_router_polls_total{result="answered"}'


def test_fifty_flapping_pods_cost_about_one_write_a_second(
    cluster: Cluster, policies: Policies, routers: Callable[..., Router], operator: Callable[..., Operator]
) -> None:
    routers()
    running = operator()
    policies.create()
    pods = [f"expert-{number}" for number in range(50)]
    for number, name in enumerate(pods, start=1):
        add_pod(cluster, policies.namespace, name, EXPERT, f"10.9.1.{number}", ANNOTATIONS)
    wait_for(policies.get, lambda one: one.get("status", {}).get("experts", {}).get("summary") == "50/50", "not all")
    settled = wait_for(_version_twice(policies), lambda two: two[0] == two[1], "the status does not settle")[0]
    before, began = running.metric(STORED), time.monotonic()
    flips = 0
    for turn in range(20):
        for name in pods:
            set_ready(cluster, policies.namespace, name, ready=turn % 2 == 1)
            flips += 1
    seconds = time.monotonic() - began
    wait_for(policies.get, lambda one: one["status"]["experts"]["summary"] == "50/50", "the last state is not stored")
    writes = running.metric(STORED) - before
    print(f"{flips} flips in {seconds:.0f} s, {writes:.0f} writes")  # noqa: T201
    assert flips == 1_000
    assert 1 <= writes <= seconds + 6, f"{writes} writes in {seconds:.0f} s"
    assert policies.get()["metadata"]["resourceVersion"] != settled
    events = cluster.objects.list("events", policies.namespace)
    assert len(events) <= 20
    settled, again = wait_for(_version_twice(policies), lambda two: two[0] == two[1], "the status does not settle")
    assert settled == again


def _version_twice(policies: Policies) -> Callable[[], tuple[str, str]]:
    """Return a reader of the policy's version now and after several polls of the routers."""

    def read() -> tuple[str, str]:
        before = str(policies.get()["metadata"]["resourceVersion"])
        time.sleep(5.0)
        return before, str(policies.get()["metadata"]["resourceVersion"])

    return read


def test_a_restarted_operator_writes_nothing_that_is_stored_already(
    cluster: Cluster, policies: Policies, routers: Callable[..., Router], operator: Callable[..., Operator]
) -> None:
    routers()
    first = operator()
    policies.create()
    add_pod(cluster, policies.namespace, "expert", EXPERT, "10.9.0.1", ANNOTATIONS)
    policies.wait(ExpertsDiscovered="Found", Programmed="AllRouters")
    version = wait_for(_version_twice(policies), lambda two: two[0] == two[1], "the status does not settle")[0]
    began = time.monotonic()
    first.part.stop()
    assert time.monotonic() - began < 12
    second = operator()
    wait_for(lambda: second.metric(POLLS), lambda polls: polls >= 2, "the routers are not asked")
    assert policies.get()["metadata"]["resourceVersion"] == version
    policies.patch({"spec": {"objectives": {"timeToFirstTokenMilliseconds": 9}}})
    wait_for(policies.get, lambda one: one["status"]["observedGeneration"] == 2, "the new generation is not observed")


def test_a_standby_takes_over(
    policies: Policies, routers: Callable[..., Router], operator: Callable[..., Operator]
) -> None:
    routers()
    policies.create()
    first = operator()
    policies.wait(Programmed="AllRouters")
    second = operator()
    wait_for(lambda: (first.metric(ACTIVE), second.metric(ACTIVE)), lambda both: both == (1, 0), "both are active")
    policies.patch({"spec": {"objectives": {"timeToFirstTokenMilliseconds": 9}}})
    wait_for(policies.get, lambda one: one["status"]["observedGeneration"] == 2, "the new generation is not observed")
    assert second.metric(STORED) == 0
    first.part.stop()
    wait_for(lambda: second.metric(ACTIVE), lambda active: active == 1, "the standby stays passive")
    policies.patch({"spec": {"objectives": {"timeToFirstTokenMilliseconds": 10}}})
    wait_for(policies.get, lambda one: one["status"]["observedGeneration"] == 3, "the new generation is not observed")
    third = operator()
    second.part.stop(signal.SIGKILL)
    wait_for(lambda: third.metric(ACTIVE), lambda active: active == 1, "nobody notices the death", 60)
    policies.patch({"spec": {"objectives": {"timeToFirstTokenMilliseconds": 11}}})
    wait_for(policies.get, lambda one: one["status"]["observedGeneration"] == 4, "the new generation is not observed")


def test_the_operator_outlives_the_api_server(
    cluster: Cluster, policies: Policies, routers: Callable[..., Router], operator: Callable[..., Operator]
) -> None:
    routers()
    running = operator()
    policies.create()
    policies.wait(Programmed="AllRouters")
    pid = psutil.Process(running.part.pid)
    cluster.control_plane.api_server.stop()
    time.sleep(10)
    cluster.control_plane.api_server.start()
    wait_for(lambda: _answers(policies), bool, "the API server does not serve the policies", 60)
    policies.patch({"spec": {"objectives": {"timeToFirstTokenMilliseconds": 9}}})
    wait_for(policies.get, lambda one: one["status"]["observedGeneration"] == 2, "the operator is not back", 60)
    assert running.ready()
    assert pid.is_running()


def _answers(policies: Policies) -> bool:
    try:
        policies.get()
    except Exception:
        return False
    return True


def test_idle_costs_next_to_nothing(
    cluster: Cluster, policies: Policies, routers: Callable[..., Router], operator: Callable[..., Operator]
) -> None:
    for _ in range(2):
        routers()
    running = operator()
    policies.create()
    for number in range(1, 21):
        add_pod(cluster, policies.namespace, f"expert-{number}", EXPERT, f"10.9.2.{number}", ANNOTATIONS)
    wait_for(policies.get, lambda one: one.get("status", {}).get("experts", {}).get("summary") == "20/20", "not all")
    wait_for(_version_twice(policies), lambda two: two[0] == two[1], "the status does not settle")
    process = psutil.Process(running.part.pid)
    polls = running.metric(POLLS)
    before, began = process.cpu_times(), time.monotonic()
    time.sleep(20)
    after = process.cpu_times()
    assert running.metric(POLLS) - polls > 6, "it is not idle but asleep"
    cores = (after.user + after.system - before.user - before.system) / (time.monotonic() - began)
    resident = process.memory_info().rss / 2**20
    print(f"{cores:.3f} cores, {resident:.0f} MiB")  # noqa: T201
    assert cores < 0.05
    assert resident < 150


def test_some_namespaces_need_no_rights_beyond_them(
    cluster: Cluster, policies: Policies, routers: Callable[..., Router], operator: Callable[..., Operator]
) -> None:
    namespace, account = policies.namespace, f"narrow-{policies.namespace}"
    cluster.objects.create("serviceaccounts", {"metadata": {"name": account}}, "pointsman")
    peering = {"apiVersion": "kopf.dev/v1", "kind": "KopfPeering", "metadata": {"name": "narrow"}}
    cluster.objects.create("kopf.dev/v1/kopfpeerings", peering, namespace)
    look = ["list", "watch"]
    _grant(cluster, "pointsman", account, [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}])
    _grant(
        cluster,
        namespace,
        account,
        [
            {"apiGroups": ["pointsman.io"], "resources": ["routerpolicies"], "verbs": look},
            {"apiGroups": ["pointsman.io"], "resources": ["routerpolicies/status"], "verbs": ["patch"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": look},
            {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
            {"apiGroups": ["kopf.dev"], "resources": ["kopfpeerings"], "verbs": [*look, "get", "patch"]},
        ],
    )
    routers()
    kubeconfig = cluster.service_account_kubeconfig("pointsman", account)
    running = operator("--namespace", namespace, kubeconfig=kubeconfig, peering="narrow")
    policies.create()
    add_pod(cluster, namespace, "expert", EXPERT, "10.9.0.1", ANNOTATIONS)
    policies.wait(Accepted="Valid", ExpertsDiscovered="Found", Programmed="AllRouters")
    wait_for(lambda: running.metric('pointsman_operator_events_total{result="posted"}'), bool, "no event is posted")
    assert running.metric('pointsman_operator_events_total{result="failed"}') == 0


def _grant(cluster: Cluster, namespace: str, account: str, rules: list[dict[str, list[str]]]) -> None:
    kind = "rbac.authorization.k8s.io/v1"
    cluster.objects.create(f"{kind}/roles", {"metadata": {"name": account}, "rules": rules}, namespace)
    binding = {
        "metadata": {"name": account},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "pointsman"}],
    }
    cluster.objects.create(f"{kind}/rolebindings", binding, namespace)
