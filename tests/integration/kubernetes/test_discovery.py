"""Experts join and leave as their pods do."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.kubernetes.conftest import POOLS, Connect, Found, Place, following
from tests.unit.discovery import manifests

AT_ONCE_SECONDS = 0.5
"""An expert that leaves must be gone by then; from the API server's answer it takes some tens of milliseconds."""


async def test_experts_join_when_they_are_ready(place: Place, found: Found) -> None:
    place.policy()
    key = f"{place.namespace}/chat"
    address = place.pod("early", ready="False")
    await found.until(lambda: [one.address for one in found.discovery.endpoints()] == [address], "the pod")
    assert found.experts(key) == []
    place.ready("early", "True")
    await found.until(lambda: found.experts(key) == ["early"], "it is ready")
    place.pod("late")
    await found.until(lambda: found.experts(key) == ["early", "late"], "the second one")
    (known,) = found.discovery.policies()
    assert (known.key, known.generation, known.problem) == (key, 1, "")
    assert known.uid


LEAVING: dict[str, Callable[[Place], None]] = {
    "deletion": lambda place: place.delete("goes"),
    "termination": lambda place: place.delete("goes", seconds=300),
    "not ready": lambda place: place.ready("goes", "False"),
    "readiness unknown": lambda place: place.ready("goes", "Unknown"),
    "another label": lambda place: place.patch("goes", {"metadata": {"labels": {"pointsman.io/expert": "false"}}}),
    "end": lambda place: place.patch("goes/status", {"status": {"phase": "Failed"}}),
    "a wrong annotation": lambda place: place.patch(
        "goes", {"metadata": {"annotations": {"pointsman.io/engine": "steam"}}}
    ),
}


@pytest.mark.parametrize("leave", LEAVING.values(), ids=LEAVING.keys())
async def test_an_expert_leaves_at_once(
    place: Place, found: Found, nodes: Callable[..., str], leave: Callable[[Place], None]
) -> None:
    place.policy()
    key = f"{place.namespace}/chat"
    place.pod("stays")
    place.pod("goes", node=nodes())
    await found.until(lambda: found.experts(key) == ["goes", "stays"], "both")
    leave(place)
    began = time.monotonic()
    await found.until(lambda: found.experts(key) == ["stays"], "it leaves")
    assert time.monotonic() - began < AT_ONCE_SECONDS
    place.delete("goes")


async def test_a_wrong_annotation_is_named_and_its_mending_brings_the_pod_back(place: Place, found: Found) -> None:
    place.policy()
    key = f"{place.namespace}/chat"
    place.pod("right")
    place.pod("wrong", port="http")
    await found.until(lambda: "wrong" in found.discovery.problems()["experts"], "the problem")
    assert "pointsman.io/port must be a whole number" in found.discovery.problems()["experts"]
    await found.until(lambda: found.experts(key) == ["right"], "the right one")
    place.patch("wrong", {"metadata": {"annotations": {"pointsman.io/port": "8001"}}})
    await found.until(lambda: found.experts(key) == ["right", "wrong"], "both")
    assert not any(found.discovery.problems().values())


async def test_a_node_tells_the_gpu_and_may_change_its_mind(
    place: Place, found: Found, nodes: Callable[..., str]
) -> None:
    place.policy()
    node = nodes({"nvidia.com/gpu.product": "NVIDIA-L40S"})
    place.pod("a", node=node)

    def gpus() -> list[str]:
        return [one.expert.gpu for one in found.discovery.endpoints()]

    await found.until(lambda: gpus() == ["L40S"], "the GPU")
    place.cluster.objects.patch("nodes", node, {"metadata": {"labels": {"pointsman.io/gpu": "L4"}}})
    await found.until(lambda: gpus() == ["L4"], "the other GPU")


async def test_policies_with_overlapping_selectors_share_pods(place: Place, found: Found) -> None:
    labels = {"pointsman.io/expert": "true", "tier": "fast"}
    place.policy("all")
    place.policy("fast", experts={"selector": {"matchLabels": labels}, "port": 9000})
    place.pod("a", labels=labels)
    place.pod("b")
    await found.until(lambda: found.experts(f"{place.namespace}/all") == ["a", "b"], "all")
    await found.until(lambda: found.experts(f"{place.namespace}/fast") == ["a"], "the fast one")
    ports = {one.policy: one.address.rpartition(":")[2] for one in found.discovery.endpoints() if one.name == "a"}
    assert sorted(ports.values()) == ["8000", "9000"]


async def test_pods_of_equal_names_in_two_namespaces_do_not_mix(
    place: Place, second_place: Place, admin: Connect
) -> None:
    places = (place, second_place)
    addresses = {}
    for one in places:
        one.policy()
        addresses[f"{one.namespace}/chat"] = one.pod("same")
    async with following(admin, [one.namespace for one in places]) as found:
        await found.until(
            lambda: {one.policy: one.address for one in found.discovery.endpoints()} == addresses, "both pods"
        )
        second_place.delete("same")
        await found.until(lambda: len(found.discovery.endpoints()) == 1, "one of them leaves")
        assert found.experts(f"{place.namespace}/chat") == ["same"]


async def test_a_policy_that_is_deleted_is_gone(place: Place, found: Found) -> None:
    place.policy()
    place.pod("a")
    await found.until(lambda: found.experts(f"{place.namespace}/chat") == ["a"], "the expert")
    place.cluster.objects.delete("pointsman.io/v1alpha1/routerpolicies", "chat", place.namespace)
    await found.until(lambda: found.discovery.policies() == (), "the policy goes")
    assert found.discovery.endpoints() == ()


async def test_a_policy_that_becomes_wrong_stays_in_force_as_it_was(place: Place, found: Found) -> None:
    place.policy()
    place.policy("other")
    await found.until(lambda: len(found.discovery.policies()) == 2, "both")
    place.change_policy("chat", {"picker": {"name": "Guess"}})

    def known() -> Any:
        return next(one for one in found.discovery.policies() if one.key == f"{place.namespace}/chat")

    await found.until(lambda: known().generation == 2, "the second generation")
    assert "no picker is called 'Guess'" in known().problem
    assert known().policy.spec.picker.name == "HanActor"
    other = next(one for one in found.discovery.policies() if one.key != known().key)
    assert (other.generation, other.problem) == (1, "")
    place.change_policy("chat", {"picker": {"name": "Random"}})
    await found.until(lambda: known().problem == "", "it is mended")
    assert (known().generation, known().policy.spec.picker.name) == (3, "Random")


async def test_inference_pools_may_appear_while_the_router_runs(
    place: Place, found: Found, pools_crd: Callable[[], None]
) -> None:
    place.policy(experts={"inferencePoolRef": {"name": "pool"}})
    place.pod("a")
    await found.until(lambda: "InferencePool pool does not exist" in found.discovery.problems()["experts"], "no pool")
    pools_crd()
    place.cluster.objects.create(
        POOLS,
        {**manifests.pool(), "metadata": {"name": "pool"}},
        place.namespace,
    )
    await found.until(lambda: len(found.discovery.endpoints()) == 1, "the pool's pod", seconds=60)
    assert found.discovery.endpoints()[0].address.endswith(":9000")
    assert found.discovery.problems()["experts"] == ""
