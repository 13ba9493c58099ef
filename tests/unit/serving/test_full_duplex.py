"""FULL_DUPLEX_STREAMED: the Endpoint Picker Protocol's own mode, both legs."""

import gzip
import json
from collections.abc import Iterable, Sequence

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
    response_body,
    response_headers,
    response_trailers,
    set_headers,
)

from pointsman.envoy.v3 import external_processor_pb2 as pb
from pointsman_operator.decision import Outcome, OutcomeStatus
from pointsman_operator.errors import ShedError
from pointsman_operator.metrics import Metrics
from pointsman_operator.serving.conversation import Conversation, MalformedStreamError
from pointsman_operator.serving.destinations import Destinations
from pointsman_operator.serving.ext_proc import begin

BOTH = ",".join(ADDRESSES)
PICK_HEADERS = {"x-gateway-destination-endpoint": BOTH, "x-envoy-max-retries": "1"}
DONE = b"data: [DONE]\n\n"


def event(text: str = "x", **fields: object) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}], **fields}).encode() + b"\n\n"


def usage_event(tokens: int) -> bytes:
    usage = {"prompt_tokens": 5, "completion_tokens": tokens}
    return b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"


class Gateway:
    """Speaks to one conversation and keeps what it says."""

    def __init__(self, destinations: Destinations, clock: ManualClock | None = None) -> None:
        self._destinations = destinations
        self._clock = clock or ManualClock()
        self.conversation: Conversation | None = None

    def send(self, message: pb.ProcessingRequest) -> list[pb.ProcessingResponse]:
        if self.conversation is None:
            self.mode, self.conversation = begin(message, self._destinations, self._clock)
        return list(self.conversation.receive(message))

    def send_all(self, messages: Iterable[pb.ProcessingRequest]) -> list[pb.ProcessingResponse]:
        return [answer for message in messages for answer in self.send(message)]

    @property
    def finished(self) -> bool:
        return self.conversation is not None and self.conversation.finished

    def close(self) -> None:
        if self.conversation:
            self.conversation.closed(delivered=True)


def in_chunks(body: bytes, size: int) -> Sequence[pb.ProcessingRequest]:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return [request_body(piece, end_of_stream=index == len(pieces) - 1) for index, piece in enumerate(pieces)]


def streamed_body(answers: Sequence[pb.ProcessingResponse]) -> bytes:
    """The body handed back; checks sizes and that exactly the last piece ends the stream."""
    pieces = [answer.request_body.response.body_mutation.streamed_response for answer in answers]
    assert [piece.end_of_stream for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert all(len(piece.body) <= 62_000 for piece in pieces)
    return b"".join(piece.body for piece in pieces)


@pytest.fixture
def gateway(destinations: Destinations, clock: ManualClock) -> Gateway:
    return Gateway(destinations, clock)


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_a_body_is_answered_only_at_its_end_however_it_is_split(
    gateway: Gateway, routing: FakeRouting, size: int
) -> None:
    body = chat("große Züge 🚂 und 'mehr'")
    assert gateway.send(request_headers()) == []
    *early, last = in_chunks(body, size)
    assert gateway.send_all(early) == []
    headers, *bodies = gateway.send(last)
    assert set_headers(headers.request_headers.response.header_mutation) == PICK_HEADERS
    assert headers.request_headers.response.clear_route_cache
    assert metadata(headers) == {
        "envoy.lb": {"x-gateway-destination-endpoint": BOTH},
        "pointsman": {"decision_id": "decision-1"},
    }
    assert streamed_body(bodies) == body
    assert routing.queries[0].prompt == "große Züge 🚂 und 'mehr'"
    assert not gateway.finished


def test_a_stream_without_protocol_config_is_full_duplex(gateway: Gateway) -> None:
    gateway.send(request_headers(mode=None))
    headers, body = gateway.send(request_body(chat()))
    assert gateway.mode == "FULL_DUPLEX_STREAMED"
    assert headers.request_headers.response.clear_route_cache
    assert streamed_body([body]) == chat()


def test_a_large_body_is_handed_on_in_pieces_that_envoy_takes(gateway: Gateway) -> None:
    body = chat("x" * 220_000)
    gateway.send(request_headers())
    _, *bodies = gateway.send_all(in_chunks(body, 65_536))
    assert len(bodies) == 4
    assert streamed_body(bodies) == body


def test_a_body_of_exactly_whole_pieces_ends_with_the_last_of_them(gateway: Gateway) -> None:
    body = chat()
    body += b" " * (124_000 - len(body))
    gateway.send(request_headers())
    _, *bodies = gateway.send(request_body(body))
    assert len(bodies) == 2
    assert streamed_body(bodies) == body


def test_an_empty_body_is_400_where_one_is_needed(gateway: Gateway) -> None:
    gateway.send(request_headers())
    (answer,) = gateway.send(request_body(b""))
    assert answer.immediate_response.status.code == 400
    assert gateway.finished


def test_an_empty_body_is_handed_on_where_none_is_needed(gateway: Gateway) -> None:
    gateway.send(request_headers({**CHAT_HEADERS, ":path": "/v1/unload"}))
    headers, body = gateway.send(request_body(b""))
    assert headers.request_headers.response.clear_route_cache
    assert streamed_body([body]) == b""


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b'{"model": "unheard-of"}', 404), (b"\xff\xfe", 400), (b"null", 400)]
)
def test_a_bad_body_is_refused_instead_of_any_other_answer(gateway: Gateway, body: bytes, status: int) -> None:
    gateway.send(request_headers())
    (answer,) = gateway.send(request_body(body))
    assert answer.immediate_response.status.code == status
    assert error_body(answer)["message"]
    assert gateway.finished


def test_a_body_over_the_cap_is_refused_before_it_has_ended(routing: FakeRouting, metrics: Metrics) -> None:
    gateway = Gateway(Destinations(routing, metrics, max_body_bytes=10))
    gateway.send(request_headers())
    assert gateway.send(request_body(b"x" * 10, end_of_stream=False)) == []
    (answer,) = gateway.send(request_body(b"x", end_of_stream=False))
    assert answer.immediate_response.status.code == 413


def test_shed_and_no_expert_are_told_apart(destinations: Destinations, routing: FakeRouting) -> None:
    empty_subset = Gateway(destinations)
    empty_subset.send(request_headers(subset=[]))
    (answer,) = empty_subset.send(request_body(chat()))
    assert answer.immediate_response.status.code == 503
    routing.error = ShedError("try again later")
    shed = Gateway(destinations)
    shed.send(request_headers())
    (answer,) = shed.send(request_body(chat()))
    assert answer.immediate_response.status.code == 429
    assert set_headers(answer.immediate_response.headers)["x-llm-d-request-dropped-reason"] == "rejected-saturated"


def test_a_routing_failure_is_503_because_the_gateway_cannot_choose_here(
    gateway: Gateway, routing: FakeRouting
) -> None:
    routing.error = KeyError("a bug")
    gateway.send(request_headers())
    (answer,) = gateway.send(request_body(chat("a secret prompt")))
    assert answer.immediate_response.status.code == 503
    assert b"a bug" not in answer.immediate_response.body


def test_a_rewritten_model_comes_with_the_new_length(gateway: Gateway, routing: FakeRouting) -> None:
    routing.model_rewrite = "qwen-0.5b"
    gateway.send(request_headers())
    headers, *bodies = gateway.send(request_body(chat()))
    body = streamed_body(bodies)
    assert json.loads(body)["model"] == "qwen-0.5b"
    assert set_headers(headers.request_headers.response.header_mutation)["content-length"] == str(len(body))


def test_a_get_is_picked_at_once_and_has_no_body_to_hand_on(gateway: Gateway) -> None:
    (headers,) = gateway.send(request_headers(GET_HEADERS, end_of_stream=True))
    assert headers.request_headers.response.clear_route_cache


def test_the_model_list_is_answered_directly(gateway: Gateway) -> None:
    (answer,) = gateway.send(request_headers({":method": "GET", ":path": "/v1/models"}, end_of_stream=True))
    assert json.loads(answer.immediate_response.body)["data"][0]["id"] == "edge-chat"
    assert gateway.finished


def test_request_trailers_end_the_body_and_are_answered_after_it(gateway: Gateway) -> None:
    gateway.send(request_headers())
    assert gateway.send(request_body(chat(), end_of_stream=False)) == []
    answers = gateway.send(request_trailers())
    assert [answer.WhichOneof("response") for answer in answers] == [
        "request_headers",
        "request_body",
        "request_trailers",
    ]
    assert not answers[1].request_body.response.body_mutation.streamed_response.end_of_stream


def test_a_compressed_body_goes_through_untouched(gateway: Gateway, routing: FakeRouting) -> None:
    routing.model_rewrite = "qwen-0.5b"
    body = gzip.compress(chat())
    gateway.send(request_headers({**CHAT_HEADERS, "content-encoding": "gzip"}))
    _, *bodies = gateway.send(request_body(body))
    assert streamed_body(bodies) == body


def routed(gateway: Gateway) -> Gateway:
    gateway.send_all([request_headers(), request_body(chat())])
    return gateway


def ends(routing: FakeRouting) -> list[Outcome]:
    return [outcome for outcome in routing.outcomes if outcome.status is not OutcomeStatus.IN_PROGRESS]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_an_event_stream_is_counted_however_it_is_split(
    gateway: Gateway, routing: FakeRouting, clock: ManualClock, size: int
) -> None:
    routed(gateway)
    clock.now += 0.25
    (answer,) = gateway.send(response_headers(served=ADDRESSES[1]))
    assert answer.WhichOneof("response") == "response_headers"
    clock.now += 0.25
    stream = event() * 40 + DONE
    for start in range(0, len(stream), size):
        piece = stream[start : start + size]
        (answer,) = gateway.send(response_body(piece, end_of_stream=start + size >= len(stream)))
        assert answer.response_body.response.body_mutation.streamed_response.body == piece
        clock.now += 0.0001
    (end,) = ends(routing)
    assert end.status is OutcomeStatus.COMPLETED
    assert end.endpoint == ADDRESSES[1]
    assert end.output_tokens == 40
    assert end.ttft_seconds == pytest.approx(0.5, abs=0.05)
    assert not routing.open
    assert gateway.finished


def test_stated_usage_beats_counted_events(gateway: Gateway, routing: FakeRouting) -> None:
    routed(gateway)
    gateway.send(response_headers())
    decoy = event('"usage": {"completion_tokens": 9}') + event(usage=None)
    gateway.send(response_body(decoy + usage_event(123) + DONE, end_of_stream=True))
    assert ends(routing)[0].output_tokens == 123
    assert ends(routing)[0].prompt_tokens == 5


def test_a_plain_answer_has_its_usage_and_no_first_token_time(gateway: Gateway, routing: FakeRouting) -> None:
    routed(gateway)
    gateway.send(response_headers(content_type="application/json"))
    body = json.dumps({"choices": [{"text": "hi"}], "usage": {"prompt_tokens": 3, "completion_tokens": 17}}).encode()
    gateway.send(response_body(body[:20]))
    gateway.send(response_body(body[20:], end_of_stream=True))
    (end,) = ends(routing)
    assert (end.output_tokens, end.prompt_tokens, end.ttft_seconds) == (17, 3, None)


def test_a_compressed_answer_ends_well_with_unknown_tokens(gateway: Gateway, routing: FakeRouting) -> None:
    routed(gateway)
    gateway.send(response_headers(encoding="gzip"))
    gateway.send(response_body(gzip.compress(event()), end_of_stream=True))
    assert ends(routing)[0].status is OutcomeStatus.COMPLETED
    assert ends(routing)[0].output_tokens is None


@pytest.mark.parametrize("status", ["503", "400", "abc", ""])
def test_an_error_of_the_expert_is_a_failure(gateway: Gateway, routing: FakeRouting, status: str) -> None:
    routed(gateway)
    gateway.send(response_headers(status, "application/json"))
    gateway.send(response_body(b"{}", end_of_stream=True))
    assert ends(routing)[0].status is OutcomeStatus.FAILED


def test_an_answer_may_end_with_its_headers_or_with_trailers(destinations: Destinations, routing: FakeRouting) -> None:
    routed(Gateway(destinations)).send(response_headers("204", end_of_stream=True))
    with_trailers = routed(Gateway(destinations))
    with_trailers.send_all([response_headers(), response_body(event())])
    (answer,) = with_trailers.send(response_trailers())
    assert answer.WhichOneof("response") == "response_trailers"
    assert [end.status for end in ends(routing)] == [OutcomeStatus.COMPLETED] * 2
    assert not routing.open


def test_progress_is_reported_at_the_first_event_and_then_once_a_second(
    gateway: Gateway, routing: FakeRouting, clock: ManualClock
) -> None:
    routed(gateway)
    gateway.send(response_headers())
    for _ in range(35):
        gateway.send(response_body(event()))
        clock.now += 0.125
    assert [outcome.output_tokens for outcome in routing.outcomes] == [1, 9, 17, 25, 33]
    assert all(outcome.status is OutcomeStatus.IN_PROGRESS for outcome in routing.outcomes)


@pytest.mark.parametrize(
    ("messages", "reported"),
    [
        ([request_headers()], 0),
        ([request_headers(), request_body(b"{", end_of_stream=False)], 0),
        ([request_headers(), request_body(chat())], 1),
        ([request_headers(), request_body(chat()), response_headers()], 1),
        ([request_headers(), request_body(chat()), response_headers(), response_body(event())], 1),
    ],
    ids=["before the body", "in the body", "after the pick", "before the answer's body", "in the answer"],
)
def test_a_client_that_goes_away_leaves_nothing_open(
    gateway: Gateway, routing: FakeRouting, messages: list[pb.ProcessingRequest], reported: int
) -> None:
    gateway.send_all(messages)
    gateway.close()
    assert [end.status for end in ends(routing)] == [OutcomeStatus.CANCELLED] * reported
    assert not routing.open


def test_an_end_is_reported_once(gateway: Gateway, routing: FakeRouting) -> None:
    routed(gateway)
    gateway.send_all([response_headers(), response_body(DONE, end_of_stream=True)])
    gateway.close()
    assert len(ends(routing)) == 1


def test_an_answer_that_is_not_streamed_duplex_is_only_waved_through(destinations: Destinations) -> None:
    gateway = Gateway(destinations)
    gateway.send_all([request_headers(answer_mode="STREAMED"), request_body(chat()), response_headers()])
    (answer,) = gateway.send(response_body(event(), end_of_stream=True))
    assert answer.WhichOneof("response") == "response_body"
    assert not answer.response_body.response.HasField("body_mutation")


def test_a_local_reply_during_the_body_passes_without_an_outcome(gateway: Gateway, routing: FakeRouting) -> None:
    gateway.send(request_headers())
    (answer,) = gateway.send(response_headers("408", "text/plain", end_of_stream=True))
    assert answer.WhichOneof("response") == "response_headers"
    assert not routing.queries


def test_a_core_that_refuses_reports_does_not_disturb_the_answer(
    gateway: Gateway, routing: FakeRouting, metrics: Metrics
) -> None:
    routed(gateway)
    routing.report_error = RuntimeError("a bug")
    answers = gateway.send_all([response_headers(), response_body(event()), response_body(DONE, end_of_stream=True)])
    assert len(answers) == 3
    assert metrics.registry.get_sample_value("pointsman_routing_errors_total", {"surface": "ext_proc"}) == 2


def test_conformance_tests_learn_which_endpoint_served(routing: FakeRouting, metrics: Metrics) -> None:
    gateway = routed(Gateway(Destinations(routing, metrics, honour_test_selection=True)))
    (answer,) = gateway.send(response_headers(served=ADDRESSES[0]))
    mutation = answer.response_headers.response.header_mutation
    assert set_headers(mutation) == {"x-conformance-test-served-endpoint": ADDRESSES[0]}


@pytest.mark.parametrize(
    "messages",
    [
        [pb.ProcessingRequest()],
        [request_body(b"{}")],
        [request_trailers()],
        [response_headers()],
        [request_headers(), request_headers()],
        [request_headers(), pb.ProcessingRequest()],
        [request_headers(), request_body(chat()), request_body(b"more")],
        [request_headers(), request_body(chat()), request_trailers()],
        [request_headers(GET_HEADERS, end_of_stream=True), request_body(b"{}")],
        [request_headers(), request_body(chat()), response_headers(), response_headers()],
    ],
)
def test_messages_out_of_order_are_an_error_and_leave_nothing_open(
    gateway: Gateway, routing: FakeRouting, messages: list[pb.ProcessingRequest]
) -> None:
    *fine, wrong = messages
    gateway.send_all(fine)
    with pytest.raises(MalformedStreamError, match="got "):
        gateway.send(wrong)
    gateway.close()
    assert not routing.open
