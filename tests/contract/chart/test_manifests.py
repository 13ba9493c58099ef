"""manifests/ says the same as the chart, and kubectl's kustomize renders it."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.contract.chart.rendering import CHART, ROOT, JsonObject, containers, named, of_kind, pods, render

from pointsman_operator.routerpolicy import parse_policy
from pointsman_policy.pickers.registry import PICKERS

MANIFESTS = ROOT / "manifests"
SAMPLES = sorted(path.parent for path in (MANIFESTS / "samples").glob("*/kustomization.yaml"))
PEERING = "pointsman-operator"
WITHOUT_SCHEMA = {"kopf.dev/v1", "pointsman.io/v1alpha1"}


def kustomize(folder: Path) -> list[JsonObject]:
    kubectl = Path(sys.executable).with_name("kubectl")
    run = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return list(yaml.safe_load_all(run.stdout))


@pytest.mark.parametrize(("folder", "function"), [("install", "files"), ("policy-service", "component_files")])
def test_the_generated_manifests_are_the_charts(folder: str, function: str) -> None:
    files: dict[str, str] = runpy.run_path(str(MANIFESTS / "generate.py"))[function]()
    assert files
    assert {name: (MANIFESTS / folder / name).read_text() for name in files} == files, "run make manifests"


def test_the_component_makes_what_the_chart_makes_with_a_policy_service(tmp_path: Path) -> None:
    shutil.copytree(MANIFESTS, tmp_path, dirs_exist_ok=True)
    page = tmp_path / "kustomization.yaml"
    page.write_text(page.read_text().replace("# components:", "components:"))
    applied = kustomize(tmp_path)
    values = {"operator": {"peering": PEERING}, "webhook": {"enabled": False}, "policyService": {"enabled": True}}
    wanted = render(values, namespace="pointsman")
    for name in ("pointsman-router", "pointsman-operator", "pointsman-policy-service"):
        template, other = (named(objects, "Deployment", name)["spec"]["template"] for objects in (applied, wanted))
        assert [_of_a_container(one) for one in containers(template["spec"])] == [
            _of_a_container(one) for one in containers(other["spec"])
        ]
        assert _by_name(template["spec"]["volumes"]) == _by_name(other["spec"]["volumes"])
    for kind in ("PersistentVolumeClaim", "Service", "ServiceAccount"):
        assert named(applied, kind, "pointsman-policy-service").get("spec") == named(
            wanted, kind, "pointsman-policy-service"
        ).get("spec")


def _of_a_container(one: JsonObject) -> JsonObject:
    """Return a container without the order of what has none."""
    return {**one, "args": sorted(one.get("args", [])), "volumeMounts": _by_name(one["volumeMounts"])}


def _by_name(items: list[JsonObject]) -> list[JsonObject]:
    return sorted(items, key=lambda item: str(item["name"]))


def test_the_chart_grants_what_the_manifests_grant() -> None:
    files = [path.read_text() for path in (MANIFESTS / "rbac").glob("*.yaml")]
    written = [document for text in files for document in yaml.safe_load_all(text)]
    rendered = render({"operator": {"peering": PEERING}}, namespace="pointsman")
    assert grants(written) == grants(rendered)
    (peering,) = of_kind(rendered, "ClusterKopfPeering")
    assert [one["metadata"]["name"] for one in of_kind(written, "ClusterKopfPeering")] == [peering["metadata"]["name"]]


def grants(objects: list[JsonObject]) -> set[tuple[Any, ...]]:
    """Return who may do what where, one tuple for each verb on each resource."""
    roles = {(one["kind"], one["metadata"]["name"]): one for one in of_kind(objects, "Role", "ClusterRole")}
    found = set()
    for binding in of_kind(objects, "RoleBinding", "ClusterRoleBinding"):
        role = roles[binding["roleRef"]["kind"], binding["roleRef"]["name"]]
        place = binding["metadata"].get("namespace", "")
        who = [(subject["namespace"], subject["name"]) for subject in binding["subjects"]]
        for rule in role["rules"]:
            names = tuple(rule.get("resourceNames", ()))
            found |= {
                (account, place, group, resource, verb, names)
                for account in who
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for verb in rule["verbs"]
            }
    return found


def test_everything_can_be_applied_without_helm() -> None:
    objects = kustomize(MANIFESTS)
    for one in objects:
        if one["apiVersion"] not in WITHOUT_SCHEMA:
            kubernetes_validate.validate(one, "1.37.0", strict=True)
        assert one["metadata"].get("namespace", "pointsman") == "pointsman"
    assert len(of_kind(objects, "CustomResourceDefinition")) == 3
    assert {one["metadata"]["name"] for one in of_kind(objects, "Deployment")} == {
        "pointsman-router",
        "pointsman-operator",
    }
    accounts = {one["metadata"]["name"] for one in of_kind(objects, "ServiceAccount")}
    assert {spec["serviceAccountName"] for _, _, spec in pods(objects)} == accounts
    assert of_kind(objects, "Secret") == []


@pytest.mark.parametrize("folder", SAMPLES, ids=lambda folder: folder.name)
def test_a_sample_is_whole(folder: Path) -> None:
    objects = kustomize(folder)
    (policy,) = of_kind(objects, "RouterPolicy")
    spec = parse_policy(policy, folder.name, PICKERS.keys()).spec
    selector = policy["spec"]["experts"]["selector"]["matchLabels"]
    for one in of_kind(objects, "Deployment"):
        kubernetes_validate.validate(one, "1.37.0", strict=True)
        template = one["spec"]["template"]
        assert selector.items() <= template["metadata"]["labels"].items()
        notes = template["metadata"]["annotations"]
        assert spec.model_name in notes["pointsman.io/served-model-names"].split(",")
        ports = {str(port["containerPort"]) for item in template["spec"]["containers"] for port in item["ports"]}
        assert notes.get("pointsman.io/port", "8000") in ports
        assert all("preStop" in item["lifecycle"] for item in template["spec"]["containers"]), "open answers are cut"


def test_the_emulated_experts_use_the_charts_image() -> None:
    (image,) = {
        item["image"]
        for _, _, spec in pods(render({}))
        for item in spec["containers"]
        if item["name"] in ("router", "operator")
    }
    for _, _, spec in pods(kustomize(MANIFESTS / "samples" / "emulated")):
        assert {item["image"] for item in [*spec["initContainers"], *spec["containers"]]} == {image}


def test_the_peering_definitions_are_the_charts() -> None:
    text = (MANIFESTS / "install" / "peering.yaml").read_text()
    names = {document["metadata"]["name"] for document in yaml.safe_load_all(text)}
    assert names == {path.stem for path in (CHART / "crds").glob("*.yaml")}
