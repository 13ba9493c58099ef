"""The page for operators says what the chart does."""

import re

import pytest
from tests.contract.chart.rendering import CHART, ROOT, JsonObject, of_kind, render

PAGE = ROOT / "docs" / "operations.md"


def test_the_table_of_rights_is_what_the_chart_grants() -> None:
    section = PAGE.read_text().partition("### Rights")[2].partition("\n### ")[0]
    told = [line for line in section.splitlines() if line.startswith("| ")][1:]
    granted = [row for one in of_kind(render({}), "ClusterRole", "Role") for row in _rows(one)]
    assert told == granted


def _rows(role: JsonObject) -> list[str]:
    component = role["metadata"]["labels"]["app.kubernetes.io/component"]
    where = "cluster" if role["kind"] == "ClusterRole" else "release's namespace"
    rows = []
    for rule in role["rules"]:
        groups = ", ".join(f"`{group}`" if group else "core" for group in rule["apiGroups"])
        resources = ", ".join(f"`{resource}`" for resource in rule["resources"])
        own = " (its own)" if "resourceNames" in rule else ""
        rows.append(f"| {component} | {where} | {groups} | {resources}{own} | {', '.join(rule['verbs'])} |")
    return rows


def test_the_values_it_names_exist() -> None:
    values = (CHART / "values.schema.json").read_text()
    tops = "router|gateway|operator|policyService|watch|crds|webhook|certificates|networkPolicy|monitoring"
    named = re.findall(rf"`((?:{tops})(?:\.\w+)+)(?:=\w+)?`", PAGE.read_text())
    assert len(named) > 20
    assert {path for path in named if not all(f'"{key}"' in values for key in path.split("."))} == set()


@pytest.mark.parametrize(
    "secret", ["ca", "webhook-tls", "router-tls", "operator-client", "policy-tls", "policy-client"]
)
def test_the_secrets_it_names_are_made(secret: str) -> None:
    tls = {"tls": {"enabled": True}}
    objects = render({"router": tls, "policyService": {"enabled": True, **tls}})
    assert f"`RELEASE-{secret}`" in PAGE.read_text()
    assert any(one["metadata"]["name"] == f"pointsman-{secret}" for one in of_kind(objects, "Secret"))
