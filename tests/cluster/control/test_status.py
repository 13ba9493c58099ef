"""What the status says is what is the case, as far as users and routers can tell."""

from collections.abc import Callable

from tests.cluster.cluster import Cluster
from tests.cluster.control.operators import Operator
from tests.cluster.control.pods import add_pod
from tests.cluster.control.policies import EXPERT, Policies, wait_for
from tests.cluster.control.routers import Router

ANNOTATIONS = {"pointsman.io/model": "llama"}


def test_a_policy_comes_into_effect(
    cluster: Cluster,
    policies: Policies,
    routers: Callable[..., Router],
    operator: Callable[..., Operator],
    kubectl: Callable[..., str],
) -> None:
    router = routers()
    operator()
    policies.create()
    policies.wait(Accepted="Valid", ExpertsDiscovered="NoPods", MetricsFresh="Fresh", Programmed="AllRouters")
    for number in (1, 2):
        add_pod(cluster, policies.namespace, f"expert-{number}", EXPERT, f"10.9.0.{number}", ANNOTATIONS)
    wait_for(
        lambda: policies.wait(ExpertsDiscovered="Found")["ExpertsDiscovered"]["message"],
        lambda message: message == "2 of 2 experts are ready.",
        "the second expert is not found",
    )
    stored = policies.get()
    assert stored["status"]["observedGeneration"] == stored["metadata"]["generation"] == 1
    assert stored["status"]["experts"] == {"ready": 2, "total": 2, "summary": "2/2"}
    assert "finalizers" not in stored["metadata"]
    assert "annotations" not in stored["metadata"]
    shown = kubectl("get", "rp", "-n", policies.namespace)
    header, line = shown.splitlines()
    assert header.split() == ["NAME", "PICKER", "ACTIVE", "EXPERTS", "FRESH", "SLO", "AGE"]
    assert line.split()[:5] == ["chat", "HanActor", "built-in", "2/2", "True"]

    key = f"{policies.namespace}/chat"
    router.states[key] = {"answered_request_count": 1_000, "met_objective_count": 999}
    wait_for(policies.get, lambda one: one["status"].get("sloAttainmentPercent") == 99, "the SLO is not shown")


def test_a_new_generation_is_programmed_once_every_router_runs_it(
    policies: Policies, routers: Callable[..., Router], operator: Callable[..., Operator]
) -> None:
    slow, _ = routers(), routers()
    policies.create()
    operator()
    policies.wait(Programmed="AllRouters")
    key = f"{policies.namespace}/chat"
    slow.states[key] = {"generation": 1}
    policies.patch({"spec": {"objectives": {"timeToFirstTokenMilliseconds": 3000}}})
    behind = f"Not yet run by {slow.name} (runs generation 1 of 2)."
    found = wait_for(
        lambda: policies.conditions()["Programmed"],
        lambda one: (one["status"], one["message"], one["observedGeneration"]) == ("False", behind, 2),
        "the slow router is not named",
    )
    assert found["reason"] == "Pending"
    slow.states[key] = {"problem": "spec.picker.name: no picker is called 'X'"}
    assert slow.name in policies.wait(Programmed="Refused")["Programmed"]["message"]
    slow.states.clear()
    slow.silent.set()
    assert slow.name in policies.wait(Programmed="RoutersNotAnswering")["Programmed"]["message"]
    slow.set_ready(ready=False)
    policies.wait(Programmed="AllRouters")
    assert policies.get()["status"]["routers"] == {"programmed": 1, "ready": 1}


def test_a_wrong_policy_says_so_and_harms_no_other(
    cluster: Cluster, policies: Policies, routers: Callable[..., Router], operator: Callable[..., Operator]
) -> None:
    routers()
    policies.create("wrong", spec__picker={"name": "Unheard"})
    policies.create("older", spec__modelName="model-right")
    policies.create("right")
    operator()
    policies.wait("right", Accepted="ModelNameTaken")
    message = policies.wait("wrong", Accepted="InvalidSpec", Programmed="NotAccepted")["Accepted"]["message"]
    assert message.startswith("spec.picker.name: no picker is called 'Unheard'")
    policies.delete("older")
    policies.wait("right", Accepted="Valid", Programmed="AllRouters")
    events = wait_for(
        lambda: cluster.objects.list("events", policies.namespace),
        lambda found: any(one["reason"] == "InvalidSpec" for one in found),
        "no event tells of the wrong policy",
    )
    told = {(one["involvedObject"]["name"], one["type"]) for one in events if one["reason"] == "InvalidSpec"}
    assert told == {("wrong", "Warning")}


def test_a_wrong_pod_is_named(
    cluster: Cluster, policies: Policies, routers: Callable[..., Router], operator: Callable[..., Operator]
) -> None:
    routers()
    operator()
    policies.create()
    add_pod(cluster, policies.namespace, "good", EXPERT, "10.9.0.1", ANNOTATIONS)
    add_pod(cluster, policies.namespace, "odd", EXPERT, "10.9.0.2", ANNOTATIONS | {"pointsman.io/port": "http"})
    message = policies.wait(ExpertsDiscovered="SomePodsInvalid")["ExpertsDiscovered"]["message"]
    assert message.startswith("1 of 2 experts are ready; left out pod odd annotation pointsman.io/port must be")


def test_without_routers_the_status_says_where_they_are_looked_for(
    policies: Policies, operator: Callable[..., Operator]
) -> None:
    operator()
    policies.create()
    message = policies.wait(Programmed="NoRouters", MetricsFresh="NoRouterReports")["Programmed"]["message"]
    assert "pods of namespace pointsman with the labels app.kubernetes.io/component=router" in message
