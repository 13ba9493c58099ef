"""Alerts go off when they should, lead to a runbook, and dashboards show metrics that exist."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.contract.chart.rendering import CHART, ROOT, JsonObject, of_kind, render

OPERATIONS = ROOT / "docs" / "operations.md"
ALERT_TESTS = Path(__file__).with_name("alerts_test.yaml")
DASHBOARDS = sorted((CHART / "files" / "dashboards").glob("*.json"))
SEVERITIES = {"info", "warning", "critical"}


def groups(**rule: Any) -> list[JsonObject]:
    (found,) = of_kind(render({"monitoring": {"prometheusRule": {"enabled": True, **rule}}}), "PrometheusRule")
    result: list[JsonObject] = found["spec"]["groups"]
    return result


def rules(**rule: Any) -> list[JsonObject]:
    return [one for group in groups(**rule) for one in group["rules"]]


def alerts(**rule: Any) -> dict[str, JsonObject]:
    return {one["alert"]: one for one in rules(**rule) if "alert" in one}


def metrics_of(expression: str) -> set[str]:
    """Return our metrics in an expression, without what Prometheus adds to names of histograms."""
    names = re.findall(r"(?<![:\w])pointsman_\w+", expression)
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


def known_metrics() -> set[str]:
    page = (ROOT / "docs" / "metrics.md").read_text()
    return set(re.findall(r"^\| `(pointsman_\w+)` \|", page, re.MULTILINE))


@pytest.fixture
def rule_file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": groups()}))
    return path


def promtool(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)


def test_prometheus_takes_the_rules(rule_file: Path) -> None:
    checked = promtool("check", "rules", "--lint=all", "--lint-fatal", rule_file)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_goes_off_when_it_should_and_not_before(rule_file: Path) -> None:
    cases = ALERT_TESTS.read_text()
    tested = {alert["alertname"] for test in yaml.safe_load(cases)["tests"] for alert in test["alert_rule_test"]}
    assert tested == alerts().keys()
    path = rule_file.with_name("tests.yaml")
    path.write_text(cases)
    run = promtool("test", "rules", path)
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_alert_is_complete_and_leads_to_its_runbook() -> None:
    headings = re.findall(r"^#+ (.+)$", OPERATIONS.read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    for name, alert in alerts(runbookUrl="http://localhost/operations.md").items():
        assert alert["labels"]["severity"] in SEVERITIES
        assert "for" in alert
        assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
        page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert page == "http://localhost/operations.md"
        assert anchor in anchors, f"docs/operations.md has no section {name}"


def test_every_runbook_belongs_to_an_alert() -> None:
    sections = set(re.findall(r"^#+ (Pointsman[A-Z]\w+)$", OPERATIONS.read_text(), re.MULTILINE))
    assert sections == alerts().keys()


def test_rules_use_metrics_that_exist() -> None:
    used = set().union(*(metrics_of(one["expr"]) for one in rules()))
    assert used - known_metrics() == set()
    assert "pointsman_expert_ready" in used


def test_an_alert_can_be_left_out_and_labelled() -> None:
    found = alerts(disabled=["PointsmanSlowPicks"], alertLabels={"team": "edge", "severity": "page"})
    assert found.keys() == alerts().keys() - {"PointsmanSlowPicks"}
    assert {one["labels"]["team"] for one in found.values()} == {"edge"}
    assert {one["labels"]["severity"] for one in found.values()} <= SEVERITIES


def test_thresholds_are_values() -> None:
    found = alerts(thresholds={"sloAttainmentPercent": 75, "pickMilliseconds": 50, "telemetryAgeSeconds": 99})
    assert "< 0.75" in found["PointsmanObjectivesMissed"]["expr"]
    assert "> 0.05" in found["PointsmanSlowPicks"]["expr"]
    assert "< 99" in found["PointsmanTelemetryStale"]["expr"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_shows_metrics_that_exist(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    variables = [one["definition"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    used = set().union(*(metrics_of(text) for text in [*expressions, *variables]))
    assert used
    assert used - known_metrics() == set()
    names = {one["name"] for one in dashboard["templating"]["list"]} | {"__rate_interval"}
    assert {name for text in expressions for name in re.findall(r"\$(\w+)", text)} <= names
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_prometheus_understands_a_dashboards_queries(path: Path, tmp_path: Path) -> None:
    panels = [panel for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row"]
    expressions = {target["expr"] for panel in panels for target in panel["targets"]}
    texts = [text.replace("$__rate_interval", "5m") for text in sorted(expressions)]
    records = [{"record": f"dashboard:query{index}", "expr": text} for index, text in enumerate(texts)]
    queries = tmp_path / "queries.yaml"
    queries.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": records}]}))
    checked = promtool("check", "rules", queries)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_metric_is_shown_somewhere() -> None:
    shown = set().union(*(metrics_of(path.read_text()) for path in DASHBOARDS))
    assert known_metrics() - shown == set()


def test_dashboards_become_config_maps_that_grafana_finds() -> None:
    values = {"monitoring": {"dashboards": {"enabled": True, "namespace": "grafana"}}}
    found = of_kind(render(values), "ConfigMap")
    assert len(found) == len(DASHBOARDS) == 4
    for one in found:
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert one["metadata"]["namespace"] == "grafana"
        ((name, text),) = one["data"].items()
        assert json.loads(text) == json.loads(
            (CHART / "files/dashboards" / name.removeprefix("pointsman-")).read_text()
        )
