"""What the API server itself makes of RouterPolicies: defaults, bounds, explanations."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.cluster.control.policies import Policies, wait_for
from tests.cluster.objects import RefusedError


def test_defaults_are_filled_in(policies: Policies) -> None:
    spec = policies.create(spec__telemetry={"prometheusUrl": "http://prometheus"})["spec"]
    assert spec["experts"]["port"] == 8000
    assert spec["picker"] == {"name": "HanActor", "timeoutMilliseconds": 5}
    assert spec["telemetry"]["staleAfterMilliseconds"] == 15_000
    assert spec["rollout"]["canaryPercents"] == [5, 25, 50]
    assert spec["admission"] == {"mode": "Never"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"spec__modelName": "two words"}, "spec.modelName"),
        ({"spec__experts": {"selector": {}}}, "spec.experts.selector.matchLabels"),
        ({"spec__experts": {"selector": {"matchLabels": {}}}}, "spec.experts.selector.matchLabels"),
        ({"spec__experts__port": 70_000}, "spec.experts.port"),
        ({"spec__experts__engine": "ollama"}, "spec.experts.engine"),
        ({"spec__objectives__timeToFirstTokenMilliseconds": -1}, "spec.objectives.timeToFirstTokenMilliseconds"),
        ({"spec__objectives__timeToFirstTokenMilliseconds": 2.5}, "spec.objectives.timeToFirstTokenMilliseconds"),
        ({"spec__picker": {"fallback": ["RoundRobin"] * 9}}, "spec.picker.fallback"),
        ({"spec__admission": {"mode": "Always"}}, "spec.admission.mode"),
        ({"spec__telemetry__intervalMilliseconds": 10}, "spec.telemetry.intervalMilliseconds"),
        ({"spec__rollout": {"canaryPercents": [101]}}, "spec.rollout.canaryPercents"),
        ({"spec__experts": {"inferencePoolRef": {"group": "x", "name": "p"}}}, "spec.experts.inferencePoolRef.group"),
        ({"spec__experts": None}, "spec.experts"),
    ],
)
def test_bad_values_are_refused_by_the_name_of_their_field(
    policies: Policies, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(RefusedError, match=field) as refused:
        policies.create(**changes)
    assert refused.value.status == 422


def test_the_status_is_a_subresource(policies: Policies) -> None:
    policies.create(status={"observedGeneration": 7})
    assert "status" not in policies.get()
    policies.patch({"status": {"observedGeneration": 7}})
    assert "status" not in policies.get()


def test_every_field_explains_itself(policies: Policies, kubectl: Callable[..., str]) -> None:
    field = "routerpolicies.spec.objectives.normalizedTimePerOutputTokenMilliseconds"
    wait_for(  # the API server tells of a new kind's fields some seconds after it serves the kind
        lambda: kubectl("explain", field, check=False),
        lambda told: "NTPOT: arrival to end" in told,
        "the field does not explain itself",
    )
    assert "rp" in kubectl("api-resources", "--api-group=pointsman.io")
    assert policies.namespace
