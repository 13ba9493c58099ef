"""Tells the policy service what RouterPolicies want, and asks it how their rollouts go."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import grpc

from pointsman.policy.v1 import policy_pb2, policy_pb2_grpc
from pointsman_operator.control.metrics import OperatorMetrics
from pointsman_operator.control.rollouts import Rollouts, read_report
from pointsman_operator.policy_service import PolicyServiceAddress, PolicyServiceConnection
from pointsman_operator.policy_settings import policy_settings
from pointsman_operator.routerpolicy import RouterPolicy

_LOGGER = logging.getLogger(__name__)

_DEADLINE_SECONDS = 3.0
_SECONDS_UNTIL_AGAIN = 30.0
"""Settings are sent again after so long, as the service may have lost its volume."""
_REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
"""They are wrong, or there is no room to keep them; either is about the policy, the service is there."""


@dataclass(slots=True)
class _Told:
    settings: bytes
    at: float
    refusal: str = ""


class RolloutPolls:
    """Speaks with the policy service, round by round.

    Args:
        address: Where it is.
        metrics: Told whether it answers.
        clock: Returns seconds; never goes back.
    """

    def __init__(self, address: PolicyServiceAddress, metrics: OperatorMetrics, clock: Callable[[], float]) -> None:
        self._connection = PolicyServiceConnection(address)
        self._metrics = metrics
        self._clock = clock
        self._told: dict[str, _Told] = {}
        self._problem = ""

    async def round(self, policies: Iterable[RouterPolicy]) -> Rollouts:
        """Say what is new in policies, and ask for all of them; never raises for a service that does not answer."""
        wanted = sorted(policies, key=lambda policy: policy.key)
        try:
            stub = await self._connection.stub()
            await self._tell(stub, wanted)
            answer = await stub.ListRollouts(
                policy_pb2.ListRolloutsRequest(policies=[policy.key for policy in wanted]), timeout=_DEADLINE_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            return self._unreachable(_why(error))
        except OSError as error:
            return self._unreachable(f"a TLS file cannot be read ({error})")
        self._note("")
        refusals = {key: told.refusal for key, told in self._told.items() if told.refusal}
        return Rollouts({sent.policy: read_report(sent) for sent in answer.rollouts}, refusals)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _tell(self, stub: policy_pb2_grpc.PolicyServiceStub, wanted: Sequence[RouterPolicy]) -> None:
        """Send settings one policy a call, so that those of one that are refused harm no other."""
        self._told = {policy.key: self._told[policy.key] for policy in wanted if policy.key in self._told}
        for policy in wanted:
            settings = policy_settings(policy)
            content = settings.SerializeToString(deterministic=True)
            told = self._told.get(policy.key)
            now = self._clock()
            if told is not None and told.settings == content and now - told.at < _SECONDS_UNTIL_AGAIN:
                continue
            refusal = await _configure(stub, settings)
            if refusal:
                _LOGGER.warning("The policy service refuses the settings of %s: %s", policy.key, refusal)
            self._told[policy.key] = _Told(content, now, refusal)

    def _unreachable(self, problem: str) -> Rollouts:
        self._told.clear()
        self._note(problem)
        return Rollouts(unreachable=problem)

    def _note(self, problem: str) -> None:
        self._metrics.policy_service_connected(connected=not problem)
        if problem and problem != self._problem:
            _LOGGER.warning("The policy service does not answer: %s", problem)
        self._problem = problem


async def _configure(stub: policy_pb2_grpc.PolicyServiceStub, settings: policy_pb2.PolicySettings) -> str:
    """Send a policy's settings; return why they are refused, empty = they are not."""
    try:
        await stub.Configure(policy_pb2.ConfigureRequest(policies=[settings]), timeout=_DEADLINE_SECONDS)
    except grpc.aio.AioRpcError as error:
        if error.code() not in _REFUSALS:
            raise
        return error.details() or "it does not say why"
    return ""


def _why(error: grpc.aio.AioRpcError) -> str:
    """Return a reason that stays the same while it does, as statuses show it."""
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer within {_DEADLINE_SECONDS:g} s"
    return str(error.code().name)
