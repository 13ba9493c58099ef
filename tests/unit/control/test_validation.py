"""What is said of wrong, conflicting and doubtful policies."""

from typing import Any

import pytest
from tests.unit.control.subjects import PICKERS, manifest

from pointsman_operator.control.validation import Claim, check, claim_of, doubts, key_of, owners, taken


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"spec__picker": {"name": "Unheard"}}, "spec.picker.name: no picker is called 'Unheard'"),
        (
            {"spec__picker": {"name": "RoundRobin", "fallback": ["RoundRobin"]}},
            "spec.picker: fallback names the picker",
        ),
        ({"spec__rollout": {"canaryPercents": [50, 5]}}, "spec.rollout.canaryPercents: must rise from step to step"),
        ({"spec__experts": {"selector": {"matchLabels": {}}}}, "spec.experts.selector.matchLabels: Dictionary should"),
        ({"spec__experts": {}}, "spec.experts: needs selector or inferencePoolRef"),
        ({"spec__telemetry": {}}, "spec.telemetry: source Prometheus needs prometheusUrl"),
        ({"spec": None}, "spec: "),
        ({"metadata": None}, "metadata: "),
        ({"metadata__name": 5}, "metadata.name: "),
    ],
)
def test_wrong_fields_are_named(changes: dict[str, Any], problem: str) -> None:
    checked = check(manifest(**changes), PICKERS)
    assert checked.problem.startswith(problem)
    assert (checked.policy is None) == bool(problem)


@pytest.mark.parametrize("value", [None, 5, "text", [], {}, {"metadata": []}, {"spec": {"experts": [[]]}}])
def test_nothing_that_is_stored_can_break_the_check(value: object) -> None:
    assert check(value, PICKERS).problem


def test_an_unforeseen_error_is_a_problem_of_that_object_only() -> None:
    class Hostile(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError("boom")

    assert check(Hostile(), PICKERS).problem.startswith("cannot be read (RuntimeError)")


@pytest.mark.parametrize(
    ("metadata", "key"),
    [
        ({"name": "a", "namespace": "b"}, "b/a"),
        ({"name": "a"}, "default/a"),
        (None, "default/"),
        ([], "default/"),
    ],
)
def test_every_object_has_a_key(metadata: object, key: str) -> None:
    assert key_of({"metadata": metadata}) == key


def test_the_oldest_policy_has_the_name_and_among_equals_the_first() -> None:
    claims = [
        Claim("", "a/being-created", "x"),
        Claim("2026-11-02T00:00:00Z", "a/second", "x"),
        Claim("2026-11-01T00:00:00Z", "z/first", "x"),
        Claim("2026-11-01T00:00:00Z", "b/equal", "y"),
        Claim("2026-11-01T00:00:00Z", "a/equal", "y"),
    ]
    assert owners(claims) == {"x": "z/first", "y": "a/equal"}


def test_a_policy_claims_its_name_since_its_creation() -> None:
    made = manifest()
    policy = check(made, PICKERS).policy
    assert policy is not None
    assert claim_of(made, policy) == Claim("2026-11-01T00:00:00Z", "edge/chat", "edge-chat")
    assert taken(policy, "edge/old") == (
        "spec.modelName: 'edge-chat' belongs to the older policy edge/old, so requests reach this one as model "
        '"edge/chat" only; choose another model name, or delete edge/old'
    )


@pytest.mark.parametrize(
    ("changes", "starts"),
    [
        ({}, []),
        ({"spec__objectives": {}}, ["spec.objectives: no latency objective is set"]),
        ({"spec__objectives": {"qualityFloorPercent": 10}}, ["spec.objectives: no latency objective is set"]),
        (
            {"spec__objectives": {}, "spec__admission": {"mode": "ShedHopeless"}},
            ["spec.objectives: no latency objective is set", "spec.admission.mode: ShedHopeless drops what would miss"],
        ),
        ({"spec__admission": {"mode": "ShedHopeless"}}, []),
        (
            {"spec__telemetry__staleAfterMilliseconds": 2999},
            ["spec.telemetry.staleAfterMilliseconds: 2999 is below three intervals of 1000"],
        ),
        ({"spec__telemetry__staleAfterMilliseconds": 3000}, []),
        (
            {"spec__experts": {"selector": {"matchLabels": {"a": ""}}}},
            ["spec.experts.selector.matchLabels: an empty value matches only"],
        ),
    ],
)
def test_what_is_legal_but_hardly_meant(changes: dict[str, Any], starts: list[str]) -> None:
    policy = check(manifest(**changes), PICKERS).policy
    assert policy is not None
    found = doubts(policy)
    assert len(found) == len(starts)
    assert all(text.startswith(start) for text, start in zip(found, starts, strict=True))
