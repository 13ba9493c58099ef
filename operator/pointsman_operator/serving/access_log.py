"""Serves Envoy's `AccessLogService`: how each request that was routed here went, read from Envoy's gRPC access log.

Contract with the sidecar, in the entry's dynamic metadata: namespace ``pointsman`` holds ``decision_id``, written by
ext_proc; namespace ``pointsman.tokens`` is written by the sidecar's token counter and holds ``events`` (data events so
far, with the usage event and ``[DONE]``), ``first_event_seconds`` (Unix time), ``usage`` (the last usage object, as
JSON), ``done`` (``[DONE]`` was seen) and ``streaming``. Any of it may be absent.
"""

import logging
import math
from collections.abc import AsyncIterator, Mapping
from typing import Literal

import grpc
from google.protobuf.struct_pb2 import Struct

from pointsman.envoy.v3 import access_log_pb2 as pb
from pointsman.envoy.v3 import access_log_pb2_grpc
from pointsman_operator.decision import Outcome, OutcomeStatus, Routing
from pointsman_operator.metrics import Metrics
from pointsman_operator.serving.answer import Usage, count_tokens, read_usage
from pointsman_operator.serving.reporting import ReportResult, report

logger = logging.getLogger(__name__)

SERVICE_NAME = "envoy.service.accesslog.v3.AccessLogService"
DECISION_NAMESPACE = "pointsman"
TOKENS_NAMESPACE = "pointsman.tokens"

EntryResult = Literal["no_decision", "other_type", "malformed"] | ReportResult
_FAILURE_FLAGS = (
    "upstream_request_timeout",
    "upstream_remote_reset",
    "upstream_connection_failure",
    "upstream_connection_termination",
    "stream_idle_timeout",
    "duration_timeout",
    "upstream_protocol_error",
)
_EMPTY = Struct()


class MalformedEntryError(Exception):
    """An access log entry contradicts itself or the contract."""


class AccessLogServicer(access_log_pb2_grpc.AccessLogServiceServicer):
    """Turns entries into outcomes.

    Args:
        routing: Receives the outcomes.
        metrics: Counts entries by result.
    """

    def __init__(self, routing: Routing, metrics: Metrics) -> None:
        self._routing = routing
        self._metrics = metrics

    async def StreamAccessLogs(  # noqa: N802 - named by Envoy
        self,
        request_iterator: AsyncIterator[pb.StreamAccessLogsMessage],
        context: grpc.aio.ServicerContext[pb.StreamAccessLogsMessage, pb.StreamAccessLogsResponse],
    ) -> pb.StreamAccessLogsResponse:
        """Take log entries until Envoy goes away."""
        async for message in request_iterator:
            self.receive(message)
        return pb.StreamAccessLogsResponse()

    def receive(self, message: pb.StreamAccessLogsMessage) -> None:
        """Take one batch; an entry that cannot be used is counted and skipped."""
        for entry in message.http_logs.log_entry:
            self._metrics.access_log_entry(self._take(entry))

    def _take(self, entry: pb.HttpAccessLogEntry) -> EntryResult:
        try:
            outcome = read_outcome(entry)
        except (MalformedEntryError, ValueError, OverflowError) as error:
            logger.warning("skipped a malformed access log entry: %s", error)
            return "malformed"
        if isinstance(outcome, Outcome):
            return report(self._routing, self._metrics, outcome)
        return outcome


def read_outcome(entry: pb.HttpAccessLogEntry) -> Outcome | Literal["no_decision", "other_type"]:
    """Return what an entry says of its decision's request, or why it says nothing.

    Raises:
        MalformedEntryError: If a value cannot be right.
    """
    common = entry.common_properties
    if common.access_log_type not in (pb.DOWNSTREAM_PERIODIC, pb.DOWNSTREAM_END):
        return "other_type"
    metadata = common.metadata.filter_metadata
    decision_id = _text(_namespace(metadata, DECISION_NAMESPACE), "decision_id")
    if not decision_id:
        return "no_decision"
    tokens = _namespace(metadata, TOKENS_NAMESPACE)
    usage_text = _text(tokens, "usage")
    usage = read_usage(usage_text) if usage_text else None
    return Outcome(
        decision_id=decision_id,
        status=_status(entry),
        endpoint=_endpoint(common.upstream_remote_address.socket_address),
        ttft_seconds=_ttft(common, tokens),
        duration_seconds=_duration(common),
        output_tokens=_output_tokens(tokens, usage),
        prompt_tokens=usage.question_tokens if usage else None,
    )


def _status(entry: pb.HttpAccessLogEntry) -> OutcomeStatus:
    common = entry.common_properties
    if common.access_log_type == pb.DOWNSTREAM_PERIODIC:
        return OutcomeStatus.IN_PROGRESS
    flags = common.response_flags
    if any(getattr(flags, name) for name in _FAILURE_FLAGS):
        return OutcomeStatus.FAILED
    if flags.downstream_connection_termination or flags.downstream_remote_reset:
        return OutcomeStatus.CANCELLED
    answered = 200 <= entry.response.response_code.value < 300 and not flags.local_reset
    return OutcomeStatus.COMPLETED if answered else OutcomeStatus.FAILED


def _output_tokens(tokens: Struct, usage: Usage | None) -> int | None:
    events = _number(tokens, "events")
    if not _flag(tokens, "streaming") and not events:
        return usage.answer_tokens if usage else None
    if events is not None and events < 0:
        raise MalformedEntryError(f"events is {events:g}, but cannot be negative")
    return count_tokens(usage, int(events or 0), done=_flag(tokens, "done"), usage_events=1 if usage else 0)


def _ttft(common: pb.AccessLogCommon, tokens: Struct) -> float | None:
    first = _number(tokens, "first_event_seconds")
    if first is None or not common.HasField("start_time"):
        return None
    start = common.start_time
    ttft = first - (start.seconds + start.nanos * 1e-9)
    if ttft < 0:
        raise MalformedEntryError(f"the first event came {-ttft:.3f} s before the request; check Envoy's clock")
    return ttft


def _duration(common: pb.AccessLogCommon) -> float | None:
    for name in ("duration", "time_to_last_downstream_tx_byte"):
        if common.HasField(name):
            span = getattr(common, name)
            seconds = float(span.seconds + span.nanos * 1e-9)
            if seconds < 0:
                raise MalformedEntryError(f"{name} is {seconds:g} s, but cannot be negative")
            return seconds
    return None


def _endpoint(address: pb.SocketAddress) -> str:
    if not address.address:
        return ""
    host = f"[{address.address}]" if ":" in address.address else address.address
    return f"{host}:{address.port_value}"


def _namespace(metadata: Mapping[str, Struct], name: str) -> Struct:
    return metadata.get(name, _EMPTY)


def _text(struct: Struct, key: str) -> str:
    return struct.fields[key].string_value if key in struct.fields else ""


def _flag(struct: Struct, key: str) -> bool:
    return struct.fields[key].bool_value if key in struct.fields else False


def _number(struct: Struct, key: str) -> float | None:
    if key not in struct.fields or struct.fields[key].WhichOneof("kind") != "number_value":
        return None
    value = struct.fields[key].number_value
    if not math.isfinite(value):
        raise MalformedEntryError(f"{key} is {value}, but must be finite")
    return value
