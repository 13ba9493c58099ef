"""Every pod keeps the restricted Pod Security Standard, and what we hold beyond it."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from tests.contract.chart.rendering import VALUE_SETS, JsonObject, containers, pods, render

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
WITH_A_TOKEN = {"router", "operator"}


def violations(spec: JsonObject) -> Iterator[str]:
    """Say how a pod breaks the restricted standard: all controls of its baseline and of its own."""
    security = spec.get("securityContext", {})
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield field
    for volume in spec.get("volumes", []):
        if not (volume.keys() - {"name"}) <= VOLUMES:
            yield f"volume {volume['name']}"
    for sysctl in security.get("sysctls", []):
        yield f"sysctl {sysctl['name']}"
    if "windowsOptions" in security or "seLinuxOptions" in security:
        yield "host options"
    if security.get("supplementalGroups") and 0 in security["supplementalGroups"]:
        yield "group 0"
    for one in [*containers(spec), *spec.get("ephemeralContainers", [])]:
        yield from (f"{one['name']}: {problem}" for problem in _container_violations(one, security))


def _container_violations(container: JsonObject, pod: JsonObject) -> Iterator[str]:
    security = container.get("securityContext", {})
    effective = {**pod, **security}
    if security.get("privileged"):
        yield "privileged"
    if security.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if effective.get("runAsNonRoot") is not True:
        yield "runAsNonRoot"
    if effective.get("runAsUser") == 0:
        yield "runAsUser"
    if effective.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile"
    yield from _host_violations(container, security)


def _host_violations(container: JsonObject, security: JsonObject) -> Iterator[str]:
    capabilities = security.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities"
    if security.get("procMount", "Default") != "Default" or "seLinuxOptions" in security:
        yield "host options"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "hostPort"
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if "host" in container.get(probe, {}).get("httpGet", {}):
            yield f"{probe} of another host"


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())
def test_every_pod_keeps_the_restricted_standard(values: JsonObject) -> None:
    found = list(pods(render(values)))
    assert len(found) == (4 if values.get("policyService", {}).get("enabled") else 3)
    assert {name: list(violations(spec)) for name, _, spec in found} == {name: [] for name, _, _ in found}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("hostNetwork",), True),
        (("volumes", 0), {"name": "v", "hostPath": {"path": "/"}}),
        (("securityContext", "runAsNonRoot"), False),
        (("containers", 0, "securityContext", "runAsNonRoot"), False),
        (("containers", 0, "securityContext", "runAsUser"), 0),
        (("containers", 0, "securityContext", "privileged"), True),
        (("containers", 0, "securityContext", "allowPrivilegeEscalation"), True),
        (("containers", 0, "securityContext", "capabilities"), {"drop": ["NET_RAW"]}),
        (("containers", 0, "securityContext", "capabilities"), {"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
        (("containers", 0, "securityContext", "seccompProfile"), {"type": "Unconfined"}),
        (("containers", 0, "ports"), [{"containerPort": 80, "hostPort": 80}]),
        (("initContainers", 0, "securityContext"), {}),
    ],
)
def test_the_check_can_fail(path: tuple[Any, ...], value: Any) -> None:
    (spec,) = [spec for name, _, spec in pods(render({})) if name == "pointsman-router"]
    spec = copy.deepcopy(spec)
    *parents, last = path
    node = spec
    for key in parents:
        node = node[key]
    node[last] = value
    if path[0] != "securityContext":
        assert list(violations(spec)) != []
    else:  # a container's own word counts more than the pod's
        assert list(violations(spec)) == []


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())
def test_nothing_can_be_written_but_volumes_and_nothing_is_without_bounds(values: JsonObject) -> None:
    for _, _, spec in pods(render(values)):
        for volume in spec["volumes"]:
            assert "emptyDir" not in volume or "sizeLimit" in volume["emptyDir"]
        for one in containers(spec):
            assert one["securityContext"]["readOnlyRootFilesystem"] is True
            assert one["resources"]["requests"].keys() >= {"cpu", "memory"}
            assert "memory" in one["resources"]["limits"]


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())
def test_a_token_is_mounted_only_where_the_api_server_is_asked(values: JsonObject) -> None:
    objects = render(values)
    for one in objects:
        assert one["kind"] != "ServiceAccount" or one["automountServiceAccountToken"] is False
    for name, metadata, spec in pods(objects):
        wanted = metadata["labels"]["app.kubernetes.io/component"] in WITH_A_TOKEN
        assert spec["automountServiceAccountToken"] is wanted, name
