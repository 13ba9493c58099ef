from typing import Any

import pytest
from tests.unit.discovery.manifests import LABELS, pod, policy, pool

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.discovery.pods import (
    Discovered,
    address,
    discover,
    expert_from_pod,
    read_pod,
    read_pool,
    selected,
)
from pointsman_operator.routerpolicy import RouterPolicy, parse_policy
from pointsman_policy.pickers.registry import PICKERS

NODE = {"kubernetes.io/hostname": "node-1"}


def chat(**spec: Any) -> RouterPolicy:
    return parse_policy(policy(**spec), "test", PICKERS.keys())


def expert(manifest: dict[str, Any], node: dict[str, str] = NODE, **spec: Any) -> Any:
    found = expert_from_pod(read_pod(manifest), node, chat(**spec))
    assert isinstance(found, Endpoint), found
    return found.expert


def found(*manifests: dict[str, Any], pool: dict[str, Any] | None = None, **spec: Any) -> Discovered:
    pods = [read_pod(manifest) for manifest in manifests]
    return discover(chat(**spec), pods, {"node-1": NODE}.__getitem__, read_pool(pool) if pool else None)


def names(discovered: Discovered) -> list[str]:
    return [endpoint.name for endpoint in discovered.endpoints]


def test_a_pod_that_says_only_its_model_has_the_defaults_of_policy_and_document() -> None:
    one = expert_from_pod(read_pod(pod()), NODE, chat(experts={"selector": {"matchLabels": LABELS}, "port": 8080}))
    assert isinstance(one, Endpoint)
    assert (one.name, one.namespace, one.policy, one.address) == ("a", "edge", "edge/chat", "10.0.0.1:8080")
    assert (one.expert.model, one.expert.names, one.expert.gpu, one.expert.engine) == ("m", ("m",), "", "vllm")
    assert (one.expert.quality_prior_percent, one.expert.output_tokens_prior, one.expert.ready) == (50, 256, True)


@pytest.mark.parametrize(
    ("annotations", "field", "value"),
    [
        ({"model": "llama"}, "model", "llama"),
        ({"model": "", "served_model_names": "org/llama, edge-chat"}, "model", "org/llama"),
        ({"served_model_names": "org/llama, edge-chat"}, "names", ("org/llama", "edge-chat")),
        ({"engine": "sglang"}, "engine", "sglang"),
        ({"port": "1234"}, "endpoint", "10.0.0.1:1234"),
        ({"gpu": "H200"}, "gpu", "H200"),
        ({"quality_prior_percent": "0"}, "quality_prior_percent", 0),
        ({"output_tokens_prior": " 80 "}, "output_tokens_prior", 80),
        ({"context_length_tokens": "8192"}, "context_length_tokens", 8192),
        ({"maximum_running": "64"}, "maximum_running", 64),
        ({"kv_capacity_tokens": "100000"}, "kv_capacity_tokens", 100_000),
    ],
)
def test_an_annotation_says_what_the_expert_is(annotations: dict[str, Any], field: str, value: object) -> None:
    assert getattr(expert(pod(**annotations)), field) == value


def test_the_model_may_be_a_label_and_its_annotation_goes_first() -> None:
    labels = {**LABELS, "pointsman.io/model": "label"}
    assert expert(pod(labels=labels, model="")).model == "label"
    assert expert(pod(labels=labels, model="annotation")).model == "annotation"


@pytest.mark.parametrize(
    ("annotations", "problem"),
    [
        ({"model": ""}, "does not say which model it serves; set the annotation pointsman.io/model"),
        ({"model": "m" * 254}, "does not say which model"),
        ({"served_model_names": "a,,b"}, "annotation pointsman.io/served-model-names must be 1 to 64 names"),
        ({"served_model_names": ","}, "pointsman.io/served-model-names"),
        ({"engine": "vLLM"}, "annotation pointsman.io/engine must be one of vllm, sglang"),
        ({"port": "0"}, "annotation pointsman.io/port must be a whole number from 1 to 65535 (got '0')"),
        ({"port": "http"}, "(got 'http')"),
        ({"port": "-1"}, "(got '-1')"),
        ({"port": "8000.0"}, "pointsman.io/port"),
        ({"port": "9" * 5000}, "pointsman.io/port"),
        ({"port": "\u0668\u0660"}, "pointsman.io/port"),
        ({"quality_prior_percent": "101"}, "pointsman.io/quality-prior-percent must be a whole number from 0 to 100"),
        ({"output_tokens_prior": "0"}, "pointsman.io/output-tokens-prior"),
        ({"context_length_tokens": "8k"}, "pointsman.io/context-length-tokens"),
        ({"maximum_running": "5000"}, "pointsman.io/maximum-running"),
        ({"kv_capacity_tokens": "1e6"}, "pointsman.io/kv-capacity-tokens"),
    ],
)
def test_a_wrong_annotation_is_named_and_leaves_out_its_pod_alone(annotations: dict[str, Any], problem: str) -> None:
    discovered = found(pod("wrong", ip="10.0.0.9", **annotations), pod("right"))
    assert problem in discovered.problems["wrong"]
    assert len(discovered.problems["wrong"]) < 300
    assert names(discovered) == ["right"]
    assert (discovered.ready, discovered.total) == (1, 2)


@pytest.mark.parametrize(
    ("labels", "gpu"),
    [
        ({}, ""),
        ({"nvidia.com/gpu.product": "NVIDIA-L40S"}, "L40S"),
        ({"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}, "A100-SXM-80G"),
        ({"nvidia.com/gpu.product": "NVIDIA-GeForce-RTX-4090"}, "RTX4090"),
        ({"nvidia.com/gpu.product": "Tesla-T4-SHARED"}, "T4"),
        ({"nvidia.com/gpu.product": "Homemade-9000"}, "Homemade-9000"),
        ({"pointsman.io/gpu": "L4", "nvidia.com/gpu.product": "NVIDIA-L40S"}, "L4"),
    ],
)
def test_the_node_tells_the_gpu(labels: dict[str, str], gpu: str) -> None:
    assert expert(pod(), {**NODE, **labels}).gpu == gpu


@pytest.mark.parametrize(
    ("manifest", "ready"),
    [
        (pod(), True),
        (pod(ready="False"), False),
        (pod(ready="Unknown"), False),
        (pod(phase="Pending"), False),
    ],
)
def test_an_expert_is_ready_as_its_pod_is(manifest: dict[str, Any], ready: bool) -> None:
    discovered = found(manifest)
    assert [endpoint.expert.ready for endpoint in discovered.endpoints] == [ready]


@pytest.mark.parametrize("manifest", [pod(deleted=True), pod(phase="Succeeded"), pod(phase="Failed")])
def test_a_pod_that_leaves_is_no_expert(manifest: dict[str, Any]) -> None:
    assert found(manifest).total == 0


def test_a_pod_without_an_address_is_awaited() -> None:
    discovered = found(pod(ip="", phase="Pending", ready="False"))
    assert (discovered.pending, discovered.endpoints, discovered.ready, discovered.total) == (("a",), (), 0, 1)


def test_a_policy_selects_by_all_of_its_labels_in_its_own_namespace() -> None:
    labels = {**LABELS, "tier": "fast"}
    pods = [pod("fast", labels=labels), pod("slow"), pod("other", namespace="office", labels=labels)]
    experts = {"selector": {"matchLabels": labels}}
    assert [one.name for one in selected(chat(experts=experts), map(read_pod, pods))] == ["fast"]


def test_of_two_pods_with_one_address_the_ready_one_counts() -> None:
    discovered = found(pod("a", ready="False"), pod("b"))
    assert names(discovered) == ["b"]
    assert "has the address 10.0.0.1:8000 of pod b" in discovered.problems["a"]


def test_an_ipv6_address_is_bracketed() -> None:
    assert address("fd00::1", 80) == "[fd00::1]:80"
    assert names(found(pod(ip="fd00::1"))) == ["a"]


def test_a_name_that_is_too_long_is_reported() -> None:
    assert "has 64 characters" in found(pod("a" * 64)).problems["a" * 64]


REFERENCE: dict[str, Any] = {"inferencePoolRef": {"name": "pool"}}


def test_an_inference_pool_selects_and_gives_the_port() -> None:
    discovered = found(pod("a"), pod("b", ip="10.0.0.2", port="7"), pod("c", labels={}), pool=pool(), experts=REFERENCE)
    assert [endpoint.address for endpoint in discovered.endpoints] == ["10.0.0.1:9000", "10.0.0.2:7"]


def test_an_inference_pool_from_before_v1_works_too() -> None:
    old = {
        **pool(),
        "apiVersion": "inference.networking.x-k8s.io/v1alpha2",
        "spec": {"selector": LABELS, "targetPortNumber": 81},
    }
    assert [one.address for one in found(pod(), pool=old, experts=REFERENCE).endpoints] == ["10.0.0.1:81"]


def test_an_inference_pool_without_a_port_leaves_the_policys() -> None:
    discovered = found(pod(), pool=pool(targetPorts=[]), experts={**REFERENCE, "port": 8123})
    assert [one.address for one in discovered.endpoints] == ["10.0.0.1:8123"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (None, "InferencePool pool does not exist; correct it, or use experts.selector"),
        (pool(selector={"matchLabels": {}}), "InferencePool pool selects no labels"),
        (pool(selector=None), "selects no labels"),
    ],
)
def test_a_missing_or_empty_inference_pool_is_a_problem_of_the_policy(given: Any, problem: str) -> None:
    discovered = found(pod(), pool=given, experts=REFERENCE)
    assert problem in discovered.problems[""]
    assert (discovered.endpoints, discovered.total) == ((), 0)


def test_manifests_that_lack_everything_are_read() -> None:
    assert read_pod({}).ip == ""
    assert read_pod({"metadata": None, "status": {"conditions": None}}).ready is False
    assert read_pool({}).port == 0
