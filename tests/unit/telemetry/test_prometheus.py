"""Prometheus answers of every kind, from a local server that plays Prometheus."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.errors import TelemetryError
from pointsman_operator.telemetry.prometheus import PrometheusSource
from pointsman_operator.telemetry.protocols import DropReason, TelemetryCounts
from pointsman_operator.telemetry.sample import LoadSample

NOW = 1_800_000_000.0
RUNNING, WAITING, KV = "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"
A, B = "10.0.0.1:8000", "10.0.0.2:8000"

Serve = Callable[..., Awaitable[str]]
MakeEndpoint = Callable[..., Endpoint]


def series(metric: str, *values: tuple[Any, Any], instance: str = A, **labels: str) -> dict[str, Any]:
    return {
        "metric": {"__name__": metric, "instance": instance, "job": "experts", "model_name": "m", **labels},
        "values": [list(value) for value in values],
    }


def at(value: Any, seconds_ago: float = 1.0) -> tuple[float, Any]:
    return NOW - seconds_ago, value


def matrix(*result: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "matrix", "result": list(result)}}


def three(instance: str, running: float, waiting: float, kv: float, ago: float = 1.0, **labels: str) -> list[Any]:
    values = ((RUNNING, running), (WAITING, waiting), (KV, kv))
    return [series(metric, at(str(value), ago), instance=instance, **labels) for metric, value in values]


GOOD = three(A, 3, 1, 0.5)


async def test_each_experts_newest_sample_keeps_its_own_time(make_endpoint: MakeEndpoint, serve: Serve) -> None:
    answer = matrix(
        series(RUNNING, at("1", 12), at("2", 7), at("3", 2)),
        series(WAITING, at("4", 7), at("5", 2)),
        *three(B, 6, 7, 0.8, ago=9),
    )
    samples, counts, source = await _collect(serve, answer, [make_endpoint(A), make_endpoint(B, name="b")])
    assert samples == [LoadSample(A, NOW - 2, 3, 5, None), LoadSample(B, NOW - 9, 6, 7, 0.8)]
    assert counts.drops.total() == 0
    assert source.problem is None


async def test_a_series_that_the_last_scrape_no_longer_had_is_past(make_endpoint: MakeEndpoint, serve: Serve) -> None:
    gone = series(RUNNING, at("40", 6), engine="1")
    answer = matrix(*three(A, 3, 1, 0.5, engine="0"), gone)
    [sample], _, _ = await _collect(serve, answer, [make_endpoint(A)])
    assert sample.running_requests == 3


async def test_data_parallel_ranks_are_added_and_their_kv_use_averaged(
    make_endpoint: MakeEndpoint, serve: Serve
) -> None:
    answer = matrix(*three(A, 3, 1, 0.5, engine="0"), *three(A, 4, 0, 0.1, engine="1"))
    [sample], _, _ = await _collect(serve, answer, [make_endpoint(A)])
    assert (sample.running_requests, sample.waiting_requests) == (7, 1)
    assert sample.kv_cache_utilization_ratio == pytest.approx(0.3)


@pytest.mark.parametrize("label", ["job", "prometheus_replica", "cluster", "container"])
async def test_two_scrapes_of_one_expert_are_never_added_up(
    label: str, make_endpoint: MakeEndpoint, serve: Serve
) -> None:
    older, newer = three(A, 3, 1, 0.5, ago=4, **{label: "x"}), three(A, 5, 2, 0.6, ago=2, **{label: "y"})
    [sample], _, _ = await _collect(serve, matrix(*newer, *older), [make_endpoint(A)])
    assert sample == LoadSample(A, NOW - 2, 5, 2, 0.6)


async def test_of_two_equally_new_scrapes_the_fuller_one_counts(make_endpoint: MakeEndpoint, serve: Serve) -> None:
    answer = matrix(series(RUNNING, at("9"), job="a"), *three(A, 3, 1, 0.5, job="b"))
    [sample], _, _ = await _collect(serve, answer, [make_endpoint(A)])
    assert sample.waiting_requests == 1


async def test_series_of_experts_not_asked_for_are_left_alone(make_endpoint: MakeEndpoint, serve: Serve) -> None:
    samples, _, _ = await _collect(serve, matrix(*GOOD, *three("10.0.0.11:8000", 9, 9, 0.9)), [make_endpoint(A)])
    assert [sample.endpoint for sample in samples] == [A]


async def test_one_query_asks_for_all_experts_by_their_escaped_addresses(
    make_endpoint: MakeEndpoint, serve: Serve
) -> None:
    queries: list[str] = []
    endpoints = [make_endpoint(A), make_endpoint("[fd00::1]:8000", name="b", engine="tgi")]
    await _collect(serve, matrix(*GOOD), endpoints, queries)
    assert queries == [
        '{__name__=~"tgi_batch_current_size|tgi_queue_size|vllm:gpu_cache_usage_perc|vllm:kv_cache_usage_perc|'
        'vllm:num_requests_running|vllm:num_requests_waiting|vllm:num_requests_waiting_by_reason",'
        r'instance=~"10\\.0\\.0\\.1:8000|\\[fd00::1\\]:8000"}[15000ms]'
    ]


async def test_more_experts_than_fit_into_one_address_line_take_several_queries(
    make_endpoint: MakeEndpoint, serve: Serve
) -> None:
    queries: list[str] = []
    endpoints = [make_endpoint(f"10.0.{number // 200}.{number % 200}:8000", name=f"e{number}") for number in range(250)]
    await _collect(serve, matrix(*GOOD, *three("10.0.1.49:8000", 1, 1, 1)), endpoints, queries)
    assert len(queries) == 3
    assert all(len(query) < 8_000 for query in queries)


async def test_a_pod_scraped_on_another_port_is_found_by_namespace_and_name(
    make_endpoint: MakeEndpoint, serve: Serve
) -> None:
    queries: list[str] = []
    endpoints = [make_endpoint(A, name="chat-0", namespace="edge")]
    answer = matrix(*three("10.0.0.1:9400", 3, 1, 0.5, namespace="edge", pod="chat-0"))
    [sample], _, _ = await _collect(serve, answer, endpoints, queries)
    assert sample == LoadSample(A, NOW - 1, 3, 1, 0.5)
    assert 'namespace=~"edge",pod=~"chat\\\\-0"' in queries[1]


@pytest.mark.parametrize("instance", ["10.0.0.{}:8000", "10.0.0.{}:9400", "chat-0"])
async def test_two_policies_with_pods_of_equal_names_in_two_namespaces_do_not_mix(
    instance: str, make_endpoint: MakeEndpoint, serve: Serve
) -> None:
    answer = matrix(
        *three(instance.format(1), 3, 1, 0.5, namespace="edge", pod="chat-0"),
        *three(instance.format(2), 8, 4, 0.9, namespace="office", pod="chat-0"),
    )
    for address, namespace, running in ((A, "edge", 3), (B, "office", 8)):
        queries: list[str] = []
        policy = [make_endpoint(address, name="chat-0", namespace=namespace)]
        [sample], _, source = await _collect(serve, answer, policy, queries)
        assert (sample.endpoint, sample.running_requests, source.problem) == (address, running, None)
        others = {"edge", "office"} - {namespace}
        assert not any(f'"{other}' in query for other in others for query in queries)


@pytest.mark.parametrize(
    "labels",
    [
        {"instance": A, "namespace": "edge", "pod": "chat-1"},
        {"instance": A, "namespace": "other", "pod": "chat-0"},
        {"instance": "10.9.9.9:8000", "namespace": "edge", "pod": "chat-0"},
        {"instance": "chat-0", "namespace": "edge", "pod": "chat-00"},
    ],
)
async def test_another_pods_series_are_not_taken_for_the_experts(
    labels: dict[str, str], make_endpoint: MakeEndpoint, serve: Serve
) -> None:
    endpoints = [make_endpoint(A, name="chat-0", namespace="edge"), make_endpoint(B, name="b", namespace="edge")]
    others = [series(metric, at("9"), **labels) for metric in (RUNNING, WAITING)]
    samples, _, source = await _collect(serve, matrix(*three(B, 1, 1, 0.1), *others), endpoints)
    assert [sample.endpoint for sample in samples] == [B]
    assert "1 of 2 experts (chat-0)" in str(source.problem)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        pytest.param(series(RUNNING, at("NaN")), DropReason.NOT_A_NUMBER, id="NaN"),
        pytest.param(series(RUNNING, at("+Inf")), DropReason.INFINITE, id="infinite"),
        pytest.param(series(RUNNING, at("-3")), DropReason.NEGATIVE, id="negative"),
        pytest.param(series(RUNNING, at("1e12")), DropReason.OUT_OF_RANGE, id="absurdly many"),
        pytest.param(series(RUNNING, at("many")), DropReason.MALFORMED, id="a word"),
        pytest.param(series(RUNNING, at("1_0")), DropReason.MALFORMED, id="digit groups"),
        pytest.param(series(RUNNING, at(None)), DropReason.MALFORMED, id="null"),
        pytest.param(series(RUNNING, at(3)), DropReason.MALFORMED, id="not a string"),
        pytest.param(series(RUNNING, (NOW + 3600, "3")), DropReason.FUTURE, id="tomorrow"),
        pytest.param(series(RUNNING, (float("nan"), "3")), DropReason.MALFORMED, id="no time"),
        pytest.param(series(RUNNING, ("yesterday", "3")), DropReason.MALFORMED, id="time is a word"),
        pytest.param(series(RUNNING, (10**400, "3")), DropReason.MALFORMED, id="time is no float"),
        pytest.param(series(RUNNING), DropReason.MALFORMED, id="no values"),
        pytest.param({"metric": {"__name__": RUNNING, "instance": A}}, DropReason.MALFORMED, id="values missing"),
        pytest.param(
            {"metric": {"__name__": RUNNING, "instance": A}, "value": [NOW, "3"]}, DropReason.MALFORMED, id="a vector"
        ),
        pytest.param({"metric": {"instance": A}, "values": [[NOW, "3"]]}, DropReason.MALFORMED, id="no name"),
        pytest.param({"metric": None, "values": [[NOW, "3"]]}, DropReason.MALFORMED, id="no labels"),
        pytest.param(
            {"metric": {"__name__": RUNNING, "instance": A, "x": []}, "values": [[NOW - 1, "3"]]},
            DropReason.MALFORMED,
            id="a label that is a list",
        ),
        pytest.param("series", DropReason.MALFORMED, id="a string for a series"),
        pytest.param(None, DropReason.MALFORMED, id="null for a series"),
    ],
)
async def test_a_series_that_makes_no_sense_is_missing_and_counted(
    bad: Any, reason: DropReason, make_endpoint: MakeEndpoint, serve: Serve
) -> None:
    [sample], counts, _ = await _collect(serve, matrix(bad, *GOOD[1:]), [make_endpoint(A)])
    assert sample == LoadSample(A, NOW - 1, None, 1, 0.5)
    assert counts.drops == {("Prometheus", reason): 1}


@pytest.mark.parametrize(("exposed", "read"), [("1.2", 1.0), ("1.5", 1.0), ("1.6", None), ("42", None)])
async def test_kv_use_is_clipped_a_little_above_one_and_dropped_beyond(
    exposed: str, read: float | None, make_endpoint: MakeEndpoint, serve: Serve
) -> None:
    [sample], _, _ = await _collect(serve, matrix(*GOOD[:2], series(KV, at(exposed))), [make_endpoint(A)])
    assert sample.kv_cache_utilization_ratio == read


async def test_a_clock_a_little_ahead_of_ours_means_now(make_endpoint: MakeEndpoint, serve: Serve) -> None:
    [sample], _, _ = await _collect(serve, matrix(*three(A, 3, 1, 0.5, ago=-2)), [make_endpoint(A)])
    assert sample.sampled_at == NOW


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param("<html>Welcome</html>", "does not answer as a Prometheus does; check prometheusUrl", id="HTML"),
        pytest.param("", "does not answer as a Prometheus does", id="nothing"),
        pytest.param("[]", "does not answer as a Prometheus does", id="a list"),
        pytest.param("null", "does not answer as a Prometheus does", id="null"),
        pytest.param('{"status":"success"}', "does not answer as a Prometheus does", id="no data"),
        pytest.param('{"data":{"result":{}}}', "does not answer as a Prometheus does", id="result is no list"),
        pytest.param('{"data":{"result":', "does not answer as a Prometheus does", id="cut off"),
        pytest.param("[" * 100_000, "does not answer as a Prometheus does", id="nested too deep"),
        pytest.param("1" * 5_000, "does not answer as a Prometheus does", id="an endless number"),
        pytest.param(json.dumps(matrix()), r"knows nothing of 1 of 1 experts \(a\)", id="empty result"),
        pytest.param(" " * 200_000, "answer above 100000 bytes", id="huge"),
    ],
)
async def test_a_useless_answer_is_an_error_that_says_what_to_do(
    body: str, message: str, make_endpoint: MakeEndpoint, serve: Serve
) -> None:
    with pytest.raises(TelemetryError, match=message):
        await _collect(serve, body, [make_endpoint(A)])


@pytest.mark.parametrize("status", [302, 400, 404, 422, 500, 503])
async def test_an_error_status_is_an_error_that_shows_it(
    status: int, make_endpoint: MakeEndpoint, serve: Serve
) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({"status": "error", "error": "x" * 10_000}, status=status)

    with pytest.raises(TelemetryError, match=f"refused the query: HTTP Status Code {status}") as caught:
        await _collect_from(f"http://{await serve(answer)}", [make_endpoint(A)])
    assert len(str(caught.value)) < 400


async def test_nobody_listening_is_an_error(make_endpoint: MakeEndpoint) -> None:
    with pytest.raises(TelemetryError, match=r"http://127\.0\.0\.1:1 cannot be reached; check prometheusUrl"):
        await _collect_from("http://127.0.0.1:1/", [make_endpoint(A)])


async def _silent(_request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def _dripping(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("handler", [_silent, _dripping])
async def test_a_slow_server_is_given_up_at_the_deadline_and_asked_again(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], make_endpoint: MakeEndpoint, serve: Serve
) -> None:
    counts = TelemetryCounts()
    source = PrometheusSource(f"http://{await serve(handler)}", counts, timeout_seconds=0.1)
    for _ in range(2):
        with pytest.raises(TelemetryError, match=r"did not answer within 0\.1 s"):
            await source.collect([make_endpoint(A)])
    await source.close()
    assert counts.collections == {("Prometheus", False): 2}


async def test_a_cut_off_answer_is_an_error(make_endpoint: MakeEndpoint, serve: Serve) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"status":')
        assert request.transport is not None
        request.transport.close()
        return response

    with pytest.raises(TelemetryError, match="cannot be reached"):
        await _collect_from(f"http://{await serve(answer)}", [make_endpoint(A)])


async def test_the_path_of_the_url_is_kept(make_endpoint: MakeEndpoint, serve: Serve) -> None:
    paths: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.json_response(matrix(*GOOD))

    await _collect_from(f"http://{await serve(answer)}/prometheus/", [make_endpoint(A)])
    assert paths == ["/prometheus/api/v1/query"]


async def _collect(
    serve: Serve, answer: object, endpoints: list[Endpoint], queries: list[str] | None = None
) -> tuple[list[LoadSample], TelemetryCounts, PrometheusSource]:
    async def respond(request: web.Request) -> web.Response:
        if queries is not None:
            queries.append(request.query["query"])
        return web.Response(text=answer if isinstance(answer, str) else json.dumps(answer))

    return await _collect_from(f"http://{await serve(respond)}", endpoints)


async def _collect_from(
    url: str, endpoints: list[Endpoint]
) -> tuple[list[LoadSample], TelemetryCounts, PrometheusSource]:
    counts = TelemetryCounts()
    source = PrometheusSource(url, counts, clock=lambda: NOW, maximum_bytes=100_000)
    try:
        return await source.collect(endpoints), counts, source
    finally:
        await source.close()
