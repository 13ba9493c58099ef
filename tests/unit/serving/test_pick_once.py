"""BUFFERED and NONE: pick, say so, leave."""

import gzip
import json

import pytest
from tests.unit.serving.conftest import (
    ADDRESSES,
    CHAT_HEADERS,
    GET_HEADERS,
    FakeRouting,
    ManualClock,
    chat,
    error_body,
    metadata,
    request_body,
    request_headers,
    request_trailers,
    response_headers,
    set_headers,
)

from pointsman.envoy.v3 import external_processor_pb2 as pb
from pointsman_operator.decision import OutcomeStatus
from pointsman_operator.errors import ShedError
from pointsman_operator.metrics import Metrics
from pointsman_operator.serving.conversation import Conversation, MalformedStreamError
from pointsman_operator.serving.destinations import Destinations
from pointsman_operator.serving.ext_proc import begin

BOTH = ",".join(ADDRESSES)
PICK_HEADERS = {"x-gateway-destination-endpoint": BOTH, "x-envoy-max-retries": "1"}


def start(destinations: Destinations, first: pb.ProcessingRequest) -> tuple[Conversation, list[pb.ProcessingResponse]]:
    _, conversation = begin(first, destinations, ManualClock())
    return conversation, list(conversation.receive(first))


def ask(
    destinations: Destinations, body: bytes, first: pb.ProcessingRequest | None = None
) -> tuple[Conversation, pb.ProcessingResponse]:
    """Send headers and a body; return the answer to the body."""
    conversation, (answer,) = start(destinations, first or request_headers(mode="BUFFERED"))
    assert answer.WhichOneof("response") == "request_headers"
    finished = [conversation.finished]
    (answer,) = conversation.receive(request_body(body))
    finished.append(conversation.finished)
    assert finished == [False, True]
    return conversation, answer


def test_the_pick_is_told_as_header_and_metadata_and_ends_the_stream(destinations: Destinations) -> None:
    _, answer = ask(destinations, chat())
    common = answer.request_body.response
    assert set_headers(common.header_mutation) == PICK_HEADERS
    assert common.clear_route_cache
    assert not common.HasField("body_mutation")
    assert metadata(answer) == {
        "envoy.lb": {"x-gateway-destination-endpoint": BOTH},
        "pointsman": {"decision_id": "decision-1"},
    }


def test_a_rewritten_model_comes_with_the_new_length(destinations: Destinations, routing: FakeRouting) -> None:
    routing.model_rewrite = "qwen-0.5b"
    _, answer = ask(destinations, chat("héllo"))
    common = answer.request_body.response
    assert json.loads(common.body_mutation.body)["model"] == "qwen-0.5b"
    assert set_headers(common.header_mutation)["content-length"] == str(len(common.body_mutation.body))


def test_a_request_without_body_is_routed_by_its_headers(destinations: Destinations, routing: FakeRouting) -> None:
    routing.model_rewrite = "qwen-0.5b"
    first = request_headers(GET_HEADERS, mode="BUFFERED", end_of_stream=True)
    conversation, (answer,) = start(destinations, first)
    assert set_headers(answer.request_headers.response.header_mutation) == PICK_HEADERS
    assert conversation.finished
    assert routing.queries[0].model == ""


def test_mode_none_is_routed_by_headers_alone(destinations: Destinations, routing: FakeRouting) -> None:
    conversation, (answer,) = start(destinations, request_headers(mode="NONE"))
    assert answer.request_headers.response.clear_route_cache
    assert conversation.finished
    assert routing.queries[0].model == ""


@pytest.mark.parametrize("mode", ["STREAMED", "BUFFERED_PARTIAL"])
def test_a_mode_that_cannot_be_routed_says_which_can(destinations: Destinations, mode: str) -> None:
    conversation, (answer,) = start(destinations, request_headers(mode=mode))
    assert answer.immediate_response.status.code == 500
    assert mode in error_body(answer)["message"]
    assert "FULL_DUPLEX_STREAMED" in error_body(answer)["message"]
    assert conversation.finished


def test_a_mode_from_the_future_is_refused_and_not_a_crash(destinations: Destinations) -> None:
    first = request_headers(mode="BUFFERED")
    first.protocol_config.request_body_mode = 99  # type: ignore[assignment]
    _, (answer,) = start(destinations, first)
    assert answer.immediate_response.status.code == 500


def test_the_model_list_is_answered_directly(destinations: Destinations, routing: FakeRouting) -> None:
    first = request_headers({":method": "GET", ":path": "/v1/models?limit=5"}, mode="BUFFERED", end_of_stream=True)
    conversation, (answer,) = start(destinations, first)
    assert answer.immediate_response.status.code == 200
    assert set_headers(answer.immediate_response.headers) == {"content-type": "application/json"}
    listed = json.loads(answer.immediate_response.body)
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["edge-chat", "auto"]
    assert conversation.finished
    assert not routing.queries


@pytest.mark.parametrize(
    ("body", "status", "hint"),
    [
        (b"", 400, "empty"),
        (b'{"model": "edge-chat"', 400, "not valid JSON"),
        (b"[1, 2]", 400, "Expected `object`"),
        (b'{"messages": []}', 400, 'no "model"'),
        (b'{"model": ""}', 400, 'no "model"'),
        (b'{"model": 5}', 400, "$.model"),
        (b'{"model": "\xff"}', 400, "UTF-8"),
        (b'{"model": "edge-chat", "messages": [{"content": 5}]}', 400, "$.messages[0].content"),
        (b'{"model": "unheard-of"}', 404, "unheard-of"),
    ],
)
def test_a_bad_body_gets_an_openai_error(destinations: Destinations, body: bytes, status: int, hint: str) -> None:
    _, answer = ask(destinations, body)
    assert answer.immediate_response.status.code == status
    error = error_body(answer)
    assert hint in error["message"]
    assert error["code"] == status
    assert error["type"] in ("invalid_request_error", "not_found_error")
    assert metadata(answer)["pointsman"]["error"] == error["type"]


def test_a_body_over_the_cap_is_413(routing: FakeRouting, metrics: Metrics) -> None:
    _, answer = ask(Destinations(routing, metrics, max_body_bytes=100), chat("x" * 100))
    assert answer.immediate_response.status.code == 413
    assert not routing.queries
    assert metrics.registry.get_sample_value(
        "pointsman_requests_total", {"surface": "ext_proc", "policy": "", "code": "413"}
    )


def test_a_shed_request_says_why(destinations: Destinations, routing: FakeRouting) -> None:
    routing.error = ShedError("every expert is saturated; try again later")
    _, answer = ask(destinations, chat())
    assert answer.immediate_response.status.code == 429
    assert set_headers(answer.immediate_response.headers) == {
        "content-type": "application/json",
        "x-llm-d-request-dropped-reason": "rejected-saturated",
    }
    assert metadata(answer)["pointsman"]["dropped_reason"] == "rejected-saturated"


@pytest.mark.parametrize(
    ("subset", "expected"),
    [
        ([ADDRESSES[1]], ADDRESSES[1]),
        (f" {ADDRESSES[1]} , 10.9.9.9:80", ADDRESSES[1]),
        ([ADDRESSES[1], ADDRESSES[0]], BOTH),
        ([], None),
        ("", None),
        (["10.9.9.9:80"], None),
        (17, None),
        (["not an address"], None),
    ],
)
def test_the_subset_hint_limits_the_pick(destinations: Destinations, subset: object, expected: str | None) -> None:
    _, answer = ask(destinations, chat(), request_headers(mode="BUFFERED", subset=subset))
    if expected is None:
        assert answer.immediate_response.status.code == 503
        assert set_headers(answer.immediate_response.headers)["x-llm-d-request-dropped-reason"] == (
            "rejected-no-endpoints"
        )
    else:
        assert set_headers(answer.request_body.response.header_mutation)["x-gateway-destination-endpoint"] == expected


def test_a_compressed_body_goes_through_untouched(destinations: Destinations, routing: FakeRouting) -> None:
    routing.model_rewrite = "qwen-0.5b"
    first = request_headers({**CHAT_HEADERS, "content-encoding": "gzip"}, mode="BUFFERED")
    _, answer = ask(destinations, gzip.compress(chat()), first)
    assert answer.request_body.response.clear_route_cache
    assert not answer.request_body.response.HasField("body_mutation")
    assert routing.queries[0].model == ""


def test_a_routing_failure_leaves_the_choice_to_the_gateway_but_not_to_the_client(
    destinations: Destinations, routing: FakeRouting, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    routing.error = ZeroDivisionError("a bug")
    _, answer = ask(destinations, chat("a secret prompt"))
    mutation = answer.request_body.response.header_mutation
    assert list(mutation.remove_headers) == ["x-gateway-destination-endpoint"]
    assert not mutation.set_headers
    assert metrics.registry.get_sample_value("pointsman_routing_errors_total", {"surface": "ext_proc"}) == 1
    assert "secret" not in caplog.text
    first = request_headers(GET_HEADERS, mode="BUFFERED", end_of_stream=True)
    _, (answer,) = start(destinations, first)
    assert list(answer.request_headers.response.header_mutation.remove_headers) == ["x-gateway-destination-endpoint"]


def test_a_spoofed_destination_is_overwritten(destinations: Destinations) -> None:
    first = request_headers({**CHAT_HEADERS, "x-gateway-destination-endpoint": "6.6.6.6:80"}, mode="BUFFERED")
    _, answer = ask(destinations, chat(), first)
    assert set_headers(answer.request_body.response.header_mutation)["x-gateway-destination-endpoint"] == BOTH


@pytest.mark.parametrize(
    ("selection", "expected"),
    [("10.0.1.9", ADDRESSES[1]), (f"10.0.1.9, {ADDRESSES[0]}", f"{ADDRESSES[1]},{ADDRESSES[0]}"), ("10.9.9.9", None)],
)
def test_conformance_tests_may_choose_the_endpoint_where_that_is_enabled(
    routing: FakeRouting, metrics: Metrics, selection: str, expected: str | None
) -> None:
    destinations = Destinations(routing, metrics, honour_test_selection=True)
    first = request_headers({**CHAT_HEADERS, "test-epp-endpoint-selection": selection}, mode="BUFFERED")
    _, answer = ask(destinations, chat(), first)
    if expected is None:
        assert answer.immediate_response.status.code == 503
    else:
        headers = set_headers(answer.request_body.response.header_mutation)
        assert headers["x-gateway-destination-endpoint"] == expected


def test_clients_may_not_choose_the_endpoint_otherwise(destinations: Destinations) -> None:
    first = request_headers({**CHAT_HEADERS, "test-epp-endpoint-selection": "10.0.1.9"}, mode="BUFFERED")
    _, answer = ask(destinations, chat(), first)
    assert set_headers(answer.request_body.response.header_mutation)["x-gateway-destination-endpoint"] == BOTH


@pytest.mark.parametrize(
    "message", [request_headers(mode="BUFFERED"), request_trailers(), response_headers(), pb.ProcessingRequest()]
)
def test_anything_but_the_body_after_the_headers_is_an_error(
    destinations: Destinations, message: pb.ProcessingRequest
) -> None:
    conversation, _ = start(destinations, request_headers(mode="BUFFERED"))
    with pytest.raises(MalformedStreamError, match="expected request_body"):
        conversation.receive(message)


def test_a_body_without_end_of_stream_is_whole_when_trailers_follow(destinations: Destinations) -> None:
    conversation, _ = start(destinations, request_headers(mode="BUFFERED"))
    (answer,) = conversation.receive(request_body(chat(), end_of_stream=False))
    assert answer.request_body.response.clear_route_cache


def test_a_pick_that_never_reached_the_gateway_is_cancelled(destinations: Destinations, routing: FakeRouting) -> None:
    conversation, _ = ask(destinations, chat())
    conversation.closed(delivered=False)
    assert [outcome.status for outcome in routing.outcomes] == [OutcomeStatus.CANCELLED]
    assert not routing.open


def test_a_pick_that_was_delivered_stays_open_for_the_access_log(
    destinations: Destinations, routing: FakeRouting
) -> None:
    conversation, _ = ask(destinations, chat())
    conversation.closed(delivered=True)
    assert routing.open == {"decision-1"}


@pytest.mark.parametrize(("listed", "retries"), [(1, "0"), (2, "1"), (4, "3"), (6, "3")])
def test_retries_stay_within_the_list(
    destinations: Destinations, routing: FakeRouting, listed: int, retries: str
) -> None:
    routing.endpoints = (routing.endpoints * listed)[:listed]
    _, answer = ask(destinations, chat())
    assert set_headers(answer.request_body.response.header_mutation)["x-envoy-max-retries"] == retries
