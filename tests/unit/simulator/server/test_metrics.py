from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from pointsman_policy.simulator.server.driver import Load
from pointsman_policy.simulator.server.metrics import render_metrics
from pointsman_policy.simulator.server.statistics import TOKEN_GAP_BOUNDS, Histogram, Statistics


def scrape(model_name: str = "small") -> dict[str, Metric]:
    gaps = Histogram(TOKEN_GAP_BOUNDS)
    for seconds in (0.01, 0.02, 100.0):
        gaps.observe(seconds)
    load = Load(3, 4, 0.25, 5, 60, gaps, 7.5)
    statistics = Statistics(prompt_tokens=70)
    statistics.finished["length"] += 2
    statistics.ttft_seconds.observe(0.3)
    statistics.lateness_seconds.observe(0.003)
    text = render_metrics(model_name, 8_000, load, statistics).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(families: dict[str, Metric], family: str, sample: str = "", **labels: str) -> float:
    found = [
        one.value
        for one in families[f"vllm:{family}"].samples
        if one.name == f"vllm:{sample or family}" and labels.items() <= one.labels.items()
    ]
    assert len(found) == 1
    return float(found[0])


def test_load_is_there_under_the_names_of_both_generations() -> None:
    families = scrape()
    assert value(families, "num_requests_running") == 3
    assert value(families, "num_requests_waiting") == 4
    assert value(families, "num_requests_waiting_by_reason", reason="capacity") == 4
    assert value(families, "num_requests_waiting_by_reason", reason="deferred") == 0
    assert value(families, "kv_cache_usage_perc") == value(families, "gpu_cache_usage_perc") == 0.25
    assert value(families, "cache_config_info", block_size="16", num_gpu_blocks="500") == 1


def test_totals_are_counters() -> None:
    families = scrape()
    assert value(families, "num_preemptions", "num_preemptions_total") == 5
    assert value(families, "prompt_tokens", "prompt_tokens_total") == 70
    assert value(families, "generation_tokens", "generation_tokens_total") == 60
    reasons = {
        reason: value(families, "request_success", "request_success_total", finished_reason=reason)
        for reason in ("stop", "length", "abort")
    }
    assert reasons == {"stop": 0, "length": 2, "abort": 0}
    assert families["vllm:request_success"].type == "counter"


def test_histograms_are_cumulative_and_there_under_both_names() -> None:
    families = scrape()
    for name in ("inter_token_latency_seconds", "time_per_output_token_seconds"):
        assert families[f"vllm:{name}"].type == "histogram"
        assert value(families, name, f"{name}_bucket", le="0.01") == 1
        assert value(families, name, f"{name}_bucket", le="0.025") == 2
        assert value(families, name, f"{name}_bucket", le="80.0") == 2
        assert value(families, name, f"{name}_bucket", le="+Inf") == 3
        assert value(families, name, f"{name}_count") == 3
        assert value(families, name, f"{name}_sum") == 100.03
    assert value(families, "time_to_first_token_seconds", "time_to_first_token_seconds_count") == 1
    assert value(families, "e2e_request_latency_seconds", "e2e_request_latency_seconds_count") == 0


def test_what_only_an_emulation_knows_has_names_of_its_own() -> None:
    families = scrape()
    busy = families["pointsman_expert_busy_seconds"]
    assert (busy.type, [one.value for one in busy.samples]) == ("counter", [7.5])
    lateness = families["pointsman_expert_lateness_seconds"]
    late = {one.labels["le"]: one.value for one in lateness.samples if "le" in one.labels}
    assert (late["0.002"], late["0.005"], late["+Inf"]) == (0, 1, 1)


def test_every_series_is_labelled_as_vllm_labels_it() -> None:
    for name, family in scrape('odd "name"\\').items():
        for one in family.samples:
            assert one.labels["engine"] == "0"
            if name != "vllm:cache_config_info":
                assert one.labels["model_name"] == 'odd "name"\\'
