"""An old API server takes what the chart renders for it, for every set of values that it has kinds for."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from helm_python import Config
from tests.cluster.cluster import Cluster
from tests.contract.chart.rendering import CHART, VALUE_SETS, JsonObject

KUBECTL = str(Path(sys.executable).with_name("kubectl"))


@pytest.fixture(scope="module")
def watched(cluster: Cluster) -> Iterator[None]:
    """Namespaces that sets of values name, and the definitions that Helm installs before everything else."""
    for name in ("edge", "lab"):
        cluster.objects.create("namespaces", {"metadata": {"name": name}})
    command = [KUBECTL, "--kubeconfig", str(cluster.kubeconfig)]
    subprocess.run([*command, "apply", "-f", CHART / "crds"], check=True, capture_output=True)
    established = ("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CHART / "crds"))
    subprocess.run([*command, *established], check=True, capture_output=True)
    yield
    subprocess.run([*command, "delete", "-f", CHART / "crds"], check=True, capture_output=True)
    for name in ("edge", "lab"):
        cluster.delete_namespace(name)


def rendered(cluster: Cluster, values: JsonObject, namespace: str) -> list[JsonObject]:
    """Render as Helm does when it installs: by what this cluster can do."""
    with Config(kubeconfig_path=cluster.kubeconfig, namespace=namespace) as helm:
        manifest = helm.install(CHART, "pointsman", values, dry_run="server")["manifest"]
    return [one for one in yaml.safe_load_all(manifest) if one]


ELSEWHERE = ("monitoring", "cert-manager", "address")
SETS = {name: values for name, values in VALUE_SETS.items() if not any(word in name for word in ELSEWHERE)}
"""Without those that need other people's definitions, or addresses of another cluster."""


@pytest.mark.parametrize("values", SETS.values(), ids=SETS.keys())
def test_the_api_server_takes_every_object(cluster: Cluster, namespace: str, watched: None, values: JsonObject) -> None:
    objects = rendered(cluster, values, namespace)
    command = [KUBECTL, "--kubeconfig", str(cluster.kubeconfig), "create", "--dry-run=server", "-f", "-"]
    taken = subprocess.run(command, input=yaml.safe_dump_all(objects), capture_output=True, text=True, check=False)
    assert taken.returncode == 0, taken.stderr
    assert taken.stdout.count("created (server dry run)") == len(objects)


def test_api_versions_are_those_of_the_cluster(cluster: Cluster, namespace: str, watched: None) -> None:
    objects = rendered(cluster, {"router": {"autoscaling": {"enabled": True}}}, namespace)
    versions = {one["kind"]: one["apiVersion"] for one in objects}
    new = cluster.version >= (1, 23)
    assert versions["HorizontalPodAutoscaler"] == ("autoscaling/v2" if new else "autoscaling/v2beta2")
    assert versions["PodDisruptionBudget"] == ("policy/v1" if new else "policy/v1beta1")
