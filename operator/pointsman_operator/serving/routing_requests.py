"""Checks RoutingService requests and turns them into the routing core's types; errors name field and remedy."""

import ipaddress
import math
from typing import Final

from pointsman.routing.v1 import routing_pb2 as pb
from pointsman_operator.decision import ObjectiveOverrides, Outcome, OutcomeStatus, RouteQuery
from pointsman_operator.errors import InvalidRequestError

MAX_MODEL_LENGTH = 253
MAX_ID_BYTES = 128
MAX_SUBSET = 1_000
PRIORITY_LIMIT = 1_000
MAX_SECONDS = 86_400.0

STATUS_TO_PROTO: Final = {
    OutcomeStatus.IN_PROGRESS: pb.OUTCOME_STATUS_IN_PROGRESS,
    OutcomeStatus.COMPLETED: pb.OUTCOME_STATUS_COMPLETED,
    OutcomeStatus.CANCELLED: pb.OUTCOME_STATUS_CANCELLED,
    OutcomeStatus.FAILED: pb.OUTCOME_STATUS_FAILED,
}
_STATUS_FROM_PROTO: Final = {value: status for status, value in STATUS_TO_PROTO.items()}


def read_query(request: pb.RouteRequest) -> RouteQuery:
    """Return the query in a RouteRequest.

    Raises:
        InvalidRequestError: If a field is out of range.
    """
    if len(request.model) > MAX_MODEL_LENGTH:
        raise InvalidRequestError(f"model has {len(request.model)} characters; at most {MAX_MODEL_LENGTH} are allowed")
    if not -PRIORITY_LIMIT <= request.priority <= PRIORITY_LIMIT:
        raise InvalidRequestError(
            f"priority is {request.priority}; use a value from -{PRIORITY_LIMIT} to {PRIORITY_LIMIT}"
        )
    _check_id("request_id", request.request_id)
    return RouteQuery(
        model=request.model,
        prompt=request.prompt,
        prompt_tokens=_count("prompt_token_count", request.prompt_token_count),
        max_output_tokens=_count("max_output_token_count", request.max_output_token_count),
        objectives=_objectives(request.objectives),
        subset=_subset(list(request.endpoint_subset)),
        priority=request.priority,
        request_id=request.request_id,
    )


def read_outcome(request: pb.ReportOutcomeRequest) -> Outcome:
    """Return the outcome in a ReportOutcomeRequest; its zeros mean unknown, as the proto says.

    Raises:
        InvalidRequestError: If a field is out of range.
    """
    decision_id = read_decision_id(request.decision_id)
    status = _STATUS_FROM_PROTO.get(request.status)
    if status is None:
        raise InvalidRequestError("status is not set or not known; use IN_PROGRESS, COMPLETED, CANCELLED or FAILED")
    if request.endpoint:
        _check_address("endpoint", request.endpoint)
    ttft = _seconds("ttft_seconds", request.ttft_seconds) or None
    duration = _seconds("duration_seconds", request.duration_seconds) or None
    if ttft is not None and duration is not None and ttft > duration:
        raise InvalidRequestError(
            f"ttft_seconds is {ttft:g}, more than duration_seconds ({duration:g}); both count from the arrival"
        )
    quality = request.quality if request.HasField("quality") else None
    if quality is not None and not 0 <= quality <= 1:
        raise InvalidRequestError(f"quality is {quality:g}; use a value from 0 to 1, or leave it unset")
    return Outcome(
        decision_id=decision_id,
        status=status,
        endpoint=request.endpoint,
        ttft_seconds=ttft,
        duration_seconds=duration,
        output_tokens=_count("output_token_count", request.output_token_count),
        prompt_tokens=_count("prompt_token_count", request.prompt_token_count) or None,
        quality=quality,
    )


def read_decision_id(decision_id: str) -> str:
    """Return a decision's id.

    Raises:
        InvalidRequestError: If it is empty or too long to be one.
    """
    if not decision_id:
        raise InvalidRequestError("decision_id is empty; use the one in RouteResponse")
    _check_id("decision_id", decision_id)
    return decision_id


def _objectives(objectives: pb.Objectives) -> ObjectiveOverrides:
    ttft, tpot, ntpot = (
        _seconds(f"objectives.{name}", getattr(objectives, name)) if objectives.HasField(name) else None
        for name in ("ttft_seconds", "tpot_seconds", "ntpot_seconds")
    )
    return ObjectiveOverrides(ttft, tpot, ntpot)


def _subset(addresses: list[str]) -> frozenset[str] | None:
    if len(addresses) > MAX_SUBSET:
        raise InvalidRequestError(f"endpoint_subset has {len(addresses)} entries; at most {MAX_SUBSET} are allowed")
    for index, address in enumerate(addresses):
        _check_address(f"endpoint_subset[{index}]", address)
    return frozenset(addresses) or None


def _check_address(field: str, address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        valid = port.isascii() and port.isdigit() and 0 < int(port) < 65_536
    except ValueError:
        valid = False
    if not valid:
        raise InvalidRequestError(f'{field} is {address[:60]!r}; use "ip:port" with a literal IP address')


def _check_id(field: str, value: str) -> None:
    length = len(value.encode())
    if length > MAX_ID_BYTES:
        raise InvalidRequestError(f"{field} has {length} bytes; at most {MAX_ID_BYTES} are allowed")


def _count(field: str, value: int) -> int:
    if value < 0:
        raise InvalidRequestError(f"{field} is {value}; use 0 or more")
    return value


def _seconds(field: str, value: float) -> float:
    if not math.isfinite(value) or not 0 <= value <= MAX_SECONDS:
        raise InvalidRequestError(f"{field} is {value:g}; use a number of seconds from 0 to {MAX_SECONDS:g}")
    return value
