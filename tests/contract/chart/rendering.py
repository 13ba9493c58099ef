"""Renders the chart as Helm does, for tests."""

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "pointsman"
NAMESPACE = "llm"
RELEASE = "pointsman"
NOTES = "NOTES.txt"

JsonObject = dict[str, Any]

MONITORING: JsonObject = {
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "podMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "dashboards": {"enabled": True},
}
PLACED: JsonObject = {
    "priorityClassName": "high",
    "nodeSelector": {"kubernetes.io/arch": "arm64"},
    "tolerations": [{"key": "edge", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "edge", "operator": "Exists"}]}]
            }
        }
    },
    "podLabels": {"team": "edge"},
    "podAnnotations": {"example.org/note": "yes"},
    "extraEnv": [{"name": "NUMBA_NUM_THREADS", "value": "1"}],
}
VALUE_SETS: dict[str, JsonObject] = {
    "defaults": {},
    "picker": {"router": {"mode": "Picker"}},
    "picker with server TLS": {
        "router": {"mode": "Picker", "tls": {"enabled": True, "clientCertificates": "NotAsked"}}
    },
    "mutual TLS": {"router": {"tls": {"enabled": True}}},
    "cert-manager": {"certificates": {"certManager": {"enabled": True}}, "router": {"tls": {"enabled": True}}},
    "cert-manager with an issuer": {
        "certificates": {"certManager": {"enabled": True, "issuerRef": {"name": "ours", "kind": "ClusterIssuer"}}}
    },
    "two namespaces": {"watch": {"namespaces": ["edge", "lab"]}},
    "monitoring": {"monitoring": MONITORING},
    "monitoring of a picker in one namespace": {
        "monitoring": MONITORING,
        "router": {"mode": "Picker"},
        "watch": {"namespaces": ["edge"]},
    },
    "autoscaling": {"router": {"autoscaling": {"enabled": True}, "podDisruptionBudget": {"maxUnavailable": "25%"}}},
    "network policy": {
        "networkPolicy": {
            "enabled": True,
            "clients": [{"namespaceSelector": {"matchLabels": {"team": "edge"}}}],
            "monitoring": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
        }
    },
    "network policy of an open picker without webhook": {
        "networkPolicy": {"enabled": True},
        "router": {"mode": "Picker"},
        "webhook": {"enabled": False},
    },
    "placed": {"router": PLACED, "operator": PLACED, "policyService": {"enabled": True, **PLACED}},
    "policy service": {"policyService": {"enabled": True}, "networkPolicy": {"enabled": True}},
    "policy service with monitoring": {
        "policyService": {"enabled": True},
        "networkPolicy": {
            "enabled": True,
            "monitoring": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        },
        "monitoring": MONITORING,
    },
    "policy service with mutual TLS, a bucket and an address of ours": {
        "policyService": {
            "enabled": True,
            "tls": {"enabled": True},
            "clusterIP": "10.0.0.77",
            "storage": {"storageClassName": "fast", "size": "50Gi"},
            "outcomesUrl": "s3://outcomes/edge",
            "extraEnv": [{"name": "AWS_REGION", "value": "eu-central-1"}],
        },
    },
    "policy service of cert-manager on a volume of ours": {
        "policyService": {
            "enabled": True,
            "clusterIP": "10.96.0.7",
            "tls": {"enabled": True},
            "storage": {"existingClaim": "outcomes"},
            "serviceAccount": {"create": False, "name": "ours"},
        },
        "certificates": {"certManager": {"enabled": True}},
        "router": {"mode": "Picker"},
    },
    "smallest": {
        "router": {"replicas": 1, "spreadReplicas": False},
        "operator": {"replicas": 1, "spreadReplicas": False},
        "webhook": {"enabled": False},
        "crds": {"install": False},
        "monitoring": {"podAnnotations": False},
    },
    "images by digest": {
        "image": {"repository": "registry.example/pointsman", "digest": "sha256:" + "a" * 64},
        "gateway": {"image": {"repository": "registry.example/envoy", "digest": "sha256:" + "b" * 64}},
        "imagePullSecrets": [{"name": "registry"}],
    },
    "profiles": {"router": {"profiles": {"csv": "model,gpu\n"}}},
    "profiles of ours": {"router": {"profiles": {"existingConfigMap": "profiles"}}},
    "IPv6": {"network": {"ipFamily": "IPv6"}},
    "platform's own user": {"podSecurity": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}},
    "load balancer": {
        "router": {
            "service": {
                "type": "LoadBalancer",
                "externalTrafficPolicy": "Local",
                "loadBalancerSourceRanges": ["10.0.0.0/8"],
                "annotations": {"example.org/internal": "true"},
            }
        }
    },
    "accounts of ours": {
        "router": {"serviceAccount": {"create": False, "name": "ours"}},
        "operator": {"serviceAccount": {"create": False, "name": "ours-too"}},
    },
    "names of ours": {
        "fullnameOverride": "lines",
        "commonLabels": {"team": "edge"},
        "commonAnnotations": {"example.org/owner": "edge"},
        "gateway": {"failOpen": False, "extraArgs": ["--component-log-level", "ext_proc:debug"]},
        "router": {"extraArgs": ["--seed=1"]},
    },
}


def render(values: Mapping[str, Any], *, release: str = RELEASE, namespace: str = NAMESPACE) -> list[JsonObject]:
    """Return the chart's objects; raises helm_python's errors."""
    return list(_render(json.dumps(values, sort_keys=True), release, namespace))


def notes(values: Mapping[str, Any]) -> str:
    """Return what Helm prints after an installation."""
    texts = _texts(json.dumps(values, sort_keys=True), RELEASE, NAMESPACE)
    return next(text for path, text in texts.items() if path.endswith(NOTES))


@functools.cache
def _render(values: str, release: str, namespace: str) -> tuple[JsonObject, ...]:
    documents = (
        document
        for path, text in _texts(values, release, namespace).items()
        if not path.endswith(NOTES)
        for document in yaml.load_all(text, Loader=yaml.CSafeLoader)
    )
    return tuple(document for document in documents if document)


@functools.cache
def _texts(values: str, release: str, namespace: str) -> dict[str, str]:
    with Chart.load(CHART) as chart:
        return chart.render(json.loads(values), name=release, namespace=namespace)


def of_kind(objects: list[JsonObject], *kinds: str) -> list[JsonObject]:
    """Return the objects of some kinds."""
    return [one for one in objects if one["kind"] in kinds]


def named(objects: list[JsonObject], kind: str, name: str) -> JsonObject:
    """Return one object."""
    (found,) = [one for one in of_kind(objects, kind) if one["metadata"]["name"] == name]
    return found


def pods(objects: list[JsonObject]) -> Iterator[tuple[str, JsonObject, JsonObject]]:
    """Return of each pod its owner's name, its metadata and its spec."""
    for one in of_kind(objects, "Deployment"):
        template = one["spec"]["template"]
        yield one["metadata"]["name"], template["metadata"], template["spec"]
    for one in of_kind(objects, "Pod"):
        yield one["metadata"]["name"], one["metadata"], one["spec"]


def containers(spec: JsonObject) -> list[JsonObject]:
    """Return all containers of a pod, those that prepare it first."""
    return [*spec.get("initContainers", []), *spec["containers"]]
