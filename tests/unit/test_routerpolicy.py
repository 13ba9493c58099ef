"""The RouterPolicy document: what it accepts, what it defaults to, and what it says of every mistake."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from pointsman_operator.routerpolicy import RouterPolicy, parse_policy, read_policies
from pointsman_policy.errors import DocumentError

PICKERS = ("HanActor", "ImpactGreedy", "RoundRobin", "ShortestQueue")

MINIMAL: dict[str, Any] = {
    "apiVersion": "pointsman.io/v1alpha1",
    "kind": "RouterPolicy",
    "metadata": {"name": "chat"},
    "spec": {
        "modelName": "edge-chat",
        "experts": {"selector": {"matchLabels": {"pointsman.io/expert": "true"}}},
        "telemetry": {"prometheusUrl": "http://prometheus:9090"},
    },
}

FULL = """
apiVersion: pointsman.io/v1alpha1
kind: RouterPolicy
metadata:
  name: chat
  namespace: edge
  labels: {team: a}
  annotations: {note: b}
  uid: 0d1c
  resourceVersion: "12"
  generation: 3
  creationTimestamp: "2026-11-01T00:00:00Z"
  managedFields: [{manager: kubectl}]
spec:
  modelName: edge-chat
  experts:
    selector: {matchLabels: {pointsman.io/expert: "true"}}
    port: 8001
    engine: sglang
  objectives:
    normalizedTimePerOutputTokenMilliseconds: 30
    timePerOutputTokenMilliseconds: 0
    timeToFirstTokenMilliseconds: 2000
    qualityFloorPercent: 10
  picker: {name: RoundRobin, fallback: [ImpactGreedy, ShortestQueue], timeoutMilliseconds: 7}
  admission: {mode: ShedHopeless}
  telemetry:
    {source: DirectScrape, intervalMilliseconds: 500, staleAfterMilliseconds: 2000}
  training:
    {schedule: "30 2 * * 1", minimumOutcomes: 100, storePrompts: true, explorationPercent: 5, ray: "ray://head:10001"}
  rollout:
    mode: Manual
    shadowMinutes: 5
    canaryPercents: [1, 100]
    canaryMinutes: 0
    canaryRequests: 50
    maximumSloRegressionPercent: 2
status:
  observedGeneration: 3
  conditions: [{type: Accepted}]
"""


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the minimal document with one field set, which may be in a part that it does not have yet."""
    document = copy.deepcopy(MINIMAL)
    *parents, last = path.split("/")
    part = document
    for parent in parents:
        part = part.setdefault(parent, {})
    part[last] = value
    return document


def test_what_is_left_out_gets_its_default() -> None:
    policy = parse_policy(MINIMAL, "policy.yaml", PICKERS)
    spec = policy.spec
    assert policy.key == "default/chat"
    assert (spec.experts.port, spec.experts.engine) == (8000, "vllm")
    assert set(spec.objectives.model_dump().values()) == {0}
    assert (spec.picker.name, spec.picker.fallback, spec.picker.timeout_milliseconds) == (
        "HanActor",
        ("ImpactGreedy", "ShortestQueue"),
        5,
    )
    assert spec.admission.mode == "Never"
    assert (spec.telemetry.source, spec.telemetry.interval_milliseconds) == ("Prometheus", 1000)
    assert spec.telemetry.stale_after_milliseconds == 15_000
    assert (spec.training.schedule, spec.training.minimum_outcomes) == ("0 3 * * *", 2000)
    assert (spec.training.store_prompts, spec.training.exploration_percent, spec.training.ray) == (False, 0, "")
    assert (spec.rollout.canary_minutes, spec.rollout.canary_requests) == (10, 300)
    assert (spec.rollout.mode, spec.rollout.shadow_minutes, spec.rollout.canary_percents) == (
        "Automatic",
        30,
        (5, 25, 50),
    )


def test_every_field_is_read_and_what_the_cluster_adds_is_ignored() -> None:
    policy = parse_policy(yaml.safe_load(FULL), "policy.yaml", PICKERS)
    written = yaml.safe_load(FULL)
    dumped = policy.model_dump(by_alias=True, mode="json")
    assert policy.key == "edge/chat"
    assert "status" not in dumped
    assert dumped["metadata"] == {
        "name": "chat",
        "namespace": "edge",
        "labels": {"team": "a"},
        "annotations": {"note": "b"},
    }
    assert dumped["spec"]["experts"] == {"inferencePoolRef": None, **written["spec"]["experts"]}
    for part in ("modelName", "objectives", "picker", "admission", "training", "rollout"):
        assert dumped["spec"][part] == written["spec"][part]
    assert dumped["spec"]["telemetry"] == {"prometheusUrl": "", **written["spec"]["telemetry"]}


def test_a_new_status_is_not_a_changed_policy() -> None:
    before = parse_policy(MINIMAL, "", PICKERS)
    assert parse_policy({**MINIMAL, "status": {"observedGeneration": 4}}, "", PICKERS) == before


def test_an_inference_pool_stands_in_for_the_selector() -> None:
    document = changed("spec/experts", {"inferencePoolRef": {"name": "llama"}})
    experts = parse_policy(document, "", PICKERS).spec.experts
    assert experts.selector is None
    assert experts.inference_pool_ref is not None
    assert (experts.inference_pool_ref.group, experts.inference_pool_ref.name) == (
        "inference.networking.k8s.io",
        "llama",
    )


def test_an_inference_pool_needs_a_cluster(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(changed("spec/experts", {"inferencePoolRef": {"name": "llama"}})))
    with pytest.raises(DocumentError, match=r"default/chat: spec\.experts\.inferencePoolRef needs Kubernetes"):
        read_policies(path, PICKERS)


def test_what_the_cluster_adds_for_a_generated_name_is_ignored() -> None:
    document = changed("metadata/generateName", "chat-")
    assert parse_policy(document, "", PICKERS).key == "default/chat"


def test_shortest_queue_alone_needs_no_fallback() -> None:
    picker = parse_policy(changed("spec/picker/name", "ShortestQueue"), "", PICKERS).spec.picker
    assert picker.fallback == ()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("apiVersion", "v1", "apiVersion: Input should be 'pointsman.io/v1alpha1' (got 'v1')"),
        ("kind", "Pod", "kind: Input should be 'RouterPolicy' (got 'Pod')"),
        ("metadata", None, "metadata: "),
        ("metadata/name", "Chat!", "metadata.name: must be 1 to 253 lower-case letters"),
        ("metadata/nmespace", "x", "metadata.nmespace: unknown field; did you mean namespace?"),
        ("spec", None, "spec: "),
        ("spec/modelName", "auto", 'spec.modelName: "auto" is reserved'),
        ("spec/modelName", "two words", "spec.modelName: must be at least one character, without spaces"),
        ("spec/modelname", "x", "spec.modelname: unknown field"),
        ("spec/experts/selector", {}, "spec.experts.selector.matchLabels: required field is missing"),
        (
            "spec/experts/selector/matchLabels",
            {},
            "spec.experts.selector.matchLabels: Dictionary should have at least 1",
        ),
        ("spec/experts/selector/matchLabels", {"a": True}, "matchLabels.a: Input should be a valid string (got True)"),
        ("spec/experts", {}, "spec.experts: needs selector or inferencePoolRef, and has neither"),
        (
            "spec/experts/inferencePoolRef",
            {"name": "llama"},
            "spec.experts: has both selector and inferencePoolRef; remove one of the two",
        ),
        ("spec/experts", {"inferencePoolRef": {}}, "spec.experts.inferencePoolRef.name: required field is missing"),
        (
            "spec/experts",
            {"inferencePoolRef": {"name": "p", "group": "x"}},
            "spec.experts.inferencePoolRef.group: Input should be 'inference.networking.k8s.io' or",
        ),
        ("spec/experts/port", 70_000, "spec.experts.port: Input should be less than or equal to 65535 (got 70000)"),
        ("spec/experts/engine", "ollama", "spec.experts.engine: Input should be 'vllm', 'sglang', 'tgi', 'llamacpp'"),
        ("spec/objectives/timeToFirstTokenMilliseconds", 2.5, "Input should be a valid integer (got 2.5)"),
        ("spec/objectives/timeToFirstTokenMilliseconds", "2000", "Input should be a valid integer (got '2000')"),
        ("spec/objectives/qualityFloorPercent", 101, "spec.objectives.qualityFloorPercent: Input should be less than"),
        ("spec/objectives/timePerOutputTokenMilliseconds", -1, "Input should be greater than or equal to 0 (got -1)"),
        ("spec/picker/name", "ImpactGreddy", "spec.picker.name: no picker is called 'ImpactGreddy'; did you mean Imp"),
        ("spec/picker/name", "Zzz", "no picker is called 'Zzz'; there are HanActor, ImpactGreedy, RoundRobin, Sh"),
        ("spec/picker/fallback", ["RoundRobin", "x"], "spec.picker.fallback[1]: no picker is called 'x'"),
        ("spec/picker/fallback", ["HanActor"], "fallback names the picker itself (HanActor); remove it"),
        ("spec/picker/fallback", ["RoundRobin"] * 2, "fallback names RoundRobin twice; name each picker once"),
        ("spec/picker/timeoutMilliseconds", 0, "spec.picker.timeoutMilliseconds: Input should be greater than"),
        ("spec/admission/mode", "Always", "spec.admission.mode: Input should be 'Never', 'ShedSheddable' or"),
        ("spec/telemetry", {}, "spec.telemetry: source Prometheus needs prometheusUrl"),
        ("spec/telemetry/prometheusUrl", "prometheus:9090", "prometheusUrl must be an http:// or https:// URL"),
        ("spec/telemetry/prometheusUrl", "ftp://prometheus", "prometheusUrl must be an http:// or https:// URL"),
        ("spec/telemetry/prometheusUrl", "http://", "prometheusUrl must be an http:// or https:// URL"),
        ("spec/telemetry/prometheusUrl", "http://p:99999", "prometheusUrl must be an http:// or https:// URL"),
        ("spec/telemetry/prometheusUrl", "http://p/?a=b", "give the server's base URL only"),
        ("spec/telemetry/staleAfterMilliseconds", 900, "staleAfterMilliseconds (900) is below intervalMilliseconds"),
        ("spec/training/schedule", "daily", "spec.training.schedule: must be five cron fields"),
        (
            "spec/training/storePrompts",
            "yes",
            "spec.training.storePrompts: Input should be a valid boolean (got 'yes')",
        ),
        ("spec/training/storePrompts", 1, "spec.training.storePrompts: Input should be a valid boolean (got 1)"),
        (
            "spec/training/explorationPercent",
            51,
            "spec.training.explorationPercent: Input should be less than or equal",
        ),
        ("spec/training/ray", "ray://", "spec.training.ray: must be an address without spaces"),
        ("spec/training/ray", "head :10001", "spec.training.ray: must be an address without spaces"),
        ("spec/rollout/canaryMinutes", -1, "spec.rollout.canaryMinutes: Input should be greater than or equal to 0"),
        ("spec/rollout/canaryRequests", 0, "spec.rollout.canaryRequests: Input should be greater than or equal to 1"),
        ("spec/rollout/canaryPercents", [5, 5], "spec.rollout.canaryPercents: must rise from step to step"),
        ("spec/rollout/canaryPercents", [50, 25], "spec.rollout.canaryPercents: must rise from step to step"),
        (
            "spec/rollout/canaryPercents",
            [50, 101],
            "spec.rollout.canaryPercents[1]: Input should be less than or equal",
        ),
        ("spec/rollout/canaryPercents", 5, "spec.rollout.canaryPercents: Input should be a valid tuple"),
        ("spec/rollout/shadowMinutes", True, "spec.rollout.shadowMinutes: Input should be a valid integer (got True)"),
    ],
)
def test_each_mistake_is_named_with_its_place(path: str, value: object, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_policy(changed(path, value), "policy.yaml", PICKERS)
    assert str(caught.value).startswith("policy.yaml: ")
    assert message in str(caught.value)


def test_a_left_out_telemetry_says_what_it_needs() -> None:
    document = copy.deepcopy(MINIMAL)
    del document["spec"]["telemetry"]
    with pytest.raises(DocumentError, match=r"source Prometheus needs prometheusUrl.*or set source: DirectScrape"):
        parse_policy(document, "policy.yaml", PICKERS)


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    document = changed("spec/telemetry/prometheusUrl", "http://me:secret@prometheus")
    with pytest.raises(DocumentError, match="must not hold a user or password") as caught:
        parse_policy(document, "policy.yaml", PICKERS)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", [None, [], "text", 5])
def test_what_is_no_mapping_is_refused(value: object) -> None:
    with pytest.raises(DocumentError, match="must be a mapping with the keys of RouterPolicy"):
        parse_policy(value, "policy.yaml", PICKERS)


def test_several_mistakes_are_all_named() -> None:
    document = changed("spec/rollout", {"shadowMinutes": -1, "mode": "Never"})
    with pytest.raises(DocumentError, match=r"spec\.rollout\.mode: .*; spec\.rollout\.shadowMinutes: "):
        parse_policy(document, "policy.yaml", PICKERS)


def test_a_file_may_hold_several_policies(tmp_path: Path) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text(documents(("one", "a", "x"), ("one", "b", "y")))
    assert [policy.key for policy in read_policies(path, PICKERS)] == ["a/one", "b/one"]


def test_a_folder_is_read_file_by_file_and_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "2.yaml").write_text(documents(("two", "a", "y")))
    (tmp_path / "1.yaml").write_text(documents(("one", "a", "x")))
    (tmp_path / "notes.txt").write_text("]")
    policies = read_policies(tmp_path, PICKERS)
    assert all(isinstance(policy, RouterPolicy) for policy in policies)
    assert [policy.key for policy in policies] == ["a/one", "a/two"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no RouterPolicy; write at least one document"),
        ("---\n---\n", "holds no RouterPolicy"),
        ("spec: [", "is not valid YAML"),
        ("[]", "must be a mapping"),
    ],
)
def test_a_file_without_a_usable_policy_is_an_error(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(DocumentError, match=message):
        read_policies(path, PICKERS)


def test_a_missing_file_and_an_empty_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="cannot be read"):
        read_policies(tmp_path / "absent.yaml", PICKERS)
    with pytest.raises(DocumentError, match=r"the folder holds no \*\.yaml file"):
        read_policies(tmp_path, PICKERS)


def test_policies_must_differ_in_name_and_in_model(tmp_path: Path) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text(documents(("one", "a", "x"), ("one", "a", "y")))
    with pytest.raises(DocumentError, match="two policies are named 'a/one'"):
        read_policies(path, PICKERS)
    path.write_text(documents(("one", "a", "x"), ("two", "b", "x")))
    with pytest.raises(DocumentError, match="two policies have the modelName 'x'"):
        read_policies(path, PICKERS)


def test_a_mistake_in_one_of_several_documents_says_which(tmp_path: Path) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text(documents(("one", "a", "x"), ("two", "a", "auto")))
    with pytest.raises(DocumentError, match=r"policies\.yaml \(document 2\): spec\.modelName"):
        read_policies(path, PICKERS)


def documents(*policies: tuple[str, str, str]) -> str:
    """Return YAML of minimal policies with these names, namespaces and model names."""
    made = []
    for name, namespace, model in policies:
        document = changed("spec/modelName", model)
        document["metadata"] = {"name": name, "namespace": namespace}
        made.append(document)
    return yaml.safe_dump_all(made)
