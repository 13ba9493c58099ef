"""Asks every ready router what it runs."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import grpc

from pointsman.routing.v1 import routing_pb2, routing_pb2_grpc
from pointsman_operator.control.api import KubernetesApi
from pointsman_operator.control.metrics import OperatorMetrics
from pointsman_operator.control.reports import PolicyReport, RouterReport
from pointsman_operator.control.router_tls import RouterTls
from pointsman_operator.control.settings import RouterSelection
from pointsman_operator.discovery.pods import Pod, address, read_pod

_LOGGER = logging.getLogger(__name__)

_DEADLINE_SECONDS = 2.0
_MOST_AT_ONCE = 32
_LARGEST_ANSWER_BYTES = 64 << 20


class RouterPolls:
    """Asks the ready routers, round by round; connections are kept in between.

    Args:
        api: Lists the router pods.
        selection: Which pods they are.
        metrics: Counts answers.
    """

    def __init__(self, api: KubernetesApi, selection: RouterSelection, metrics: OperatorMetrics) -> None:
        self._api = api
        self._selection = selection
        self._metrics = metrics
        self._tls = RouterTls(selection)
        self._channels: dict[str, _Channel] = {}
        self._limit = asyncio.Semaphore(_MOST_AT_ONCE)

    async def round(self) -> tuple[RouterReport, ...]:
        """Ask all ready routers once.

        Returns:
            Their reports by name; of a router that does not answer, why.

        Raises:
            KubernetesError: If the pods cannot be listed.
            OSError: If a TLS file cannot be read.
        """
        routers = ready_routers(await self._list())
        if self._tls.used and self._tls.changed():
            await self._close(self._channels.keys())
        targets = {router.uid: router for router in routers}
        await self._close(uid for uid, one in self._channels.items() if targets.get(uid) != one.pod)
        reports = await asyncio.gather(*(self._ask(router) for router in routers))
        return tuple(reports)

    async def close(self) -> None:
        """Close the connections."""
        await self._close(self._channels.keys())

    async def _list(self) -> list[Pod]:
        path = f"/api/v1/namespaces/{self._selection.namespace}/pods"
        found = await self._api.get(path, labelSelector=self._selection.selector)
        return [read_pod(manifest) for manifest in found.get("items") or ()]

    async def _ask(self, router: Pod) -> RouterReport:
        async with self._limit:
            try:
                channel = self._channels.get(router.uid) or await self._open(router)
                answer = await channel.stub.ListPolicies(
                    routing_pb2.ListPoliciesRequest(), timeout=_DEADLINE_SECONDS, wait_for_ready=True
                )
            except grpc.aio.AioRpcError as error:
                return self._silent(router, _why(error))
            except (OSError, ValueError) as error:
                return self._silent(router, f"no TLS connection: {error or type(error).__name__}")
        self._metrics.router_polled("answered")
        return RouterReport(router.name, {state.policy: _report(state) for state in answer.policies})

    def _silent(self, router: Pod, problem: str) -> RouterReport:
        self._metrics.router_polled("failed")
        _LOGGER.debug("Router %s does not answer: %s", router.name, problem)
        return RouterReport(router.name, problem=problem)

    async def _open(self, router: Pod) -> "_Channel":
        target = address(router.ip, self._selection.port)
        options: list[tuple[str, str | int]] = [
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_receive_message_length", _LARGEST_ANSWER_BYTES),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_reconnect_backoff_ms", 2_000),
        ]
        if self._tls.used:
            name = await self._tls.server_name(router.ip, self._selection.port)
            options.append(("grpc.ssl_target_name_override", name))
            channel = grpc.aio.secure_channel(target, self._tls.credentials(), options=options)
        else:
            channel = grpc.aio.insecure_channel(target, options=options)
        self._channels[router.uid] = _Channel(router, channel, routing_pb2_grpc.RoutingServiceStub(channel))  # type: ignore[no-untyped-call]
        return self._channels[router.uid]

    async def _close(self, uids: Iterable[str]) -> None:
        for uid in tuple(uids):
            await self._channels.pop(uid).channel.close(None)


@dataclass(frozen=True, slots=True)
class _Channel:
    pod: Pod
    channel: grpc.aio.Channel
    stub: routing_pb2_grpc.RoutingServiceStub


def ready_routers(pods: Iterable[Pod]) -> Sequence[Pod]:
    """Return the pods that are ready to route and stay, by name."""
    return sorted((pod for pod in pods if pod.ready and pod.ip and not pod.leaving), key=lambda pod: pod.name)


def _why(error: grpc.aio.AioRpcError) -> str:
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer within {_DEADLINE_SECONDS:g} s"
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return "it is older than this operator and cannot say; upgrade it"
    return f"{error.code().name}"


def _report(state: routing_pb2.PolicyState) -> PolicyReport:
    return PolicyReport(
        uid=state.uid,
        generation=state.generation,
        picker=state.picker,
        policy_version=state.policy_version,
        ready_expert_count=state.ready_expert_count,
        expert_count=state.expert_count,
        fresh_expert_count=state.fresh_expert_count,
        telemetry_problem=state.telemetry_problem,
        problem=state.problem,
        answered_request_count=state.answered_request_count,
        met_objective_count=state.met_objective_count,
    )
