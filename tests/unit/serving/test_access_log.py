"""From access log entries to outcomes."""

from typing import Any

import pytest
from google.protobuf import json_format
from tests.unit.serving.conftest import FakeRouting

from pointsman.envoy.v3 import access_log_pb2 as pb
from pointsman_operator.decision import Outcome, OutcomeStatus, RouteQuery
from pointsman_operator.metrics import Metrics
from pointsman_operator.serving.access_log import AccessLogServicer, MalformedEntryError, read_outcome

START = 1_700_000_000
STREAMED = {"streaming": True, "events": 12.0, "first_event_seconds": START + 0.25, "done": True}


def entry(
    code: int = 200,
    tokens: dict[str, Any] | None = None,
    *,
    decision_id: str | None = "decision-1",
    kind: pb.AccessLogType = pb.DOWNSTREAM_END,
    flags: dict[str, bool] | None = None,
    duration: float | None = 1.5,
    **common: Any,
) -> pb.HttpAccessLogEntry:
    item = pb.HttpAccessLogEntry()
    properties = item.common_properties
    properties.access_log_type = kind
    properties.start_time.seconds = START
    properties.upstream_remote_address.socket_address.address = common.get("address", "10.0.1.9")
    properties.upstream_remote_address.socket_address.port_value = 8000
    json_format.ParseDict(flags or {}, properties.response_flags)
    if duration is not None:
        properties.duration.FromNanoseconds(int(duration * 1e9))
    item.response.response_code.value = code
    if decision_id is not None:
        json_format.ParseDict({"decision_id": decision_id}, properties.metadata.filter_metadata["pointsman"])
    if tokens is not None:
        json_format.ParseDict(tokens, properties.metadata.filter_metadata["pointsman.tokens"])
    return item


def outcome(item: pb.HttpAccessLogEntry) -> Outcome:
    read = read_outcome(item)
    assert isinstance(read, Outcome)
    return read


def test_a_streamed_answer_gives_everything() -> None:
    usage = '{"prompt_tokens": 7, "total_tokens": 19, "completion_tokens": 10}'
    assert outcome(entry(tokens=STREAMED | {"usage": usage})) == Outcome(
        decision_id="decision-1",
        status=OutcomeStatus.COMPLETED,
        endpoint="10.0.1.9:8000",
        ttft_seconds=0.25,
        duration_seconds=1.5,
        output_tokens=10,
        prompt_tokens=7,
    )


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (None, None),
        ({}, None),
        ({"streaming": True}, 0),
        ({"streaming": True, "events": 5.0}, 5),
        (STREAMED, 11),
        (STREAMED | {"usage": '{"prompt_tokens": 3}'}, 10),
        (STREAMED | {"usage": '{"completion_tokens": 99}'}, 99),
        (STREAMED | {"usage": "{not json"}, 11),
        (STREAMED | {"usage": '{"completion_tokens": "many"}'}, 11),
        (STREAMED | {"usage": '{"completion_tokens": -4}'}, 10),
        ({"streaming": True, "events": 1.0, "done": True}, 0),
        ({"streaming": False, "usage": '{"completion_tokens": 8}'}, 8),
        ({"streaming": False, "events": 0.0}, None),
    ],
)
def test_tokens_are_stated_or_counted_or_unknown(tokens: dict[str, Any] | None, expected: int | None) -> None:
    assert outcome(entry(tokens=tokens)).output_tokens == expected


@pytest.mark.parametrize(
    ("code", "flags", "expected"),
    [
        (200, {}, OutcomeStatus.COMPLETED),
        (204, {}, OutcomeStatus.COMPLETED),
        (200, {"downstream_connection_termination": True}, OutcomeStatus.CANCELLED),
        (200, {"downstream_remote_reset": True}, OutcomeStatus.CANCELLED),
        (0, {"downstream_connection_termination": True}, OutcomeStatus.CANCELLED),
        (200, {"upstream_protocol_error": True}, OutcomeStatus.FAILED),
        (200, {"upstream_remote_reset": True}, OutcomeStatus.FAILED),
        (200, {"upstream_connection_termination": True}, OutcomeStatus.FAILED),
        (503, {"upstream_connection_failure": True}, OutcomeStatus.FAILED),
        (504, {"upstream_request_timeout": True}, OutcomeStatus.FAILED),
        (200, {"stream_idle_timeout": True}, OutcomeStatus.FAILED),
        (200, {"duration_timeout": True}, OutcomeStatus.FAILED),
        (200, {"local_reset": True}, OutcomeStatus.FAILED),
        (200, {"local_reset": True, "downstream_connection_termination": True}, OutcomeStatus.CANCELLED),
        (500, {}, OutcomeStatus.FAILED),
        (400, {}, OutcomeStatus.FAILED),
        (0, {}, OutcomeStatus.FAILED),
    ],
)
def test_code_and_flags_tell_how_it_ended(code: int, flags: dict[str, bool], expected: OutcomeStatus) -> None:
    assert outcome(entry(code, flags=flags)).status is expected


def test_a_periodic_entry_is_progress_whatever_its_code() -> None:
    progress = outcome(entry(0, {"streaming": True, "events": 3.0}, kind=pb.DOWNSTREAM_PERIODIC))
    assert progress.status is OutcomeStatus.IN_PROGRESS
    assert progress.output_tokens == 3


def test_a_plain_answer_has_no_first_token_time() -> None:
    assert outcome(entry(tokens={"streaming": False})).ttft_seconds is None


def test_an_address_of_version_six_is_bracketed_and_an_absent_one_is_empty() -> None:
    assert outcome(entry(address="fd00::7")).endpoint == "[fd00::7]:8000"
    assert outcome(entry(address="")).endpoint == ""


def test_an_older_envoys_duration_is_read() -> None:
    item = entry(duration=None)
    assert outcome(item).duration_seconds is None
    item.common_properties.time_to_last_downstream_tx_byte.FromMilliseconds(800)
    assert outcome(item).duration_seconds == 0.8


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (entry(decision_id=None), "no_decision"),
        (entry(decision_id=""), "no_decision"),
        (entry(429, decision_id=None), "no_decision"),
        (entry(kind=pb.NOT_SET), "other_type"),
        (pb.HttpAccessLogEntry(), "other_type"),
    ],
)
def test_entries_without_a_decision_are_passed_over(item: pb.HttpAccessLogEntry, expected: str) -> None:
    assert read_outcome(item) == expected


@pytest.mark.parametrize(
    "item",
    [
        entry(tokens=STREAMED | {"events": -1.0}),
        entry(tokens=STREAMED | {"events": "NaN"}),
        entry(tokens={"streaming": True, "first_event_seconds": START - 1.0}),
        entry(duration=-1.0),
    ],
)
def test_an_entry_that_contradicts_itself_is_malformed(item: pb.HttpAccessLogEntry) -> None:
    events = item.common_properties.metadata.filter_metadata["pointsman.tokens"].fields["events"]
    if events.string_value == "NaN":
        events.number_value = float("nan")
    with pytest.raises(MalformedEntryError):
        read_outcome(item)


def test_a_batch_is_taken_entry_by_entry_and_each_is_counted(routing: FakeRouting, metrics: Metrics) -> None:
    routing.route(RouteQuery("edge-chat"))
    message = pb.StreamAccessLogsMessage()
    message.http_logs.log_entry.extend(
        [
            entry(duration=-1.0),
            entry(decision_id=None),
            entry(decision_id="never-made"),
            entry(kind=pb.NOT_SET),
            entry(tokens=STREAMED),
        ]
    )
    AccessLogServicer(routing, metrics).receive(message)
    assert [item.output_tokens for item in routing.outcomes] == [11]
    for result in ("malformed", "no_decision", "unknown_decision", "other_type", "reported"):
        name = "pointsman_access_log_entries_total"
        assert metrics.registry.get_sample_value(name, {"result": result}) == 1, result


def test_a_core_that_fails_on_one_report_gets_the_next(routing: FakeRouting, metrics: Metrics) -> None:
    routing.report_error = RuntimeError("a bug")
    message = pb.StreamAccessLogsMessage()
    message.http_logs.log_entry.extend([entry(), entry()])
    AccessLogServicer(routing, metrics).receive(message)
    name = "pointsman_access_log_entries_total"
    assert metrics.registry.get_sample_value(name, {"result": "failed"}) == 2
