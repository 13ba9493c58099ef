"""What concerns several fields or several policies is refused before it is stored."""

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from tests.cluster.cluster import Cluster
from tests.cluster.control.operators import Operator, webhook_configuration
from tests.cluster.control.policies import Policies, wait_for
from tests.cluster.objects import RefusedError


def test_the_webhook_refuses_what_the_schema_cannot(
    cluster: Cluster, policies: Policies, operator: Callable[..., Operator], kubectl: Callable[..., str]
) -> None:
    running = operator()
    policies.create("stored-before", spec__picker={"name": "Unheard"})
    with webhook_configuration(cluster, running):
        wait_until_asked(policies)
        cases: list[tuple[dict[str, Any], str]] = [
            (
                {"spec__picker": {"name": "ImpactGreddy"}},
                "spec.picker.name: no picker is called 'ImpactGreddy'; did you",
            ),
            ({"spec__picker": {"name": "Random", "fallback": ["Random"]}}, "fallback names the picker itself (Random)"),
            (
                {"spec__rollout": {"canaryPercents": [50, 5]}},
                "spec.rollout.canaryPercents: must rise from step to step",
            ),
            ({"spec__telemetry": {}}, "spec.telemetry: source Prometheus needs prometheusUrl"),
            ({"spec__telemetry__staleAfterMilliseconds": 500}, "staleAfterMilliseconds (500) is below"),
            ({"spec__experts": {}}, "spec.experts: needs selector or inferencePoolRef, and has neither"),
            ({"spec__experts__inferencePoolRef": {"name": "p"}}, "has both selector and inferencePoolRef"),
            ({"spec__modelName": "auto"}, '"auto" is reserved'),
        ]
        for changes, message in cases:
            assert message in _refusal(policies, **changes)
        policies.create("first", spec__modelName="wanted")
        wait_for(
            lambda: _refusal(policies, spec__modelName="wanted"),
            lambda told: f"belongs to the older policy {policies.namespace}/first" in told,
            "the second claim to a model name is not refused",
        )
        policies.patch({"metadata": {"labels": {"team": "a"}}}, "stored-before")
        with pytest.raises(RefusedError, match=r"no picker is called 'Unheard'"):
            policies.patch({"spec": {"modelName": "other"}}, "stored-before")
        policies.patch({"spec": {"picker": {"name": "RoundRobin"}}}, "stored-before")
        file = running.part.log.with_name("doubtful.yaml")
        file.write_text(DOUBTFUL)
        told = kubectl("apply", "-n", policies.namespace, "-f", str(file))
        assert "Warning: spec.objectives: no latency objective is set" in told
    assert running.metric('pointsman_operator_admission_reviews_total{result="refused"}') >= len(cases)
    assert running.metric('pointsman_operator_admission_reviews_total{result="warned"}') >= 1


def wait_until_asked(policies: Policies) -> None:
    """Return when the API server has taken notice of the webhook."""
    wait_for(lambda: _refusal(policies, spec__telemetry={}), bool, "the webhook is not asked")


DOUBTFUL = """
apiVersion: pointsman.io/v1alpha1
kind: RouterPolicy
metadata: {name: doubtful}
spec:
  modelName: doubtful
  experts: {selector: {matchLabels: {a: b}}}
  telemetry: {source: DirectScrape}
"""


def _refusal(policies: Policies, **changes: Any) -> str:
    """Return why a policy is refused; empty = it was stored."""
    try:
        policies.create("probe", **changes)
    except RefusedError as refused:
        return str(refused)
    policies.delete("probe")
    return ""


def test_a_new_certificate_is_served_without_a_gap(
    cluster: Cluster, policies: Policies, operator: Callable[..., Operator]
) -> None:
    running = operator()
    with webhook_configuration(cluster, running):
        wait_until_asked(policies)
        before = _fingerprint(running)
        running.authority.issue(running.webhook.certificate.stem, ["127.0.0.1"])
        after = before
        reviews = 0
        while after == before:
            assert "needs prometheusUrl" in _refusal(policies, spec__telemetry={})
            reviews += 1
            assert reviews < 2_000
            after = _fingerprint(running)
        assert "needs prometheusUrl" in _refusal(policies, spec__telemetry={})
    assert "new certificate" in running.part.log.read_text()


def _fingerprint(operator: Operator) -> str:
    shown = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{operator.webhook_port}"],
        input=b"",
        capture_output=True,
        check=False,
    )
    done = subprocess.run(
        ["openssl", "x509", "-noout", "-fingerprint", "-sha256"], input=shown.stdout, capture_output=True, check=True
    )
    return done.stdout.decode()
