"""How each inference server names its load: the one table.

A server names running requests, waiting requests and KV-cache use in its own way, and the names change from version to
version. Each entry lists alternatives; the first whose metric exists wins. Names are matched exactly, never by prefix:
``vllm:num_requests_waiting`` is a prefix of ``vllm:num_requests_waiting_by_reason``, which means something else.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pointsman_policy.experts import Engine


@dataclass(frozen=True, slots=True)
class Gauge:
    """One way to read one value."""

    metric: str
    """The metric's exact name."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that a series must have with these values."""
    across_ranks: Callable[[Iterable[float]], float] = sum
    """Makes one value of the values of all data-parallel ranks of a server."""


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """How one kind of inference server names its load; an empty tuple = it does not say."""

    running: tuple[Gauge, ...]
    """Requests in the running batch."""
    waiting: tuple[Gauge, ...]
    """Requests queued inside the server."""
    kv_cache_utilization: tuple[Gauge, ...]
    """KV cache in use, 0 to 1."""
    own_labels: frozenset[str]
    """Labels that the server itself puts on these series; all others come from whoever scraped it."""
    model_label: str | None = None
    """The label that names the model."""
    rank_label: str | None = None
    """The label that tells data-parallel ranks apart. Series of the same rank are copies of one value."""

    @property
    def metric_names(self) -> frozenset[str]:
        """Every metric name that any alternative reads."""
        return frozenset(gauge.metric for gauge in (*self.running, *self.waiting, *self.kv_cache_utilization))


ENGINES: Mapping[Engine, EngineMetrics] = {
    "vllm": EngineMetrics(
        running=(Gauge("vllm:num_requests_running"),),
        # Requests deferred for other reasons (a remote KV transfer, say) do not wait for a place in the batch.
        waiting=(
            Gauge("vllm:num_requests_waiting_by_reason", {"reason": "capacity"}),
            Gauge("vllm:num_requests_waiting"),
        ),
        # Both are fractions in spite of their names.
        kv_cache_utilization=(
            Gauge("vllm:kv_cache_usage_perc", across_ranks=statistics.fmean),
            Gauge("vllm:gpu_cache_usage_perc", across_ranks=statistics.fmean),
        ),
        own_labels=frozenset({"engine", "model_name", "reason"}),
        model_label="model_name",
        rank_label="engine",
    ),
    "sglang": EngineMetrics(
        running=(Gauge("sglang:num_running_reqs"),),
        waiting=(Gauge("sglang:num_queue_reqs"),),
        kv_cache_utilization=(Gauge("sglang:token_usage", across_ranks=statistics.fmean),),
        own_labels=frozenset({"model_name", "engine_type", "dp_rank", "tp_rank", "pp_rank", "moe_ep_rank"}),
        model_label="model_name",
        rank_label="dp_rank",
    ),
    "tgi": EngineMetrics(
        running=(Gauge("tgi_batch_current_size"),),
        waiting=(Gauge("tgi_queue_size"),),
        kv_cache_utilization=(),
        own_labels=frozenset(),
    ),
    "llamacpp": EngineMetrics(
        running=(Gauge("llamacpp:requests_processing"),),
        waiting=(Gauge("llamacpp:requests_deferred"),),
        kv_cache_utilization=(),
        own_labels=frozenset({"model"}),
        model_label="model",
    ),
    # The TensorRT-LLM backend says most; Triton alone only counts what is pending. Its nv_inference_exec_count is a
    # counter of past executions, not a number of running requests.
    "triton": EngineMetrics(
        running=(Gauge("nv_trt_llm_request_metrics", {"request_type": "scheduled"}),),
        waiting=(
            Gauge("nv_trt_llm_request_metrics", {"request_type": "waiting"}),
            Gauge("nv_inference_pending_request_count"),
        ),
        kv_cache_utilization=(
            Gauge(
                "nv_trt_llm_kv_cache_block_metrics",
                {"kv_cache_block_type": "fraction"},
                across_ranks=statistics.fmean,
            ),
        ),
        own_labels=frozenset({"model", "version", "gpu_uuid", "request_type", "kv_cache_block_type"}),
        model_label="model",
        rank_label="version",
    ),
}
