"""From the cluster's objects to what is known of each policy."""

from typing import Any

import pytest
from tests.unit.control.subjects import PICKERS, manifest

from pointsman_operator.control.facts import Facts
from pointsman_operator.discovery.catalogue import Objects, PolicyObject, read_policy_object
from pointsman_operator.discovery.pods import Pod, discover


def _policy(name: str, created: str, **changes: Any) -> PolicyObject:
    made = manifest(metadata__name=name, metadata__uid=name, metadata__creationTimestamp=created, **changes)
    return read_policy_object(made)


def _pod(name: str, **changes: Any) -> Pod:
    values: dict[str, Any] = {
        "namespace": "edge",
        "name": name,
        "uid": name,
        "labels": {"tier": "gpu", "app": "vllm"},
        "annotations": {"pointsman.io/model": "m"},
        "node": "",
        "ip": f"10.0.0.{len(name)}",
        "ready": True,
        "leaving": False,
    }
    return Pod(**values | changes)


def test_nothing_is_said_before_everything_was_looked_at() -> None:
    facts = Facts(PICKERS)
    assert (facts.complete, facts.has_objects, facts.subjects()) == (False, False, ())
    facts.take(Objects())
    assert (facts.complete, facts.has_objects) == (False, True)
    facts.reports = ()
    assert facts.complete


def test_subjects_have_experts_and_the_older_policy_has_the_name() -> None:
    facts = Facts(PICKERS)
    policies = [
        _policy("young", "2026-11-02T00:00:00Z"),
        _policy("old", "2026-11-01T00:00:00Z"),
        _policy("wrong", "2026-10-01T00:00:00Z", spec__picker={"name": "Unheard"}),
    ]
    facts.take(Objects(policies, [_pod("a"), _pod("bb", ready=False), _pod("ccc", namespace="other")]))
    young, old, wrong = facts.subjects()
    assert "belongs to the older policy edge/old" in young.taken
    assert (old.taken, wrong.taken) == ("", "")
    assert (old.discovered.ready, old.discovered.total) == (1, 2)
    assert "no picker is called 'Unheard'" in wrong.checked.problem
    assert {claim.key for claim in facts.claims()} == {"edge/young", "edge/old"}
    assert facts.policy_count == 3
    assert facts.subjects() is facts.subjects()


def test_what_breaks_the_search_for_one_policy_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(policy: Any, *rest: Any) -> Any:
        if policy.metadata.name == "bad":
            raise RuntimeError("boom")
        return discover(policy, *rest)

    monkeypatch.setattr("pointsman_operator.control.facts.discover", breaks)
    facts = Facts(PICKERS)
    facts.take(Objects([_policy("bad", "1"), _policy("good", "2", spec__modelName="other")], [_pod("a")]))
    bad, good = facts.subjects()
    assert bad.discovered.problems[""].startswith("a pod or a pool cannot be read (RuntimeError)")
    assert good.discovered.ready == 1
