"""The operator and a policy service, over a real connection."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry
from tests.unit.control.rollouts import sent_report
from tests.unit.control.subjects import PICKERS, manifest

from pointsman.policy.v1 import policy_pb2, policy_pb2_grpc
from pointsman_operator.control.metrics import OperatorMetrics
from pointsman_operator.control.rollout_polls import RolloutPolls
from pointsman_operator.policy_service import PolicyServiceAddress
from pointsman_operator.routerpolicy import RouterPolicy, parse_policy


class Service(policy_pb2_grpc.PolicyServiceServicer):
    def __init__(self) -> None:
        self.configured: list[policy_pb2.PolicySettings] = []
        self.refused = ""

    async def Configure(  # noqa: N802
        self, request: policy_pb2.ConfigureRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> policy_pb2.ConfigureResponse:
        (settings,) = request.policies
        if settings.policy == self.refused:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "schedule: no such month")
        self.configured.append(settings)
        return policy_pb2.ConfigureResponse()

    async def ListRollouts(  # noqa: N802
        self, request: policy_pb2.ListRolloutsRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> policy_pb2.ListRolloutsResponse:
        assert list(request.policies) == sorted(request.policies)
        return policy_pb2.ListRolloutsResponse(rollouts=[sent_report(active="aa")])


class Rig:
    def __init__(self, port: int) -> None:
        self.now = 0.0
        self.metrics = OperatorMetrics(CollectorRegistry())
        self.polls = RolloutPolls(PolicyServiceAddress(target=f"127.0.0.1:{port}"), self.metrics, lambda: self.now)

    @property
    def connected(self) -> float | None:
        return self.metrics.registry.get_sample_value("pointsman_operator_policy_service_connected")


def policy(name: str = "chat", **changes: Any) -> RouterPolicy:
    return parse_policy(manifest(metadata__name=name, **changes), name, PICKERS)


@pytest.fixture
async def service() -> AsyncIterator[tuple[Service, grpc.aio.Server, int]]:
    servicer, server = Service(), grpc.aio.server()
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield servicer, server, port
    await server.stop(None)


async def test_settings_are_told_once_and_again_when_they_change_or_after_a_while(
    service: tuple[Service, grpc.aio.Server, int],
) -> None:
    servicer, _, port = service
    rig = Rig(port)
    first = policy()
    answer = await rig.polls.round([first])
    report = answer.of("edge/chat").report
    assert report is not None
    assert (report.active_version, answer.of("edge/other").report, rig.connected) == ("aa", None, 1.0)
    rig.now = 29.0
    await rig.polls.round([first])
    assert len(servicer.configured) == 1
    changed = policy(spec__rollout={"mode": "Manual", "canaryPercents": [10], "canaryRequests": 50})
    await rig.polls.round([changed])
    assert len(servicer.configured) == 2
    rig.now = 60.0
    await rig.polls.round([changed])
    assert len(servicer.configured) == 3
    told = servicer.configured[-1]
    assert (told.policy, told.manual, list(told.canary_percents), told.canary_requests) == ("edge/chat", True, [10], 50)
    assert (told.schedule, told.minimum_outcomes, told.store_prompts) == ("0 3 * * *", 2000, False)
    assert (told.picker, told.admission, told.shadow_minutes, told.canary_minutes) == ("HanActor", "Never", 30, 10)
    await rig.polls.close()


async def test_settings_that_are_refused_harm_no_other_policy(
    service: tuple[Service, grpc.aio.Server, int],
) -> None:
    servicer, _, port = service
    servicer.refused = "edge/bad"
    rig = Rig(port)
    answer = await rig.polls.round([policy("bad"), policy()])
    assert answer.of("edge/bad").refusal == "schedule: no such month"
    assert answer.of("edge/chat").refusal == ""
    assert [one.policy for one in servicer.configured] == ["edge/chat"]
    await rig.polls.close()


async def test_a_service_that_is_away_is_told_of_and_hears_everything_when_it_is_back(
    service: tuple[Service, grpc.aio.Server, int],
) -> None:
    servicer, server, port = service
    rig = Rig(port)
    await rig.polls.round([policy()])
    await server.stop(None)
    away = await rig.polls.round([policy()])
    assert (away.of("edge/chat").unreachable, away.of("edge/chat").report, rig.connected) == ("UNAVAILABLE", None, 0.0)
    again = grpc.aio.server()
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(servicer, again)  # type: ignore[no-untyped-call]
    again.add_insecure_port(f"127.0.0.1:{port}")
    await again.start()
    await rig.polls.close()  # as after the channel's own pause
    back = await rig.polls.round([policy()])
    assert back.of("edge/chat").report is not None
    assert len(servicer.configured) == 2
    await rig.polls.close()
    await again.stop(None)
