"""The control plane is a real one: it schedules, enforces rights, and survives restarts of its parts."""

from collections.abc import Callable

import pytest
from kubernetes import client
from tests.cluster.cluster import Cluster
from tests.cluster.objects import RefusedError
from tests.integration.stack.processes import eventually

FORBIDDEN = 403


def test_a_pod_is_bound_to_the_node_whose_labels_it_selects(
    cluster: Cluster, namespace: str, nodes: Callable[..., str]
) -> None:
    nodes({"disk": "slow"})
    wanted = nodes({"disk": "fast"})
    spec = {"nodeSelector": {"disk": "fast"}, "containers": [{"name": "main", "image": "any"}]}
    cluster.objects.create("pods", {"metadata": {"name": "picky"}, "spec": spec}, namespace)
    bound = eventually_set(lambda: cluster.objects.get("pods", "picky", namespace)["spec"].get("nodeName"))
    assert bound == wanted


def eventually_set(read: Callable[[], str | None]) -> str:
    eventually(read, "the value is never set")
    value = read()
    assert value is not None
    return value


def test_a_service_account_may_do_what_its_role_grants_and_nothing_else(cluster: Cluster, namespace: str) -> None:
    cluster.objects.create("serviceaccounts", {"metadata": {"name": "reader"}}, namespace)
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    role = {"metadata": {"name": "reader"}, "rules": rules}
    cluster.objects.create("rbac.authorization.k8s.io/v1/roles", role, namespace)
    binding = {
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": namespace}],
    }
    cluster.objects.create("rbac.authorization.k8s.io/v1/rolebindings", binding, namespace)
    with cluster.service_account_objects(namespace, "reader") as objects:
        assert objects.list("pods", namespace) == []
        for resource, place in (("secrets", namespace), ("pods", "default"), ("pods", None)):
            with pytest.raises(RefusedError) as refused:
                objects.list(resource, place)
            assert refused.value.status == FORBIDDEN


def test_cluster_ips_are_loopback_addresses(cluster: Cluster, namespace: str) -> None:
    service = {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
    made = cluster.objects.create("services", service, namespace)
    assert made["spec"]["clusterIP"].startswith("127.")


def test_what_was_written_is_there_after_a_restart_of_every_part(cluster: Cluster, namespace: str) -> None:
    cluster.objects.create("configmaps", {"metadata": {"name": "kept"}, "data": {"key": "value"}}, namespace)
    for part in cluster.control_plane.parts:
        part.restart()
    assert cluster.objects.get("configmaps", "kept", namespace)["data"] == {"key": "value"}


def test_custom_resources_can_be_written(cluster: Cluster, namespace: str) -> None:
    group = f"{namespace}.example"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    definition = {
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": "Widget", "plural": "widgets"},
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    definitions = "apiextensions.k8s.io/v1/customresourcedefinitions"
    cluster.objects.create(definitions, definition)
    body = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "one"}, "spec": {"size": 3}}

    def written() -> bool:
        try:
            cluster.objects.create(f"{group}/v1/widgets", body, namespace)
        except RefusedError:
            return False
        return True

    eventually(written, "the new kind is not served")
    assert cluster.objects.get(f"{group}/v1/widgets", "one", namespace)["spec"] == {"size": 3}
    cluster.objects.delete(definitions, f"widgets.{group}")


def test_the_clients_of_the_kubernetes_package_work_with_the_kubeconfig(cluster: Cluster, namespace: str) -> None:
    names = [one.metadata.name for one in client.CoreV1Api(cluster.api).list_namespace().items if one.metadata]
    assert namespace in names
