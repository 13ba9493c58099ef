"""Calls of RoutingService."""

from typing import Any

from tests.unit.malformed.case import Case, Surface
from tests.unit.malformed.served import Call, call, served

from pointsman.routing.v1 import routing_pb2 as pb


def route(**fields: Any) -> Call:
    """A call of Route with some fields set."""
    return Call("Route", pb.RouteRequest(**{"model": "edge-chat", **fields}))


def report(**fields: Any) -> Call:
    """A call of ReportOutcome with some fields set."""
    defaults = {"decision_id": "d-1", "status": pb.OUTCOME_STATUS_COMPLETED}
    return Call("ReportOutcome", pb.ReportOutcomeRequest(**{**defaults, **fields}))


ROUTING_SERVICE = Surface(
    "RoutingService (gRPC)",
    "The status of the call; the channel and the router go on.",
    served(call, route()),
    (
        Case(
            "bytes that are no message",
            Call("Route", b"\xff\xff\xff"),
            "INVALID_ARGUMENT: got bytes that are not a RouteRequest; see routing.proto",
        ),
        Case("a method that does not exist", Call("Rout", pb.RouteRequest()), "UNIMPLEMENTED: Method not found!"),
        Case(
            "a model that no policy serves",
            route(model="gpt-9"),
            "NOT_FOUND: no RouterPolicy serves the model 'gpt-9'; models: edge-chat",
        ),
        Case(
            "a model's name of 300 characters",
            route(model="m" * 300),
            "INVALID_ARGUMENT: model has 300 characters; at most 253 are allowed",
        ),
        Case(
            "negative tokens", route(prompt_token_count=-1), "INVALID_ARGUMENT: prompt_token_count is -1; use 0 or more"
        ),
        Case(
            "negative limit",
            route(max_output_token_count=-5),
            "INVALID_ARGUMENT: max_output_token_count is -5; use 0 or more",
        ),
        Case(
            "an objective that is no number",
            route(objectives=pb.Objectives(ttft_seconds=float("nan"))),
            "INVALID_ARGUMENT: objectives.ttft_seconds is nan; use a number of seconds from 0 to 86400",
        ),
        Case(
            "a negative objective",
            route(objectives=pb.Objectives(ntpot_seconds=-0.03)),
            "INVALID_ARGUMENT: objectives.ntpot_seconds is -0.03; use a number of seconds from 0 to 86400",
        ),
        Case(
            "a host name in the subset",
            route(endpoint_subset=["small.edge:8000"]),
            "INVALID_ARGUMENT: endpoint_subset[0] is 'small.edge:8000'; use \"ip:port\" with a literal IP address",
        ),
        Case(
            "a subset without an expert",
            route(endpoint_subset=["10.9.9.9:8000"]),
            "UNAVAILABLE: none of the 2 experts of policy edge/chat may be picked: not in the "
            "gateway's endpoint subset (x-llm-d-request-dropped-reason: rejected-no-endpoints)",
        ),
        Case(
            "a priority out of range",
            route(priority=5_000),
            "INVALID_ARGUMENT: priority is 5000; use a value from -1000 to 1000",
        ),
        Case(
            "a request id of 200 bytes",
            route(request_id="x" * 200),
            "INVALID_ARGUMENT: request_id has 200 bytes; at most 128 are allowed",
        ),
        Case(
            "an outcome without a decision",
            report(decision_id=""),
            "INVALID_ARGUMENT: decision_id is empty; use the one in RouteResponse",
        ),
        Case(
            "an outcome of a decision made elsewhere",
            report(),
            "NOT_FOUND: decision 'd-1' is not open; it was made elsewhere, or ended or expired long ago",
        ),
        Case(
            "an outcome without a status",
            report(status=pb.OUTCOME_STATUS_UNSPECIFIED),
            "INVALID_ARGUMENT: status is not set or not known; use IN_PROGRESS, COMPLETED, CANCELLED or FAILED",
        ),
        Case(
            "a first token after the end",
            report(ttft_seconds=2.0, duration_seconds=1.0),
            "INVALID_ARGUMENT: ttft_seconds is 2, more than duration_seconds (1); both count from the arrival",
        ),
        Case(
            "a quality above 1",
            report(quality=7.0),
            "INVALID_ARGUMENT: quality is 7; use a value from 0 to 1, or leave it unset",
        ),
        Case(
            "a duration without end",
            report(duration_seconds=float("inf")),
            "INVALID_ARGUMENT: duration_seconds is inf; use a number of seconds from 0 to 86400",
        ),
        Case(
            "an explanation of nothing",
            Call("GetDecision", pb.GetDecisionRequest()),
            "INVALID_ARGUMENT: decision_id is empty; use the one in RouteResponse",
        ),
    ),
)
