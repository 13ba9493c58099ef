"""From Kubernetes objects to experts: which pods a RouterPolicy means, and what is known of each.

Pure functions over manifests as the API server returns them. What a wrong annotation breaks is its own pod: it is left
out, with a text that says what to mend. The table of annotations is in docs/kubernetes.md.
"""

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, get_args

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.routerpolicy import RouterPolicy
from pointsman_policy.experts import Engine, Expert
from pointsman_policy.latency.datasheets import find_gpu

PREFIX: Final = "pointsman.io/"
MODEL = PREFIX + "model"
SERVED_MODEL_NAMES = PREFIX + "served-model-names"
ENGINE = PREFIX + "engine"
PORT = PREFIX + "port"
GPU = PREFIX + "gpu"
GPU_PRODUCT = "nvidia.com/gpu.product"
"""Set on nodes by NVIDIA's feature discovery, such as "NVIDIA-L40S"."""

_LONGEST_NAME = 63
_LONGEST_MODEL_NAME = 253
_MOST_NAMES = 64


class _Number(NamedTuple):
    """An annotation that holds a whole number, and the field of an expert that it sets."""

    field: str
    least: int
    most: int


_NUMBERS: Final = {
    PREFIX + "quality-prior-percent": _Number("quality_prior_percent", 0, 100),
    PREFIX + "output-tokens-prior": _Number("output_tokens_prior", 1, 1_000_000),
    PREFIX + "context-length-tokens": _Number("context_length_tokens", 0, 1_000_000_000),
    PREFIX + "maximum-running": _Number("maximum_running", 1, 4_096),
    PREFIX + "kv-capacity-tokens": _Number("kv_capacity_tokens", 0, 1_000_000_000_000),
}
_PORTS: Final = _Number("port", 1, 65_535)


@dataclass(frozen=True, slots=True)
class Pod:
    """What routing needs of a pod."""

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    """Those of pointsman.io only."""
    node: str
    """Empty until it is scheduled."""
    ip: str
    """Empty until it has one."""
    ready: bool
    """It runs, and its condition Ready is True."""
    leaving: bool
    """It is being deleted, or has finished for good."""


@dataclass(frozen=True, slots=True)
class Pool:
    """What routing needs of an InferencePool."""

    namespace: str
    name: str
    group: str
    uid: str
    labels: Mapping[str, str]
    """All of them are wanted of a pod."""
    port: int
    """The first target port; 0 = it names none."""


@dataclass(frozen=True, slots=True)
class Discovered:
    """The experts of one policy."""

    endpoints: tuple[Endpoint, ...] = ()
    """Ready or not, by pod name."""
    pending: tuple[str, ...] = ()
    """Pods that are selected and have no address yet."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Why a pod is left out, by pod name; the key "" is about the policy as a whole."""

    @property
    def ready(self) -> int:
        """How many may be picked."""
        return sum(endpoint.expert.ready for endpoint in self.endpoints)

    @property
    def total(self) -> int:
        """How many pods are selected, usable or not."""
        return len(self.endpoints) + len(self.pending) + len(self.problems.keys() - {""})


def read_pod(manifest: Mapping[str, Any]) -> Pod:
    """Read a pod as the API server returns it; what is missing is empty."""
    metadata, status = _mapping(manifest, "metadata"), _mapping(manifest, "status")
    phase = status.get("phase")
    conditions = status.get("conditions") or ()
    return Pod(
        namespace=metadata.get("namespace") or "",
        name=metadata.get("name") or "",
        uid=metadata.get("uid") or "",
        labels=dict(_mapping(metadata, "labels")),
        annotations={key: text for key, text in _mapping(metadata, "annotations").items() if key.startswith(PREFIX)},
        node=_mapping(manifest, "spec").get("nodeName") or "",
        ip=status.get("podIP") or "",
        ready=phase == "Running"
        and any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions),
        leaving=bool(metadata.get("deletionTimestamp")) or phase in ("Succeeded", "Failed"),
    )


def read_pool(manifest: Mapping[str, Any]) -> Pool:
    """Read an InferencePool of any of its API versions; what is missing or makes no sense is empty."""
    metadata, spec = _mapping(manifest, "metadata"), _mapping(manifest, "spec")
    selector = _mapping(spec, "selector")
    labels = _mapping(selector, "matchLabels") if "matchLabels" in selector else selector
    ports = spec.get("targetPorts") or ()
    port = ports[0].get("number") if ports else spec.get("targetPortNumber")
    return Pool(
        namespace=metadata.get("namespace") or "",
        name=metadata.get("name") or "",
        group=str(manifest.get("apiVersion") or "").partition("/")[0],
        uid=metadata.get("uid") or "",
        labels={key: text for key, text in labels.items() if isinstance(text, str)},
        port=port if isinstance(port, int) and _PORTS.least <= port <= _PORTS.most else 0,
    )


def discover(
    policy: RouterPolicy,
    pods: Iterable[Pod],
    node_labels: Callable[[str], Mapping[str, str]],
    pool: Pool | None = None,
) -> Discovered:
    """Return the experts that a policy means.

    Args:
        policy: The policy.
        pods: Those of its namespace; others are passed over.
        node_labels: The labels of a node by its name; empty if it is not known.
        pool: The InferencePool that the policy names, if it names one and there is one.
    """
    reference = policy.spec.experts.inference_pool_ref
    if reference is not None and (pool is None or not pool.labels):
        lack = "selects no labels" if pool else "does not exist"
        return Discovered(problems={"": f"InferencePool {reference.name} {lack}; correct it, or use experts.selector"})
    endpoints: dict[str, Endpoint] = {}
    pending: list[str] = []
    problems: dict[str, str] = {}
    for pod in sorted(selected(policy, pods, pool), key=lambda pod: (not pod.ready, pod.name)):
        if not pod.ip:
            pending.append(pod.name)
            continue
        found = expert_from_pod(pod, node_labels(pod.node), policy, pool)
        if isinstance(found, str):
            problems[pod.name] = found
        elif (other := endpoints.setdefault(found.address, found)) is not found:
            problems[pod.name] = f"has the address {found.address} of pod {other.name}; give it another port"
    ordered = sorted(endpoints.values(), key=lambda endpoint: endpoint.name)
    return Discovered(tuple(ordered), tuple(sorted(pending)), problems)


def selected(policy: RouterPolicy, pods: Iterable[Pod], pool: Pool | None = None) -> list[Pod]:
    """Return the pods that a policy selects and that stay, ready or not."""
    experts = policy.spec.experts
    labels = experts.selector.match_labels if experts.selector is not None else pool.labels if pool else {}
    if not labels:
        return []
    return [
        pod
        for pod in pods
        if pod.namespace == policy.metadata.namespace and not pod.leaving and labels.items() <= pod.labels.items()
    ]


def expert_from_pod(
    pod: Pod, node_labels: Mapping[str, str], policy: RouterPolicy, pool: Pool | None = None
) -> Endpoint | str:
    """Describe a pod with an address as an expert of a policy.

    Args:
        pod: The pod.
        node_labels: Labels of its node.
        policy: Gives port and engine where the pod says nothing.
        pool: The policy's InferencePool, whose port goes before the policy's.

    Returns:
        The expert, or why the pod cannot be one and what to do.
    """
    try:
        return _expert(pod, node_labels, policy, pool)
    except ValueError as error:
        return str(error)


def _expert(pod: Pod, node_labels: Mapping[str, str], policy: RouterPolicy, pool: Pool | None) -> Endpoint:
    if len(pod.name) > _LONGEST_NAME:
        raise ValueError(f"its name has {len(pod.name)} characters; give it one of at most {_LONGEST_NAME}")
    experts = policy.spec.experts
    names = _served_model_names(pod)
    engine = pod.annotations.get(ENGINE, experts.engine).strip()
    if engine not in get_args(Engine):
        raise ValueError(f"annotation {ENGINE} must be one of {', '.join(get_args(Engine))} (got {_shown(engine)})")
    default_port = pool.port if pool is not None and pool.port else experts.port
    port = _number(PORT, pod.annotations[PORT], _PORTS) if PORT in pod.annotations else default_port
    numbers = {
        number.field: _number(annotation, pod.annotations[annotation], number)
        for annotation, number in _NUMBERS.items()
        if annotation in pod.annotations
    }
    expert = Expert.model_validate(
        {
            "name": pod.name,
            "endpoint": address(pod.ip, port),
            "model": _model(pod, names),
            "served_model_names": names,
            "gpu": _gpu(pod, node_labels),
            "engine": engine,
            "labels": pod.labels,
            "ready": pod.ready,
            **numbers,
        }
    )
    return Endpoint(expert, pod.namespace, policy.key)


def address(ip: str, port: int) -> str:
    """Return "ip:port", an IPv6 address in brackets.

    Raises:
        ValueError: If the IP is none.
    """
    parsed = ipaddress.ip_address(ip)
    return f"[{parsed}]:{port}" if parsed.version == 6 else f"{parsed}:{port}"


def _served_model_names(pod: Pod) -> tuple[str, ...]:
    text = pod.annotations.get(SERVED_MODEL_NAMES)
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if len(names) > _MOST_NAMES or not all(0 < len(name) <= _LONGEST_MODEL_NAME for name in names):
        raise ValueError(
            f"annotation {SERVED_MODEL_NAMES} must be 1 to {_MOST_NAMES} names separated by commas, none empty or "
            f"above {_LONGEST_MODEL_NAME} characters (got {_shown(text)})"
        )
    return names


def _model(pod: Pod, names: tuple[str, ...]) -> str:
    model = pod.annotations.get(MODEL, pod.labels.get(MODEL, names[0] if names else "")).strip()
    if not 0 < len(model) <= _LONGEST_MODEL_NAME:
        raise ValueError(
            f"does not say which model it serves; set the annotation {MODEL} or {SERVED_MODEL_NAMES} "
            f"(at most {_LONGEST_MODEL_NAME} characters)"
        )
    return model


def _gpu(pod: Pod, node_labels: Mapping[str, str]) -> str:
    if GPU in pod.annotations:
        return pod.annotations[GPU].strip()
    if GPU in node_labels:
        return node_labels[GPU]
    product = node_labels.get(GPU_PRODUCT, "")
    # A product that no data sheet here knows may still have a row in the operator's own profiles.
    known = find_gpu(product) if product else None
    return known.name if known else product


def _number(annotation: str, text: str, number: _Number) -> int:
    digits = text.strip()
    value = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else -1
    if not number.least <= value <= number.most:
        raise ValueError(
            f"annotation {annotation} must be a whole number from {number.least} to {number.most} (got {_shown(text)})"
        )
    return value


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")


def _mapping(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, Mapping) else {}
