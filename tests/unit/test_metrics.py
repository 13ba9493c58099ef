"""The metrics module: names, caps, and gauges that are absent when nothing is known."""

import re

from prometheus_client import CollectorRegistry, generate_latest

from pointsman_operator.decision import ExpertView, OutcomeStatus
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.metrics import LABEL_CAP, OTHER, CappedLabel, Metrics, TelemetryCount
from pointsman_operator.problems import Problems
from pointsman_policy.experts import Expert


def exposition(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_a_label_passes_its_first_values_and_turns_the_rest_into_other() -> None:
    label = CappedLabel(cap=2)
    assert [label(name) for name in ("a", "b", "c", "a", "c")] == ["a", "b", OTHER, "a", OTHER]
    assert CappedLabel()("x" * 1000) == OTHER


def test_reasons_made_up_without_end_do_not_grow_the_series_without_end() -> None:
    metrics = Metrics(CollectorRegistry())
    for number in range(LABEL_CAP + 50):
        metrics.fell_back("HanActor", f"reason {number}")
    series = re.findall(r"^pointsman_fallback_picks_total\{", exposition(metrics), re.MULTILINE)
    assert len(series) == LABEL_CAP + 1
    assert value(metrics, "pointsman_fallback_picks_total", picker="HanActor", reason=OTHER) == 50


def test_every_metric_carries_the_prefix_of_the_project() -> None:
    metrics = Metrics(CollectorRegistry())
    names = re.findall(r"^# TYPE (\S+)", exposition(metrics), re.MULTILINE)
    assert names
    assert all(name.startswith("pointsman_") for name in names)


def test_slo_attainment_counts_only_requests_that_had_an_objective() -> None:
    metrics = Metrics(CollectorRegistry())
    for met in (True, False, None):
        metrics.finished("edge/chat", "ImpactGreedy", OutcomeStatus.COMPLETED, slo_met=met, qos=0.5)
    labels = {"policy": "edge/chat", "picker": "ImpactGreedy"}
    assert value(metrics, "pointsman_slo_judged_requests_total", **labels) == 2
    assert value(metrics, "pointsman_slo_attained_requests_total", **labels) == 1
    assert value(metrics, "pointsman_qos_total", **labels) == 1.5
    assert value(metrics, "pointsman_finished_requests_total", **labels, status="completed") == 3


def test_a_latency_that_is_unknown_is_not_observed() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.latency("ttft", "edge/chat", measured_seconds=None, predicted_seconds=0.3)
    assert value(metrics, "pointsman_request_ttft_seconds_count", policy="edge/chat") is None
    assert value(metrics, "pointsman_predicted_request_ttft_seconds_sum", policy="edge/chat") == 0.3


def test_an_expert_without_telemetry_has_no_kv_and_no_age_series() -> None:
    metrics = Metrics(CollectorRegistry())
    endpoint = Endpoint(Expert(name="a", endpoint="10.0.0.1:8000", model="m"))
    view = ExpertView(endpoint, True, 1.0, 2.0, None, None, 3)
    metrics.watch_experts(lambda: [("edge/chat", view)])
    labels = {"policy": "edge/chat", "endpoint": "10.0.0.1:8000"}
    assert value(metrics, "pointsman_expert_in_flight_requests", **labels) == 3
    assert value(metrics, "pointsman_expert_kv_cache_utilization_ratio", **labels) is None
    assert value(metrics, "pointsman_expert_telemetry_age_seconds", **labels) is None


def test_open_decisions_and_telemetry_are_read_at_each_scrape() -> None:
    metrics = Metrics(CollectorRegistry())
    counts = [1]
    metrics.watch_open_decisions(lambda: counts[0])
    metrics.watch_telemetry(lambda: [TelemetryCount("10.0.0.1:8000", 7, counts[0])])
    counts[0] = 5
    assert value(metrics, "pointsman_open_decisions") == 5
    assert value(metrics, "pointsman_telemetry_problems_total", endpoint="10.0.0.1:8000") == 5


def test_problems_are_gauges_that_say_so_while_they_last() -> None:
    metrics = Metrics(CollectorRegistry())
    problems = [Problems({"experts": "wrong", "policies": ""}, {"edge/chat": "slow"}), Problems({"experts": ""}, {})]
    metrics.watch_problems(lambda: problems[0])
    assert value(metrics, "pointsman_configuration_problem", source="experts") == 1
    assert value(metrics, "pointsman_configuration_problem", source="policies") == 0
    assert value(metrics, "pointsman_telemetry_problem", policy="edge/chat") == 1
    problems.pop(0)
    assert value(metrics, "pointsman_configuration_problem", source="experts") == 0
    assert value(metrics, "pointsman_telemetry_problem", policy="edge/chat") is None
