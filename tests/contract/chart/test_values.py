"""Values that are wrong are refused by the name of their field, and every value is explained."""

import json
import re
from typing import Any

import pytest
from helm_python.errors import HelmValuesError
from tests.contract.chart.rendering import CHART, render

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"routr": {}}, "routr"),
    ({"router": {"replica": 3}}, "replica"),
    ({"router": {"mode": "gateway"}}, "/router/mode"),
    ({"router": {"replicas": "2"}}, "/router/replicas"),
    ({"router": {"replicas": -1}}, "/router/replicas"),
    ({"router": {"replicas": 1.5}}, "/router/replicas"),
    ({"router": {"grpcPort": 80}}, "/router/grpcPort"),
    ({"router": {"adminPort": 70000}}, "/router/adminPort"),
    ({"router": {"tls": {"enabled": "yes"}}}, "/router/tls/enabled"),
    ({"router": {"tls": {"clientCertificates": "Optional"}}}, "/router/tls/clientCertificates"),
    ({"router": {"drain": {"graceSeconds": -1}}}, "/router/drain/graceSeconds"),
    ({"router": {"service": {"type": "ExternalName"}}}, "/router/service/type"),
    ({"router": {"service": {"loadBalancerSourceRanges": ["10.0.0.0"]}}}, "/router/service/loadBalancerSourceRanges/0"),
    ({"router": {"resources": {"limits": {"memory": "1GB"}}}}, "/router/resources/limits/memory"),
    ({"router": {"resources": {"limit": {}}}}, "limit"),
    ({"router": {"podDisruptionBudget": {"maxUnavailable": "half"}}}, "/router/podDisruptionBudget/maxUnavailable"),
    ({"router": {"autoscaling": {"maxReplicas": 0}}}, "/router/autoscaling/maxReplicas"),
    ({"router": {"extraArgs": "--seed=1"}}, "/router/extraArgs"),
    ({"router": {"extraEnv": [{"name": "1A", "value": "x"}]}}, "/router/extraEnv/0/name"),
    ({"router": {"extraEnv": [{"value": "x"}]}}, "/router/extraEnv/0"),
    ({"router": {"podLabels": {"a": 1}}}, "/router/podLabels/a"),
    ({"image": {"digest": "latest"}}, "/image/digest"),
    ({"image": {"repository": ""}}, "/image/repository"),
    ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
    ({"imagePullSecrets": ["registry"]}, "/imagePullSecrets/0"),
    ({"watch": {"namespaces": ["Edge"]}}, "/watch/namespaces/0"),
    ({"watch": {"namespaces": "edge"}}, "/watch/namespaces"),
    ({"watch": {"namespaces": ["edge", "edge"]}}, "/watch/namespaces"),
    ({"network": {"ipFamily": "IPv5"}}, "/network/ipFamily"),
    ({"gateway": {"concurrency": 0}}, "/gateway/concurrency"),
    ({"gateway": {"decisionTimeoutMilliseconds": 0}}, "/gateway/decisionTimeoutMilliseconds"),
    ({"gateway": {"logLevel": "verbose"}}, "/gateway/logLevel"),
    ({"operator": {"terminationGracePeriodSeconds": 0}}, "/operator/terminationGracePeriodSeconds"),
    ({"policyService": {"enabled": 1}}, "/policyService/enabled"),
    ({"policyService": {"replicas": 2}}, "replicas"),
    ({"policyService": {"clusterIP": "policy"}}, "/policyService/clusterIP"),
    ({"policyService": {"storage": {"size": "20 GB"}}}, "/policyService/storage/size"),
    ({"policyService": {"retention": {"days": 0}}}, "/policyService/retention/days"),
    ({"policyService": {"outcomesUrl": "bucket/folder"}}, "/policyService/outcomesUrl"),
    ({"webhook": {"failurePolicy": "ignore"}}, "/webhook/failurePolicy"),
    ({"webhook": {"timeoutSeconds": 31}}, "/webhook/timeoutSeconds"),
    ({"certificates": {"leafDays": 0}}, "/certificates/leafDays"),
    ({"certificates": {"certManager": {"duration": "90d"}}}, "/certificates/certManager/duration"),
    ({"podSecurity": {"runAsUser": 0}}, "/podSecurity/runAsUser"),
    ({"podSecurity": {"privileged": True}}, "privileged"),
    ({"networkPolicy": {"clients": [1]}}, "/networkPolicy/clients/0"),
    ({"monitoring": {"podMonitor": {"port": "Metrics Port"}}}, "/monitoring/podMonitor/port"),
    ({"monitoring": {"prometheusRule": {"disabled": ["Nonsense"]}}}, "/monitoring/prometheusRule/disabled/0"),
    (
        {"monitoring": {"prometheusRule": {"thresholds": {"sloAttainmentPercent": 0}}}},
        "/monitoring/prometheusRule/thresholds/sloAttainmentPercent",
    ),
    ({"tests": {"timeoutSeconds": 1}}, "/tests/timeoutSeconds"),
]


@pytest.mark.parametrize(("values", "field"), WRONG, ids=[json.dumps(values) for values, _ in WRONG])
def test_a_wrong_value_is_refused_by_its_name(values: dict[str, Any], field: str) -> None:
    with pytest.raises(HelmValuesError) as refusal:
        render(values)
    assert f"'{field}'" in str(refusal.value)


def test_every_value_has_a_comment() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    bare = [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if re.match(r" *\w+:", line) and not before.strip().startswith("#")
    ]
    assert bare == []


def test_every_value_is_in_the_schema_and_no_object_takes_more() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    open_objects = [
        path for path, node in _objects(schema, schema, "") if node.get("additionalProperties") is not False
    ]
    free = {"strings", "amounts", "objects", "affinity", "valueFrom", "global"}
    assert {path.rpartition("/")[2] for path in open_objects} <= free | _free_uses(schema)


def _free_uses(schema: dict[str, Any]) -> set[str]:
    """Names of fields that are maps of the user's own keys, or objects of Kubernetes' own."""
    text = json.dumps(schema)
    uses = re.findall(r'"(\w+)": \{"\$ref": "#/definitions/(?:strings|amounts)"', text)
    return {*uses, "items"}


def _objects(node: Any, schema: dict[str, Any], path: str) -> Any:
    if isinstance(node, dict):
        if node.get("type") == "object":
            yield path, node
        for key, child in node.items():
            yield from _objects(child, schema, f"{path}/{key}")
