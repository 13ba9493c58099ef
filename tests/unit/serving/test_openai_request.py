"""What routing reads out of an HTTP request, and what it refuses."""

import json
from typing import Any

import pytest

from pointsman_operator.decision import ObjectiveOverrides, RouteQuery
from pointsman_operator.errors import InvalidRequestError
from pointsman_operator.serving.openai_request import read_request

CHAT = "/v1/chat/completions"
BODY = {"model": "edge-chat", "messages": [{"role": "user", "content": "hi"}]}


def post(path: str, body: Any, **headers: str) -> RouteQuery:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_request("POST", path, named, content)


@pytest.mark.parametrize(
    ("path", "fields", "prompt", "tokens"),
    [
        ("/v1/completions", {"prompt": "once"}, "once", 0),
        ("/v1/completions", {"prompt": ["once", "upon"]}, "once\nupon", 0),
        ("/v1/completions", {"prompt": [1, 2, 3]}, "", 3),
        ("/v1/completions", {"prompt": [[1, 2], [3]]}, "", 3),
        ("/v1/completions?debug=1", {"prompt": None}, "", 0),
        (CHAT, {"messages": [{"content": "a"}, {"content": "b"}]}, "a\nb", 0),
        (CHAT, {"messages": [{"content": None, "tool_calls": [{"id": 1}]}, {"role": "user"}]}, "", 0),
        (CHAT, {"messages": [{"content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]}, "a\n", 0),
        ("/edge/v1/chat/completions/", {"messages": [{"content": "a"}]}, "a", 0),
        ("/v1/responses", {"input": "a", "instructions": "be brief"}, "be brief\na", 0),
        ("/v1/responses", {"input": [{"role": "user", "content": [{"text": "a"}]}, {"type": "reasoning"}]}, "a", 0),
        ("/v1/embeddings", {"input": ["a", "b"]}, "a\nb", 0),
        ("/v1/embeddings", {"input": [7, 8]}, "", 2),
        ("/v1/rerank", {"query": "a", "documents": 5}, "", 0),
    ],
)
def test_the_prompt_of_every_surface_is_found(path: str, fields: dict[str, Any], prompt: str, tokens: int) -> None:
    query = post(path, {"model": "edge-chat", **fields})
    assert (query.model, query.prompt, query.prompt_tokens) == ("edge-chat", prompt, tokens)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 0),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7}, 7),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ({"max_tokens": None}, 0),
        ({"max_tokens": -1}, 0),
        ({"max_tokens": 10**30}, 10**9),
    ],
)
def test_the_limit_of_the_answer_is_read(fields: dict[str, Any], expected: int) -> None:
    assert post(CHAT, BODY | fields).max_output_tokens == expected


def test_streaming_request_id_and_subset_are_passed_on() -> None:
    body = json.dumps(BODY | {"stream": True}).encode()
    query = read_request("POST", CHAT, {"x-request-id": "r" * 200}, body, frozenset({"10.0.0.1:80"}))
    assert query.streaming
    assert query.request_id == "r" * 128
    assert query.subset == frozenset({"10.0.0.1:80"})
    assert not post(CHAT, BODY | {"stream": None}).streaming


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_methods_without_a_body_go_to_any_expert(method: str) -> None:
    assert read_request(method, CHAT, {}, b"").model == ""


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        (CHAT, b"\x1f\x8b\x08rubbish", {"content_encoding": "gzip"}),
        ("/v1/audio/transcriptions", b"--boundary", {"content_type": "multipart/form-data; boundary=boundary"}),
        ("/v1/unload", b"", {}),
        ("/v1/unload", b"{}", {"content_type": "application/json"}),
    ],
)
def test_what_cannot_be_read_is_routed_on_its_headers(path: str, body: bytes, headers: dict[str, str]) -> None:
    query = post(path, body, **headers, x_slo_ttft_ms="200")
    assert query.model == ""
    assert query.objectives.ttft_seconds == 0.2


@pytest.mark.parametrize(
    ("path", "body", "hint"),
    [
        (CHAT, b"", "empty"),
        (CHAT, b"{", "not valid JSON"),
        (CHAT, b'{"model": "a"} trailing', "not valid JSON"),
        (CHAT, b'{"model": "\xc3"}', "UTF-8"),
        (CHAT, b"[]", "Expected `object`"),
        (CHAT, b"{}", 'no "model"'),
        (CHAT, {"model": ""}, 'no "model"'),
        (CHAT, {"model": None}, "$.model"),
        (CHAT, {"model": ["a"]}, "$.model"),
        (CHAT, BODY | {"messages": "hi"}, "$.messages"),
        (CHAT, BODY | {"messages": ["hi"]}, "$.messages[0]"),
        (CHAT, BODY | {"messages": [{"content": {"text": "hi"}}]}, "$.messages[0].content"),
        (CHAT, BODY | {"max_tokens": "5"}, "$.max_tokens"),
        (CHAT, BODY | {"stream": "yes"}, "$.stream"),
        ("/v1/completions", {"model": "a", "prompt": 5}, "$.prompt"),
        ("/v1/completions", {"model": "a", "prompt": [1.5]}, "$.prompt[0]"),
        ("/v1/embeddings", {"model": "a", "input": True}, "$.input"),
        ("/v1/unknown", b'{"model": 5}', "$.model"),
        ("/v1/unknown", b"{", "not valid JSON"),
    ],
)
def test_a_body_that_an_expert_would_refuse_is_refused_with_the_place(path: str, body: Any, hint: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        post(path, body)
    assert hint in str(raised.value)


def test_no_error_quotes_the_prompt() -> None:
    with pytest.raises(InvalidRequestError) as raised:
        post(CHAT, BODY | {"messages": [{"content": "a secret"}], "stream": "a secret"})
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, ObjectiveOverrides()),
        ({"x-llm-d-slo-ttft-ms": "250"}, ObjectiveOverrides(ttft_seconds=0.25)),
        ({"x-slo-tpot-ms": "12.5"}, ObjectiveOverrides(tpot_seconds=0.0125)),
        ({"x-slo-ttft-ms": "1", "x-llm-d-slo-ttft-ms": "500"}, ObjectiveOverrides(ttft_seconds=0.5)),
        ({"x-pointsman-slo-ntpot-ms": "30"}, ObjectiveOverrides(ntpot_seconds=0.03)),
        ({"x-llm-d-slo-tpot-ms": "0"}, ObjectiveOverrides(tpot_seconds=0.0)),
    ],
)
def test_objectives_come_from_headers(headers: dict[str, str], expected: ObjectiveOverrides) -> None:
    assert read_request("GET", "/", headers, b"").objectives == expected


@pytest.mark.parametrize("value", ["", "fast", "-1", "nan", "inf", "1e99", "100ms"])
@pytest.mark.parametrize("name", ["x-llm-d-slo-ttft-ms", "x-slo-tpot-ms", "x-pointsman-slo-ntpot-ms"])
def test_an_objective_that_makes_no_sense_names_header_and_remedy(name: str, value: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"header {name} must be a number of milliseconds"):
        read_request("GET", "/", {name: value}, b"")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 0),
        ({"x-llm-d-inference-objective": "critical"}, 0),
        ({"x-llm-d-inference-objective": "sheddable"}, -1),
        ({"x-gateway-inference-objective": "-5"}, -5),
        ({"x-gateway-inference-objective": "5", "x-llm-d-inference-objective": "7"}, 7),
        ({"x-llm-d-inference-objective": ""}, 0),
        ({"x-llm-d-inference-objective": "--5"}, 0),
    ],
)
def test_priority_comes_from_the_objective(headers: dict[str, str], expected: int) -> None:
    assert read_request("GET", "/", headers, b"").priority == expected


@pytest.mark.parametrize("value", ["1001", "-1001", "9" * 5000])
def test_a_priority_out_of_range_is_refused(value: str) -> None:
    with pytest.raises(InvalidRequestError, match="from -1000 to 1000"):
        read_request("GET", "/", {"x-llm-d-inference-objective": value}, b"")
