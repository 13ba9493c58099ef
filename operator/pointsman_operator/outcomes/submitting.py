"""Streams the spool's records to the policy service, for as long as the router runs.

A record counts as delivered once the service says so; after any break, what it has not said so of is sent again. The
service leaves out what it has already.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman_operator.outcomes.metrics import LearningMetrics
from pointsman_operator.outcomes.spool import Batch, Spool
from pointsman_operator.policy_service import PolicyServiceConnection

_LOGGER = logging.getLogger(__name__)

_MOST_RECORDS = 500
_MOST_BYTES = 1 << 18
"""Decoding and encoding that much holds up the event loop for less than a millisecond."""
_WINDOW = 4
"""Batches that are on their way at once."""
_HELLO = 0
"""Sequence of the first request of a stream, which holds nothing: its answer shows that the service is there."""
_LINGER_SECONDS = 0.05
"""After each batch: records gather meanwhile, and a long backlog leaves the event loop to requests."""
_ANSWER_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_FULL_PAUSE_SECONDS = 15.0

_Call = grpc.aio.StreamStreamCall[pb.SubmitOutcomesRequest, pb.SubmitOutcomesResponse]


class _EndedError(Exception):
    """The service has ended the stream."""

    def __init__(self, code: grpc.StatusCode, details: str | None) -> None:
        super().__init__(f"{code.name}: {details or 'the stream has ended'}")
        self.code = code


class OutcomeSubmitter:
    """Keeps one stream to the policy service open, and opens it again whenever it breaks.

    Args:
        spool: Where records come from.
        connection: To the policy service; whoever made it closes it.
        router: This router's name.
        metrics: Told what was delivered.
        rng: Spreads the attempts of several routers.
        on_connected: Called each time that the service has answered anew; may append records.
        sleep: Waits for some seconds.
    """

    def __init__(
        self,
        spool: Spool,
        connection: PolicyServiceConnection,
        router: str,
        metrics: LearningMetrics,
        rng: np.random.Generator,
        on_connected: Callable[[], None] = lambda: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._spool = spool
        self._connection = connection
        self._router = router
        self._metrics = metrics
        self._rng = rng
        self._on_connected = on_connected
        self._sleep = sleep
        self._under_way: deque[Batch] = deque()
        self._failures = 0
        self._refusal = ""
        self._told = False
        self._acknowledged = asyncio.Event()
        self.problem = "it has not answered yet"
        """Why nothing is delivered now, for people; empty = it is."""

    async def run(self) -> None:
        """Submit until cancelled."""
        while True:
            pause = _FIRST_PAUSE_SECONDS
            try:
                await self._stream()
            except _EndedError as error:
                self._set_problem(str(error))
                if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
                    pause = _FULL_PAUSE_SECONDS
            except TimeoutError:
                self._set_problem(f"it has not answered for {_ANSWER_SECONDS:g} s")
            except OSError as error:
                self._set_problem(f"a TLS file cannot be read ({error})")
            except Exception as error:
                _LOGGER.exception("Submitting outcomes failed; trying again")
                self._set_problem(f"{type(error).__name__}: {error}")
            await self._sleep(self._pause_seconds(pause))

    async def drain(self, seconds: float) -> None:
        """Wait until everything is delivered, but not longer than some seconds, nor while the service is away."""
        try:
            async with asyncio.timeout(seconds):
                while not self.problem and self._spool.record_count:
                    self._acknowledged.clear()
                    await self._acknowledged.wait()
        except TimeoutError:
            _LOGGER.info("%d records are left for the next start", self._spool.record_count)

    async def _stream(self) -> None:
        """Submit over one stream until it breaks.

        Raises:
            _EndedError: When the service ends it, or cannot be reached.
            TimeoutError: When the service does not answer.
            OSError: If a TLS file cannot be read.
        """
        call: _Call = (await self._connection.stub()).SubmitOutcomes()
        self._under_way.clear()
        self._spool.rewind()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS) as deadline:
                await self._greet(call)
                deadline.reschedule(None)
                await _first_to_fail(self._send(call, deadline), self._receive(call, deadline))
        except grpc.aio.AioRpcError as error:
            raise _EndedError(error.code(), error.details()) from error
        finally:
            call.cancel()
            self._metrics.connected("outcomes", up=False)

    async def _greet(self, call: _Call) -> None:
        await call.write(pb.SubmitOutcomesRequest(router=self._router, sequence=_HELLO))
        await _answer(call)
        self._set_problem("")
        self._metrics.connected("outcomes", up=True)
        self._on_connected()

    async def _send(self, call: _Call, deadline: asyncio.Timeout) -> None:
        while True:
            while len(self._under_way) >= _WINDOW:
                self._acknowledged.clear()
                await self._acknowledged.wait()
            batch = await self._spool.take(_MOST_RECORDS, _MOST_BYTES)
            records = list(self._decoded(batch))
            if not self._under_way:
                deadline.reschedule(asyncio.get_running_loop().time() + _ANSWER_SECONDS)
            self._under_way.append(batch)
            await call.write(pb.SubmitOutcomesRequest(router=self._router, sequence=batch.end, records=records))
            await self._sleep(_LINGER_SECONDS)

    async def _receive(self, call: _Call, deadline: asyncio.Timeout) -> None:
        while True:
            answer = await _answer(call)
            if not self._under_way or answer.sequence != self._under_way[0].end:
                raise RuntimeError(f"the policy service has answered to {answer.sequence}, which was not its turn")
            batch = self._under_way.popleft()
            self._spool.acknowledge(batch)
            waits = self._under_way
            deadline.reschedule(asyncio.get_running_loop().time() + _ANSWER_SECONDS if waits else None)
            self._failures = 0
            self._count(batch, answer)
            self._acknowledged.set()

    def _count(self, batch: Batch, answer: pb.SubmitOutcomesResponse) -> None:
        self._metrics.submitted(len(batch.records) - answer.refused)
        if answer.refused:
            self._metrics.dropped("refused", answer.refused)
            if answer.problem != self._refusal:
                _LOGGER.warning("The policy service has refused %d records: %s", answer.refused, answer.problem)
            self._refusal = answer.problem

    def _decoded(self, batch: Batch) -> Iterator[pb.Record]:
        for content in batch.records:
            try:
                yield pb.Record.FromString(content)
            except DecodeError:
                self._metrics.dropped("damaged", 1)

    def _pause_seconds(self, least: float) -> float:
        growing: float = _FIRST_PAUSE_SECONDS * 2**self._failures
        self._failures = min(self._failures + 1, 10)
        return max(least, min(growing, _LONGEST_PAUSE_SECONDS)) * float(self._rng.uniform(0.5, 1.5))

    def _set_problem(self, problem: str) -> None:
        if problem and not self._told:
            _LOGGER.warning("Outcomes wait, since the policy service takes none (%s)", problem)
        if not problem:
            _LOGGER.info("The policy service takes outcomes")
        self._told = bool(problem)
        self.problem = problem
        self._acknowledged.set()


async def _answer(call: _Call) -> pb.SubmitOutcomesResponse:
    """Return the next answer.

    Raises:
        _EndedError: If there is none, since the service has ended the stream.
        grpc.aio.AioRpcError: If there is none, since the stream broke.
    """
    try:
        answer = await call.read()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise _EndedError(grpc.StatusCode.CANCELLED, "the connection is being opened anew") from None
    if isinstance(answer, pb.SubmitOutcomesResponse):
        return answer
    raise _EndedError(await call.code(), await call.details())


async def _first_to_fail(*work: Awaitable[None]) -> None:
    """Do things at once until one of them fails; raise what it failed with."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in reversed(ended):  # the one who receives knows why the stream has ended
        if isinstance(error, Exception):
            raise error
