"""Serves `pointsman.routing.v1.RoutingService`: the same decisions as through Envoy, for callers without a proxy.

Messages are parsed here rather than by gRPC, which would answer garbage with an error that blames the router.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from pointsman.routing.v1 import routing_pb2 as pb
from pointsman_operator.decision import (
    Candidate,
    Decision,
    ExpertView,
    Explanation,
    ObjectiveOverrides,
    Outcome,
    PolicyReport,
    Routing,
)
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.errors import DROPPED_REASON_HEADER, RouteError, UnknownDecisionError
from pointsman_operator.metrics import Metrics
from pointsman_operator.serving import routing_requests

SERVICE_NAME = "pointsman.routing.v1.RoutingService"

_REQUESTS: Final[dict[str, type[Message]]] = {
    method.name: GetMessageClass(method.input_type)
    for method in pb.DESCRIPTOR.services_by_name["RoutingService"].methods
}

Context = grpc.aio.ServicerContext[Any, Any]


class RoutingServicer:
    """The servicer.

    Args:
        routing: The routing core.
        metrics: Counts what was answered.
        reports: Tells what runs of each policy.
        name: Tells this router from its replicas.
    """

    def __init__(
        self, routing: Routing, metrics: Metrics, reports: Callable[[], Iterable[PolicyReport]], name: str
    ) -> None:
        self._routing = routing
        self._metrics = metrics
        self._reports = reports
        self._name = name

    def handler(self) -> "grpc.GenericRpcHandler[bytes, Message]":
        """Return what to add to a gRPC server."""
        methods = {
            name: grpc.unary_unary_rpc_method_handler(
                _parsing(kind, getattr(self, name)), response_serializer=lambda response: response.SerializeToString()
            )
            for name, kind in _REQUESTS.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE_NAME, methods)

    async def Route(self, request: pb.RouteRequest, context: Context) -> pb.RouteResponse:  # noqa: N802
        """Pick an expert and open a decision."""
        try:
            decision = self._routing.route(routing_requests.read_query(request))
        except RouteError as error:
            self._metrics.answered("grpc", "", error.http_status)
            await _abort(context, error)
        except Exception:
            self._metrics.failed("grpc")
            raise
        self._metrics.answered("grpc", decision.policy, 200)
        return pb.RouteResponse(
            decision_id=decision.id,
            endpoints=self._candidates(decision),
            picker=decision.picker,
            policy=decision.policy,
            policy_version=decision.policy_version,
            reason=str(decision.reason),
        )

    async def ReportOutcome(  # noqa: N802
        self, request: pb.ReportOutcomeRequest, context: Context
    ) -> pb.ReportOutcomeResponse:
        """Take progress or the end of a decision's request."""
        try:
            self._routing.report(routing_requests.read_outcome(request))
        except RouteError as error:
            await _abort(context, error)
        return pb.ReportOutcomeResponse()

    async def ListExperts(self, request: pb.ListExpertsRequest, context: Context) -> pb.ListExpertsResponse:  # noqa: N802
        """Show a policy's experts."""
        try:
            policy, views = self._routing.experts(request.model)
        except RouteError as error:
            await _abort(context, error)
        return pb.ListExpertsResponse(policy=policy, experts=[_expert(view) for view in views])

    async def GetDecision(self, request: pb.GetDecisionRequest, context: Context) -> pb.GetDecisionResponse:  # noqa: N802
        """Explain a recent decision."""
        try:
            explanation = self._routing.explain(routing_requests.read_decision_id(request.decision_id))
        except RouteError as error:
            await _abort(context, error)
        return _explanation(explanation)

    async def ListPolicies(self, _: pb.ListPoliciesRequest, __: Context) -> pb.ListPoliciesResponse:  # noqa: N802
        """Show what this router runs."""
        return pb.ListPoliciesResponse(policies=map(_policy_state, self._reports()), router=self._name)

    def _candidates(self, decision: Decision) -> list[pb.Candidate]:
        try:
            predicted = {item.endpoint: item for item in self._routing.explain(decision.id).candidates}
        except UnknownDecisionError:
            predicted = {}
        return [
            _candidate(predicted[endpoint]) if endpoint in predicted else _bare_candidate(endpoint)
            for endpoint in decision.endpoints
        ]


def _parsing(
    kind: type[Message], answer: Callable[[Any, Context], Awaitable[Message]]
) -> Callable[[bytes, Context], Awaitable[Message]]:
    async def parse_and_answer(data: bytes, context: Context) -> Message:
        try:
            request = kind.FromString(data)
        except DecodeError:
            name = kind.DESCRIPTOR.name
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"got bytes that are not a {name}; see routing.proto")
        return await answer(request, context)

    return parse_and_answer


async def _abort(context: Context, error: RouteError) -> NoReturn:
    trailers = ((DROPPED_REASON_HEADER, error.dropped_reason),) if error.dropped_reason else ()
    await context.abort(grpc.StatusCode[error.grpc_code], str(error), trailers)
    raise AssertionError("abort returned")


def _bare_candidate(endpoint: Endpoint) -> pb.Candidate:
    return pb.Candidate(
        expert=endpoint.name,
        endpoint=endpoint.address,
        served_model_name=endpoint.served_model_name,
        allowed=True,
    )


def _candidate(candidate: Candidate) -> pb.Candidate:
    return pb.Candidate(
        expert=candidate.endpoint.name,
        endpoint=candidate.endpoint.address,
        served_model_name=candidate.endpoint.served_model_name,
        ttft_seconds=candidate.ttft_seconds,
        tpot_seconds=candidate.tpot_seconds,
        ntpot_seconds=candidate.ntpot_seconds,
        quality=candidate.quality,
        output_token_count=candidate.output_tokens,
        slo_probability=candidate.slo_probability,
        impact=candidate.impact,
        score=candidate.score,
        allowed=candidate.allowed,
        exclusion=candidate.exclusion,
    )


def _expert(view: ExpertView) -> pb.Expert:
    expert = view.endpoint.expert
    return pb.Expert(
        name=view.endpoint.name,
        endpoint=view.endpoint.address,
        model=expert.model,
        served_model_name=view.endpoint.served_model_name,
        gpu=expert.gpu,
        engine=expert.engine,
        ready=view.ready,
        running_request_count=view.running_requests,
        waiting_request_count=view.waiting_requests,
        kv_cache_utilization_ratio=view.kv_cache_utilization_ratio,
        telemetry_age_seconds=view.telemetry_age_seconds,
        in_flight_count=view.in_flight,
        quality_prior=expert.quality_prior_percent / 100.0,
    )


def _policy_state(report: PolicyReport) -> pb.PolicyState:
    return pb.PolicyState(
        policy=report.policy,
        uid=report.uid,
        generation=report.generation,
        model_name=report.model_name,
        picker=report.picker,
        policy_version=report.policy_version,
        ready_expert_count=report.ready_experts,
        expert_count=report.experts,
        fresh_expert_count=report.fresh_experts,
        oldest_telemetry_age_seconds=report.oldest_telemetry_age_seconds,
        telemetry_problem=report.telemetry_problem,
        problem=report.problem,
        answered_request_count=report.judged_requests,
        met_objective_count=report.met_requests,
    )


def _explanation(explanation: Explanation) -> pb.GetDecisionResponse:
    decision = explanation.decision
    return pb.GetDecisionResponse(
        decision_id=decision.id,
        policy=decision.policy,
        picker=decision.picker,
        policy_version=decision.policy_version,
        reason=str(decision.reason),
        fallbacks=decision.fallbacks,
        age_seconds=explanation.age_seconds,
        prompt_token_count=explanation.prompt_tokens,
        objectives=_objectives(explanation.objectives),
        load_ratio=explanation.load_ratio,
        candidates=[_candidate(candidate) for candidate in explanation.candidates],
        outcome=_outcome(explanation.outcome) if explanation.outcome else None,
    )


def _objectives(objectives: ObjectiveOverrides) -> pb.Objectives:
    return pb.Objectives(
        ttft_seconds=objectives.ttft_seconds,
        tpot_seconds=objectives.tpot_seconds,
        ntpot_seconds=objectives.ntpot_seconds,
    )


def _outcome(outcome: Outcome) -> pb.ReportOutcomeRequest:
    return pb.ReportOutcomeRequest(
        decision_id=outcome.decision_id,
        endpoint=outcome.endpoint,
        status=routing_requests.STATUS_TO_PROTO[outcome.status],
        ttft_seconds=outcome.ttft_seconds or 0.0,
        duration_seconds=outcome.duration_seconds or 0.0,
        output_token_count=outcome.output_tokens or 0,
        prompt_token_count=outcome.prompt_tokens or 0,
        quality=outcome.quality,
    )
