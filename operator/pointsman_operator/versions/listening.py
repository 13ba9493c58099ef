"""Hears from the policy service what routers should run."""

import asyncio
import logging
from collections.abc import Callable, Iterable

import grpc

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman_operator.outcomes.metrics import LearningMetrics
from pointsman_operator.policy_service import PolicyServiceConnection

_LOGGER = logging.getLogger(__name__)

_RENEWAL_SECONDS = 300.0
"""After this long a stream is opened anew: one whose other end is gone may look as if there was no news."""
_LONGEST_PAUSE_SECONDS = 30.0


class Listener:
    """Keeps a stream of assignments open for a list of policies that may change; used on one event loop.

    Args:
        connection: To the policy service.
        router: This router's name.
        metrics: Told whether the stream works.
        take: Takes each assignment of a policy that was asked for.
        pause_seconds: Before a stream that broke is opened again, at first.
    """

    def __init__(
        self,
        connection: PolicyServiceConnection,
        router: str,
        metrics: LearningMetrics,
        take: Callable[[pb.Assignment], None],
        pause_seconds: float,
    ) -> None:
        self._connection = connection
        self._router = router
        self._metrics = metrics
        self._take = take
        self._pause_seconds = pause_seconds
        self._policies: frozenset[str] = frozenset()
        self._changed = asyncio.Event()
        self._failures = 0
        self._connected = False

    def set_policies(self, policies: Iterable[str]) -> None:
        """Say which policies to ask for, by their keys."""
        wanted = frozenset(policies)
        if wanted != self._policies:
            self._policies = wanted
            self._changed.set()

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            self._changed.clear()
            if not self._policies:
                await self._changed.wait()
                continue
            listening = asyncio.create_task(self._listen())
            changing = asyncio.create_task(self._changed.wait())
            try:
                await asyncio.wait((listening, changing), return_when=asyncio.FIRST_COMPLETED)
            finally:
                listening.cancel()
                changing.cancel()
                await asyncio.gather(listening, changing, return_exceptions=True)

    async def _listen(self) -> None:
        """Ask for assignments until the list of policies changes."""
        while True:
            try:
                if await self._stream():
                    continue
                self._broke("it has ended the stream")
            except grpc.aio.AioRpcError as error:
                self._broke(f"{error.code().name}: {error.details()}")
            except OSError as error:
                self._broke(f"a TLS file cannot be read ({error})")
            except Exception as error:
                _LOGGER.exception("Listening to the policy service failed; trying again")
                self._broke(f"{type(error).__name__}: {error}")
            await asyncio.sleep(min(self._pause_seconds * 2**self._failures, _LONGEST_PAUSE_SECONDS))
            self._failures = min(self._failures + 1, 10)

    async def _stream(self) -> bool:
        """Take assignments until the stream ends; tell whether it only has to be opened anew.

        Raises:
            grpc.aio.AioRpcError: If it breaks.
            OSError: If a TLS file cannot be read.
        """
        request = pb.WatchActiveRequest(router=self._router, policies=sorted(self._policies))
        call: grpc.aio.UnaryStreamCall[pb.WatchActiveRequest, pb.Assignment] = (
            await self._connection.stub()
        ).WatchActive(request, timeout=_RENEWAL_SECONDS)
        heard = False
        try:
            async for assignment in call:
                heard = True
                self._hear(assignment)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and heard:
                return True
            raise
        finally:
            call.cancel()
        return False

    def _hear(self, assignment: pb.Assignment) -> None:
        if not self._connected:
            _LOGGER.info("The policy service says what to run")
        self._connected = True
        self._failures = 0
        self._metrics.connected("versions", up=True)
        if assignment.policy in self._policies:
            self._take(assignment)

    def _broke(self, why: str) -> None:
        if self._connected:
            _LOGGER.warning("The policy service says no more what to run (%s); keeping what runs", why)
        self._connected = False
        self._metrics.connected("versions", up=False)
