"""What the chart renders is what Kubernetes takes, for every set of values."""

import functools
import re
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from helm_python import lint
from helm_python.errors import HelmRenderError
from tests.contract.chart.rendering import (
    CHART,
    NAMESPACE,
    ROOT,
    VALUE_SETS,
    JsonObject,
    containers,
    named,
    notes,
    of_kind,
    pods,
    render,
)

KUBERNETES = ("1.25.0", "1.37.0")
"""Versions whose API schemas are at hand; an older one is a real API server's to judge."""
WITHOUT_SCHEMA = {"monitoring.coreos.com/v1", "cert-manager.io/v1", "kopf.dev/v1"}
INFORMATION = 1
CERTIFICATE_BEGIN = b"-----BEGIN CERTIFICATE-----"


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())
def test_helm_has_nothing_to_find_fault_with(values: JsonObject) -> None:
    report = lint(CHART, values, strict=True)
    assert report["errors"] == []
    assert [one for one in report["messages"] if one["severity"] > INFORMATION] == []


@pytest.fixture(scope="module", autouse=True)
def _schemas_are_read_once() -> Iterator[None]:
    read = kubernetes_validate.utils.schema_contents
    kubernetes_validate.utils.schema_contents = functools.cache(read)
    yield
    kubernetes_validate.utils.schema_contents = read


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())
def test_every_object_is_valid(values: JsonObject, version: str) -> None:
    for one in render(values):
        if one["apiVersion"] not in WITHOUT_SCHEMA:
            kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())
def test_every_object_has_the_labels_and_one_name(values: JsonObject) -> None:
    objects = render(values)
    identities = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in objects]
    assert len(set(identities)) == len(identities)
    for one in objects:
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "pointsman"
        assert labels["app.kubernetes.io/instance"] == "pointsman"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["helm.sh/chart"] == "pointsman-0.1.0"
        assert labels.keys() >= values.get("commonLabels", {}).keys()
        assert one["metadata"].get("annotations", {}).keys() >= values.get("commonAnnotations", {}).keys()


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())
def test_what_refers_to_something_finds_it(values: JsonObject) -> None:
    objects = render(values)
    secrets = {one["metadata"]["name"] for one in of_kind(objects, "Secret")}
    secrets |= {one["spec"]["secretName"] for one in of_kind(objects, "Certificate")}
    config_maps = {one["metadata"]["name"] for one in of_kind(objects, "ConfigMap")} | {"profiles"}
    accounts = {one["metadata"]["name"] for one in of_kind(objects, "ServiceAccount")} | {"default", "ours", "ours-too"}
    claims = {one["metadata"]["name"] for one in of_kind(objects, "PersistentVolumeClaim")} | {"outcomes"}
    for _, _, spec in pods(objects):
        assert spec.get("serviceAccountName", "default") in accounts
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        mounted = {mount["name"] for one in containers(spec) for mount in one.get("volumeMounts", [])}
        assert mounted == volumes.keys()
        assert {volume["secret"]["secretName"] for volume in volumes.values() if "secret" in volume} <= secrets
        assert {volume["configMap"]["name"] for volume in volumes.values() if "configMap" in volume} <= config_maps
        claimed = [volume["persistentVolumeClaim"]["claimName"] for volume in volumes.values() if _is_claim(volume)]
        assert set(claimed) <= claims
        for one in containers(spec):
            _check_ports(one)


def _is_claim(volume: JsonObject) -> bool:
    return "persistentVolumeClaim" in volume


def _check_ports(container: JsonObject) -> None:
    names = {port["name"] for port in container.get("ports", [])}
    probes = [container[probe] for probe in ("startupProbe", "livenessProbe", "readinessProbe") if probe in container]
    assert {probe["httpGet"]["port"] for probe in probes} <= names


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())
def test_every_selector_finds_its_pods_and_every_service_its_ports(values: JsonObject) -> None:
    objects = render(values)
    found = list(pods(objects))

    def selected(labels: dict[str, str]) -> list[JsonObject]:
        return [spec for _, metadata, spec in found if labels.items() <= metadata["labels"].items()]

    for one in of_kind(objects, "Deployment", "PodDisruptionBudget"):
        assert len(selected(one["spec"]["selector"]["matchLabels"])) == 1
    for one in of_kind(objects, "NetworkPolicy"):
        assert len(selected(one["spec"]["podSelector"]["matchLabels"])) == 1
    for one in of_kind(objects, "Service"):
        (spec,) = selected(one["spec"]["selector"])
        ports = {port["name"] for container in spec["containers"] for port in container.get("ports", [])}
        assert {port["targetPort"] for port in one["spec"]["ports"]} <= ports
    for one in of_kind(objects, "ServiceMonitor"):
        labels = one["spec"]["selector"]["matchLabels"]
        (service,) = [
            item for item in of_kind(objects, "Service") if labels.items() <= item["metadata"]["labels"].items()
        ]
        assert {item["port"] for item in one["spec"]["endpoints"]} == {
            item["name"] for item in service["spec"]["ports"]
        }


@pytest.mark.parametrize("values", [VALUE_SETS["defaults"], VALUE_SETS["mutual TLS"]])
def test_one_authority_signs_everything(values: JsonObject) -> None:
    objects = render(values)
    authority = b64decode(named(objects, "Secret", "pointsman-ca")["data"]["tls.crt"])
    public_key = x509.load_pem_x509_certificate(authority).public_key()
    assert isinstance(public_key, rsa.RSAPublicKey)
    (webhook,) = of_kind(objects, "ValidatingWebhookConfiguration")[0]["webhooks"]
    assert b64decode(webhook["clientConfig"]["caBundle"]) == authority
    leaves = [one for one in of_kind(objects, "Secret") if one["metadata"]["name"] != "pointsman-ca"]
    assert len(leaves) == (3 if values else 1)
    for one in leaves:
        assert b64decode(one["data"]["ca.crt"]) == authority
        leaf = x509.load_pem_x509_certificate(b64decode(one["data"]["tls.crt"]))
        assert leaf.signature_hash_algorithm is not None
        public_key.verify(leaf.signature, leaf.tbs_certificate_bytes, padding.PKCS1v15(), leaf.signature_hash_algorithm)
    names = _names(named(objects, "Secret", "pointsman-webhook-tls"))
    assert f"pointsman-webhook.{NAMESPACE}.svc" in names


def _names(secret: JsonObject) -> list[str]:
    return _alternatives(secret).get_values_for_type(x509.DNSName)


def _addresses(secret: JsonObject) -> list[str]:
    return [str(address) for address in _alternatives(secret).get_values_for_type(x509.IPAddress)]


def _alternatives(secret: JsonObject) -> x509.SubjectAlternativeName:
    leaf = x509.load_pem_x509_certificate(b64decode(secret["data"]["tls.crt"]))
    return leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def test_the_authoritys_key_is_mounted_nowhere() -> None:
    for _, _, spec in pods(render(VALUE_SETS["mutual TLS"])):
        assert "pointsman-ca" not in str(spec["volumes"])


def test_cert_manager_leaves_no_certificate_to_the_chart() -> None:
    objects = render(VALUE_SETS["cert-manager"])
    assert of_kind(objects, "Secret") == []
    (webhook,) = of_kind(objects, "ValidatingWebhookConfiguration")
    assert "caBundle" not in webhook["webhooks"][0]["clientConfig"]
    injected = webhook["metadata"]["annotations"]["cert-manager.io/inject-ca-from"]
    namespace, _, name = injected.partition("/")
    assert named(objects, "Certificate", name)["metadata"]["namespace"] == namespace


def test_a_watched_namespace_gets_a_role_and_nothing_reads_the_others() -> None:
    objects = render(VALUE_SETS["two namespaces"])
    for one in of_kind(objects, "ClusterRole"):
        resources = {resource for rule in one["rules"] for resource in rule["resources"]}
        assert resources == {"nodes"}
    for component in ("router", "operator"):
        roles = [one for one in of_kind(objects, "Role") if one["metadata"]["name"] == f"pointsman-llm-{component}"]
        assert {one["metadata"]["namespace"] for one in roles} == {"edge", "lab"}
    assert {one["metadata"]["namespace"] for one in of_kind(objects, "KopfPeering")} == {"edge", "lab"}
    assert of_kind(objects, "ClusterKopfPeering") == []


def test_the_router_may_only_read() -> None:
    for values in VALUE_SETS.values():
        for one in of_kind(render(values), "ClusterRole", "Role"):
            if one["metadata"]["labels"].get("app.kubernetes.io/component") == "router":
                assert {verb for rule in one["rules"] for verb in rule["verbs"]} <= {"get", "list", "watch"}


def test_no_rule_grants_everything() -> None:
    for values in VALUE_SETS.values():
        for one in of_kind(render(values), "ClusterRole", "Role"):
            for rule in one["rules"]:
                assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]
                assert rule["resources"] != ["secrets"]


@pytest.mark.parametrize("path", sorted((CHART / "files" / "crds").glob("*.yaml")), ids=lambda path: path.name)
def test_the_definition_is_the_one_that_is_generated(path: Path) -> None:
    original = ROOT / "manifests" / "crd" / path.name
    assert path.read_text() == original.read_text(), f"copy {original.relative_to(ROOT)} into the chart"
    rendered = named(render({}), "CustomResourceDefinition", path.stem)
    assert rendered["spec"] == yaml.safe_load(original.read_text())["spec"]
    assert rendered["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert of_kind(render({"crds": {"install": False}}), "CustomResourceDefinition") == []


def test_without_a_policy_service_nobody_looks_for_one() -> None:
    objects = render({})
    assert "policy-service" not in str(objects)
    assert of_kind(objects, "PersistentVolumeClaim") == []


@pytest.mark.parametrize(
    ("values", "target"),
    [
        (VALUE_SETS["policy service"], f"pointsman-policy-service.{NAMESPACE}.svc:9004"),
        (VALUE_SETS["policy service of cert-manager on a volume of ours"], "10.96.0.7:9004"),
    ],
)
def test_routers_and_operator_know_where_the_policy_service_is(values: JsonObject, target: str) -> None:
    objects = render(values)
    for name in ("pointsman-router", "pointsman-operator"):
        spec = named(objects, "Deployment", name)["spec"]["template"]["spec"]
        (container,) = [one for one in spec["containers"] if one["name"] in ("router", "operator")]
        assert f"--policy-service={target}" in container["args"]
        authority = "--policy-service-ca=/etc/pointsman/policy-service/ca.crt"
        assert (authority in container["args"]) == ("tls" in values["policyService"])
    service = named(objects, "Service", "pointsman-policy-service")
    assert [port["port"] for port in service["spec"]["ports"]] == [9004]


def test_one_process_owns_the_volume_and_the_volume_outlives_the_release() -> None:
    objects = render(VALUE_SETS["policy service"])
    deployment = named(objects, "Deployment", "pointsman-policy-service")
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    (claim,) = of_kind(objects, "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_the_policy_services_certificates_name_it_and_its_clients() -> None:
    objects = render(VALUE_SETS["policy service with mutual TLS, a bucket and an address of ours"])
    assert f"pointsman-policy-service.{NAMESPACE}.svc" in _names(named(objects, "Secret", "pointsman-policy-tls"))
    assert _names(named(objects, "Secret", "pointsman-policy-client")) == ["pointsman-policy-client"]
    assert _addresses(named(objects, "Secret", "pointsman-policy-tls")) == ["10.0.0.77"]
    assert named(objects, "Service", "pointsman-policy-service")["spec"]["clusterIP"] == "10.0.0.77"


def test_a_changed_profile_restarts_routers() -> None:
    def annotations(text: str) -> JsonObject:
        objects = render({"router": {"profiles": {"csv": text}}})
        deployment = named(objects, "Deployment", "pointsman-router")
        result: JsonObject = deployment["spec"]["template"]["metadata"]["annotations"]
        return result

    assert annotations("a\n") != annotations("b\n")
    assert annotations("a\n") == annotations("a\n")


def test_contradictions_are_refused() -> None:
    with pytest.raises(HelmRenderError, match=r"router\.profiles"):
        render({"router": {"profiles": {"csv": "a", "existingConfigMap": "b"}}})
    with pytest.raises(HelmRenderError, match=r"router\.autoscaling\.minReplicas"):
        render({"router": {"autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 2}}})
    with pytest.raises(HelmRenderError, match=r"operator\.serviceAccount\.name"):
        render({"operator": {"serviceAccount": {"create": False}}})


def test_stopping_takes_no_longer_than_the_pod_is_given() -> None:
    for mode in ("Gateway", "Picker"):
        drain = {"noticeSeconds": 7, "graceSeconds": 300}
        (deployment,) = [
            one
            for one in of_kind(render({"router": {"mode": mode, "drain": drain}}), "Deployment")
            if one["metadata"]["name"] == "pointsman-router"
        ]
        spec = deployment["spec"]["template"]["spec"]
        assert spec["terminationGracePeriodSeconds"] > 307 + 5
        router = next(one for one in spec["containers"] if one["name"] == "router")
        stop = router["lifecycle"]["preStop"]["exec"]["command"] if mode == "Gateway" else router["args"]
        assert {option.partition("=")[2] for option in stop if re.search(r"notice|grace", option)} == {"7", "300"}


def test_long_names_stay_within_what_names_may_have() -> None:
    for one in render(VALUE_SETS["monitoring"], release="a" * 53):
        assert len(one["metadata"]["name"]) <= 63


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())
def test_the_notes_say_what_to_do_next(values: JsonObject) -> None:
    text = notes(values)
    assert "helm test pointsman --namespace llm" in text
    assert "kubectl apply" in text
    assert ("status.candidate.stage" in text) == values.get("policyService", {}).get("enabled", False)
    gateway = values.get("router", {}).get("mode", "Gateway") == "Gateway"
    assert ("curl localhost:8080" in text) == gateway
    assert ("endpointPickerRef" in text) != gateway
    assert re.search(r"\n\n\n", text) is None
