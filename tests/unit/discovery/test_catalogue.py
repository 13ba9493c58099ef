from typing import Any

import pytest
from tests.unit.discovery.manifests import LABELS, pod, policy, pool

from pointsman_operator.discovery.catalogue import Catalogue, Findings, NodeObject, Objects, read_policy_object
from pointsman_operator.discovery.pods import read_pod, read_pool
from pointsman_policy.pickers.registry import PICKERS


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue(PICKERS.keys())


def objects(*manifests: dict[str, Any], nodes: tuple[NodeObject, ...] = ()) -> Objects:
    def of(kind: str) -> list[dict[str, Any]]:
        return [one for one in manifests if one["kind"] == kind]

    return Objects(
        [read_policy_object(one) for one in of("RouterPolicy")],
        [read_pod(one) for one in of("Pod")],
        nodes,
        [read_pool(one) for one in of("InferencePool")],
    )


def experts(findings: Findings) -> list[tuple[str, str]]:
    return [(endpoint.policy, endpoint.name) for endpoint in findings.endpoints]


def keys(findings: Findings) -> list[str]:
    return [known.key for known in findings.policies]


def test_the_experts_of_all_policies_are_found_with_their_nodes(catalogue: Catalogue) -> None:
    node = NodeObject("node-1", {"pointsman.io/gpu": "L4"})
    findings = catalogue.update(objects(policy(), pod("b", ip="10.0.0.2"), pod("a"), nodes=(node,)))
    assert experts(findings) == [("edge/chat", "a"), ("edge/chat", "b")]
    assert findings.endpoints[0].expert.gpu == "L4"
    assert findings.problems == {"policies": "", "experts": ""}


def test_an_older_policy_goes_first_and_among_equals_the_first_by_key(catalogue: Catalogue) -> None:
    young = policy("a", created="2026-02-02")
    old = [policy("z", created="2026-01-01"), policy("y", created="2026-01-01")]
    assert keys(catalogue.update(objects(young, *old))) == ["edge/y", "edge/z", "edge/a"]


def test_pods_of_equal_names_in_two_namespaces_are_two_experts(catalogue: Catalogue) -> None:
    findings = catalogue.update(
        objects(policy(), policy(namespace="office"), pod("a"), pod("a", namespace="office", ip="10.0.0.9"))
    )
    assert [(one.policy, one.address) for one in findings.endpoints] == [
        ("edge/chat", "10.0.0.1:8000"),
        ("office/chat", "10.0.0.9:8000"),
    ]


def test_policies_that_overlap_share_their_pods(catalogue: Catalogue) -> None:
    labels = {**LABELS, "tier": "fast"}
    fast = policy("fast", experts={"selector": {"matchLabels": labels}, "engine": "sglang"})
    findings = catalogue.update(objects(policy(), fast, pod("a", labels=labels), pod("b", ip="10.0.0.2")))
    assert experts(findings) == [("edge/chat", "a"), ("edge/chat", "b"), ("edge/fast", "a")]
    assert [one.expert.engine for one in findings.endpoints] == ["vllm", "vllm", "sglang"]


def test_a_policy_that_becomes_wrong_stays_in_force_and_says_why(catalogue: Catalogue) -> None:
    good = catalogue.update(objects(policy(), policy("other"), pod("a")))
    wrong = policy(generation=2, picker={"name": "Guess"})
    findings = catalogue.update(objects(wrong, policy("other"), pod("a")))
    known = findings.policies[0]
    assert known.policy is good.policies[0].policy
    assert known.generation == 2
    assert "spec.picker.name: no picker is called 'Guess'" in known.problem
    assert known.problem in findings.problems["policies"]
    assert findings.policies[1] == good.policies[1]
    assert findings.endpoints == good.endpoints
    mended = catalogue.update(objects(policy(generation=3, picker={"name": "Random"}), policy("other"), pod("a")))
    assert (mended.policies[0].problem, mended.policies[0].generation) == ("", 3)
    assert mended.policies[0].policy is not None
    assert mended.policies[0].policy.spec.picker.name == "Random"


@pytest.mark.parametrize("spec", [None, [], "text", {"modelName": 7}])
def test_a_policy_that_never_was_good_serves_nothing_and_harms_nobody(catalogue: Catalogue, spec: Any) -> None:
    wrong = {**policy("wrong", created="2025-01-01"), "spec": spec}
    findings = catalogue.update(objects(wrong, policy(), pod("a")))
    assert keys(findings) == ["edge/wrong", "edge/chat"]
    assert findings.policies[0].policy is None
    assert findings.policies[0].problem
    assert experts(findings) == [("edge/chat", "a")]


def test_a_policy_that_was_made_anew_inherits_nothing(catalogue: Catalogue) -> None:
    catalogue.update(objects(policy()))
    anew = policy(created="2026-03-03", picker={"name": "Guess"})
    anew["metadata"]["uid"] = "another"
    findings = catalogue.update(objects(policy(), anew))
    assert [(known.uid, known.policy) for known in findings.policies] == [("another", None)]


def test_a_new_status_changes_nothing(catalogue: Catalogue) -> None:
    before = catalogue.update(objects(policy(), pod("a")))
    assert catalogue.update(objects({**policy(), "status": {"observedGeneration": 1}}, pod("a"))) == before


def test_an_endpoint_stays_the_same_while_its_pod_does(catalogue: Catalogue) -> None:
    before = catalogue.update(objects(policy(), pod("a"), pod("b", ip="10.0.0.2")))
    after = catalogue.update(objects(policy(), pod("a"), pod("b", ip="10.0.0.2", ready="False")))
    assert after.endpoints[0] is before.endpoints[0]
    assert after.endpoints[1] is not before.endpoints[1]
    assert after != before


def test_an_inference_pool_is_looked_for_in_the_policys_namespace(catalogue: Catalogue) -> None:
    pooled = policy(experts={"inferencePoolRef": {"name": "pool"}})
    elsewhere = catalogue.update(objects(pooled, pod("a"), pool(namespace="office")))
    assert (elsewhere.endpoints, "does not exist" in elsewhere.problems["experts"]) == ((), True)
    assert "edge/chat: InferencePool pool" in elsewhere.problems["experts"]
    found = catalogue.update(objects(pooled, pod("a"), pool()))
    assert [one.address for one in found.endpoints] == ["10.0.0.1:9000"]


def test_many_wrong_pods_are_summed_up(catalogue: Catalogue) -> None:
    wrong = [pod(f"wrong-{number}", ip=f"10.0.1.{number}", port="x") for number in range(9)]
    problem = catalogue.update(objects(policy(), *wrong)).problems["experts"]
    assert "edge/wrong-0: annotation pointsman.io/port" in problem
    assert problem.endswith("; and 6 more")
