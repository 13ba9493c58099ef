"""What each engine's /metrics says, read through the direct scraper."""

from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.telemetry.engines import ENGINES
from pointsman_operator.telemetry.protocols import DropReason, TelemetryCounts
from pointsman_operator.telemetry.scrape import DirectScrape

VLLM_NEW = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 9.0
# HELP vllm:num_requests_waiting_by_reason Number of waiting requests by reason.
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 5.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="deferred"} 4.0
# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.42
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="m"} 5.052943e+06
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.5",model_name="m"} 3.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 4.0
python_gc_objects_collected_total{generation="0"} 1234.0
"""

VLLM_OLD = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="m"} 3.0
vllm:num_requests_waiting{model_name="m"} 9.0
vllm:num_requests_swapped{model_name="m"} 7.0
vllm:gpu_cache_usage_perc{model_name="m"} 0.25
vllm:cpu_cache_usage_perc{model_name="m"} 0.99
"""

VLLM_BOTH = VLLM_OLD + 'vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.5\n'

# The general name is absent and a longer name begins with it.
VLLM_PREFIX_TRAP = """\
vllm:num_requests_running{engine="0",model_name="m"} 1.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="deferred"} 4.0
vllm:num_requests_waiting_total{engine="0",model_name="m"} 4.0
"""

VLLM_DATA_PARALLEL = """\
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
vllm:num_requests_waiting{engine="0",model_name="m"} 0.0
vllm:num_requests_waiting{engine="1",model_name="m"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.2
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.6
"""

VLLM_OTHER_MODEL_TOO = """\
vllm:num_requests_running{engine="0",model_name="other"} 50.0
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="0",model_name="other"} 60.0
vllm:num_requests_waiting{engine="0",model_name="m"} 0.0
vllm:kv_cache_usage_perc{engine="0",model_name="other"} 0.9
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.1
"""

SGLANG = """\
# HELP sglang:num_running_reqs The number of running requests.
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 6.0
sglang:num_running_reqs_offline_batch{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 1.0
# TYPE sglang:num_queue_reqs gauge
sglang:num_queue_reqs{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 2.0
# TYPE sglang:token_usage gauge
sglang:token_usage{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 0.28
sglang:num_used_tokens{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 1234.0
"""

# Two data-parallel ranks; both tensor-parallel workers of a rank tell of the same queue.
SGLANG_RANKS = "".join(
    f'sglang:{name}{{dp_rank="{dp}",model_name="m",tp_rank="{tp}"}} {value}\n'
    for name, values in (("num_running_reqs", (6, 2)), ("num_queue_reqs", (1, 0)), ("token_usage", (0.5, 0.1)))
    for dp, value in enumerate(values)
    for tp in (0, 1)
)

TGI = """\
# TYPE tgi_queue_size gauge
tgi_queue_size 7
# TYPE tgi_batch_current_size gauge
tgi_batch_current_size 4
# TYPE tgi_batch_current_max_tokens gauge
tgi_batch_current_max_tokens 2048
# TYPE tgi_request_queue_duration histogram
tgi_request_queue_duration_bucket{le="0.1"} 12
"""

LLAMACPP = """\
# HELP llamacpp:requests_processing Number of requests processing.
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 2
# HELP llamacpp:requests_deferred Number of requests deferred.
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 1
llamacpp:predicted_tokens_seconds 41.5
llamacpp:n_busy_slots_per_decode 1.5
"""

TRITON_PLAIN = """\
# TYPE nv_inference_exec_count counter
nv_inference_exec_count{model="m",version="1"} 4711
# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{model="m",version="1"} 6
nv_inference_pending_request_count{model="preprocessing",version="1"} 99
"""

TRITON_TRTLLM = """\
nv_inference_pending_request_count{model="tensorrt_llm",version="1"} 77
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="active",version="1"} 9
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="scheduled",version="1"} 5
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="waiting",version="1"} 4
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="max",version="1"} 512
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="tensorrt_llm",version="1"} 0.4875
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="tensorrt_llm",version="1"} 64
"""

Values = tuple[float | None, float | None, float | None]


@pytest.mark.parametrize(
    ("engine", "text", "expected"),
    [
        pytest.param("vllm", VLLM_NEW, (3, 5, 0.42), id="vllm, newer names: only capacity waits"),
        pytest.param("vllm", VLLM_OLD, (3, 9, 0.25), id="vllm, older names"),
        pytest.param("vllm", VLLM_BOTH, (3, 9, 0.5), id="vllm, both: the newer name wins"),
        pytest.param("vllm", VLLM_PREFIX_TRAP, (1, None, None), id="vllm, longer names are other metrics"),
        pytest.param("vllm", VLLM_DATA_PARALLEL, (7, 2, 0.4), id="vllm, data-parallel ranks"),
        pytest.param("vllm", VLLM_OTHER_MODEL_TOO, (3, 0, 0.1), id="vllm, another model's series"),
        pytest.param("sglang", SGLANG, (6, 2, 0.28), id="sglang"),
        pytest.param("sglang", SGLANG_RANKS, (8, 1, 0.3), id="sglang, ranks of both kinds"),
        pytest.param("tgi", TGI, (4, 7, None), id="tgi: KV use is not said"),
        pytest.param("llamacpp", LLAMACPP, (2, 1, None), id="llamacpp: KV use is not said"),
        pytest.param("triton", TRITON_PLAIN, (None, 6, None), id="triton alone: only what is pending"),
        pytest.param("triton", TRITON_TRTLLM, (5, 4, 0.4875), id="triton with TensorRT-LLM, under its own model name"),
        pytest.param("tgi", VLLM_NEW + TGI + SGLANG, (4, 7, None), id="other engines' metrics do no harm"),
    ],
)
async def test_load_is_read_by_the_engines_own_names(
    engine: str,
    text: str,
    expected: Values,
    make_endpoint: Callable[..., Endpoint],
    serve: Callable[..., Awaitable[str]],
) -> None:
    address = await serve(_exposing(text))
    source = DirectScrape(TelemetryCounts())
    [sample] = await source.collect([make_endpoint(address, engine=engine)])
    await source.close()
    values = (sample.running_requests, sample.waiting_requests, sample.kv_cache_utilization_ratio)
    assert values == pytest.approx(expected)
    assert sample.endpoint == address


async def test_the_models_name_does_not_matter_where_a_server_has_one_model(
    make_endpoint: Callable[..., Endpoint], serve: Callable[..., Awaitable[str]]
) -> None:
    address = await serve(_exposing(VLLM_NEW))
    source = DirectScrape(TelemetryCounts())
    [sample] = await source.collect([make_endpoint(address, model="called-differently")])
    await source.close()
    assert sample.running_requests == 3


async def test_several_foreign_models_are_ambiguous_and_nothing_is_guessed(
    make_endpoint: Callable[..., Endpoint], serve: Callable[..., Awaitable[str]]
) -> None:
    address = await serve(_exposing(VLLM_OTHER_MODEL_TOO + 'vllm:gpu_cache_usage_perc{model_name="x"} 1\n'))
    good = await serve(_exposing(VLLM_OLD))
    counts = TelemetryCounts()
    source = DirectScrape(counts)
    endpoints = [make_endpoint(address, model="unknown"), make_endpoint(good, name="b")]
    [sample] = await source.collect(endpoints)
    await source.close()
    assert sample.endpoint == good
    assert counts.drops["DirectScrape", DropReason.AMBIGUOUS_MODEL] == 3


def test_every_engine_names_its_own_labels_wherever_it_uses_them() -> None:
    for engine, metrics in ENGINES.items():
        gauges = (*metrics.running, *metrics.waiting, *metrics.kv_cache_utilization)
        used = {label for gauge in gauges for label in gauge.labels}
        used |= {label for label in (metrics.model_label, metrics.rank_label) if label is not None}
        assert used <= metrics.own_labels, engine


def _exposing(text: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=text)

    return answer
