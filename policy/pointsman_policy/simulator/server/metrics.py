"""An emulated server's metrics in the text format of Prometheus.

They have the names of old and new versions of vLLM. What only an emulation can tell has names of its own.
"""

import itertools
from collections.abc import Iterator, Mapping

from pointsman_policy.simulator.server.driver import Load
from pointsman_policy.simulator.server.statistics import Histogram, Statistics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_VLLM, _OWN = "vllm:", "pointsman_expert_"
_KV_BLOCK_TOKENS = 16
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def render_metrics(model_name: str, kv_capacity_tokens: int, load: Load, statistics: Statistics) -> bytes:
    """Return the body of a scrape."""
    labels = {"model_name": model_name, "engine": "0"}
    lines = itertools.chain(
        _load_lines(labels, load),
        _cache_lines(kv_capacity_tokens),
        _total_lines(labels, load, statistics),
        _histogram_lines(labels, load, statistics),
        _own_lines(labels, load, statistics),
    )
    return ("\n".join(lines) + "\n").encode()


def _load_lines(labels: Mapping[str, str], load: Load) -> Iterator[str]:
    yield from _metric("num_requests_running", "gauge", "Requests in the running batch.", labels, load.running)
    yield from _metric("num_requests_waiting", "gauge", "Requests waiting to be run.", labels, load.waiting)
    yield from _head("num_requests_waiting_by_reason", "gauge", "Requests waiting to be run, by reason.")
    yield _sample("num_requests_waiting_by_reason", {**labels, "reason": "capacity"}, load.waiting)
    yield _sample("num_requests_waiting_by_reason", {**labels, "reason": "deferred"}, 0)
    for name in ("kv_cache_usage_perc", "gpu_cache_usage_perc"):
        yield from _metric(name, "gauge", "KV cache in use, 1 = all of it.", labels, load.kv_cache_utilization)


def _cache_lines(kv_capacity_tokens: int) -> Iterator[str]:
    labels = {
        "block_size": str(_KV_BLOCK_TOKENS),
        "num_gpu_blocks": str(kv_capacity_tokens // _KV_BLOCK_TOKENS),
        "engine": "0",
    }
    yield from _metric("cache_config_info", "gauge", "The KV cache's configuration.", labels, 1)


def _total_lines(labels: Mapping[str, str], load: Load, statistics: Statistics) -> Iterator[str]:
    totals = (
        ("num_preemptions_total", "Preemptions.", load.preemptions),
        ("prompt_tokens_total", "Prompt tokens processed.", statistics.prompt_tokens),
        ("generation_tokens_total", "Tokens generated.", load.generated_tokens),
    )
    for name, description, value in totals:
        yield from _metric(name, "counter", description, labels, value)
    yield from _head("request_success_total", "counter", "Requests ended, by reason.")
    for reason, count in statistics.finished.items():
        yield _sample("request_success_total", {**labels, "finished_reason": reason}, count)


def _histogram_lines(labels: Mapping[str, str], load: Load, statistics: Statistics) -> Iterator[str]:
    histograms = (
        ("time_to_first_token_seconds", "Arrival to first token, seconds.", statistics.ttft_seconds),
        ("inter_token_latency_seconds", "Between two tokens of a request, seconds.", load.token_gap_seconds),
        ("time_per_output_token_seconds", "Between two tokens of a request, seconds.", load.token_gap_seconds),
        ("e2e_request_latency_seconds", "Arrival to last token, seconds.", statistics.e2e_seconds),
    )
    for name, description, histogram in histograms:
        yield from _head(name, "histogram", description)
        yield from _buckets(name, labels, histogram)


def _own_lines(labels: Mapping[str, str], load: Load, statistics: Statistics) -> Iterator[str]:
    description = "Time in which the expert had work, seconds."
    yield from _metric("busy_seconds_total", "counter", description, labels, load.busy_seconds, prefix=_OWN)
    yield from _head("lateness_seconds", "histogram", "How late tokens were told of, seconds.", prefix=_OWN)
    yield from _buckets("lateness_seconds", labels, statistics.lateness_seconds, prefix=_OWN)


def _buckets(name: str, labels: Mapping[str, str], histogram: Histogram, prefix: str = _VLLM) -> Iterator[str]:
    bounds = (*(repr(float(bound)) for bound in histogram.bounds), "+Inf")
    cumulative = list(itertools.accumulate(histogram.counts))
    for bound, count in zip(bounds, cumulative, strict=True):
        yield _sample(f"{name}_bucket", {**labels, "le": bound}, count, prefix)
    yield _sample(f"{name}_count", labels, cumulative[-1], prefix)
    yield _sample(f"{name}_sum", labels, histogram.sum, prefix)


def _metric(
    name: str, kind: str, description: str, labels: Mapping[str, str], value: float, prefix: str = _VLLM
) -> Iterator[str]:
    yield from _head(name, kind, description, prefix)
    yield _sample(name, labels, value, prefix)


def _head(name: str, kind: str, description: str, prefix: str = _VLLM) -> Iterator[str]:
    yield f"# HELP {prefix}{name} {description}"
    yield f"# TYPE {prefix}{name} {kind}"


def _sample(name: str, labels: Mapping[str, str], value: float, prefix: str = _VLLM) -> str:
    written = ",".join(f'{key}="{text.translate(_ESCAPES)}"' for key, text in labels.items())
    return f"{prefix}{name}{{{written}}} {float(value)!r}"
