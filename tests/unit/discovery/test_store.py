"""Which endpoints a policy selects."""

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.discovery.store import EVERY_NAMESPACE, matching
from pointsman_operator.routerpolicy import RouterPolicy
from pointsman_policy.experts import Expert

POLICY = RouterPolicy.model_validate(
    {
        "apiVersion": "pointsman.io/v1alpha1",
        "kind": "RouterPolicy",
        "metadata": {"name": "chat", "namespace": "edge"},
        "spec": {
            "modelName": "edge-chat",
            "experts": {"selector": {"matchLabels": {"expert": "true", "tier": "1"}}},
            "telemetry": {"source": "DirectScrape"},
        },
    }
)


def endpoint(namespace: str, *, ready: bool = True, **labels: str) -> Endpoint:
    return Endpoint(Expert(name="a", endpoint="10.0.0.1:8000", model="m", labels=labels, ready=ready), namespace)


def test_all_labels_and_the_namespace_must_match() -> None:
    chosen = endpoint("edge", expert="true", tier="1", other="x")
    others = [
        endpoint("default", expert="true", tier="1"),
        endpoint("edge", expert="true"),
        endpoint("edge", expert="true", tier="2"),
        endpoint("edge"),
    ]
    assert matching([*others, chosen], POLICY) == (chosen,)


def test_endpoints_that_are_not_ready_are_selected_too() -> None:
    waiting = endpoint("edge", ready=False, expert="true", tier="1")
    assert matching([waiting], POLICY) == (waiting,)


def test_endpoints_from_a_file_belong_to_every_namespace() -> None:
    everywhere = endpoint(EVERY_NAMESPACE, expert="true", tier="1")
    assert matching([everywhere], POLICY) == (everywhere,)
