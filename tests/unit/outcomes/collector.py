"""A policy service that only takes outcomes, and fails as a test wants it to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman.policy.v1 import policy_pb2_grpc


class Collector(policy_pb2_grpc.PolicyServiceServicer):
    """Keeps what it takes by id, as the real one does, and what it heard otherwise."""

    def __init__(self) -> None:
        self.stored: dict[str, pb.Record] = {}
        self.duplicates = 0
        self.routers: list[str] = []
        self.sizes: list[int] = []
        self.refuses = ""
        self.status: grpc.StatusCode | None = None
        """Ends every stream at its next batch."""
        self.silent_after = 10**9
        """Batches from which on nothing is answered."""
        self.lost_answers = 0
        """So many batches are stored, and then the stream ends without an answer."""

    async def SubmitOutcomes(  # noqa: N802 - the name of the method on the wire
        self,
        requests: AsyncIterator[pb.SubmitOutcomesRequest],
        context: grpc.aio.ServicerContext[pb.SubmitOutcomesRequest, pb.SubmitOutcomesResponse],
    ) -> AsyncIterator[pb.SubmitOutcomesResponse]:
        async for request in requests:
            self.routers.append(request.router)
            if request.records:
                if self.status is not None:
                    await context.abort(self.status, "the volume is full")
                self.sizes.append(len(request.records))
                if len(self.sizes) > self.silent_after:
                    await asyncio.Event().wait()
            yield await self._take(request, context)

    async def _take(
        self,
        request: pb.SubmitOutcomesRequest,
        context: grpc.aio.ServicerContext[pb.SubmitOutcomesRequest, pb.SubmitOutcomesResponse],
    ) -> pb.SubmitOutcomesResponse:
        answer = pb.SubmitOutcomesResponse(sequence=request.sequence)
        for one in request.records:
            key = one.outcome.id or one.fleet.policy
            if key == self.refuses:
                answer.refused += 1
                answer.problem = "its duration is negative"
            elif key in self.stored:
                self.duplicates += 1
                answer.duplicates += 1
            else:
                self.stored[key] = one
                answer.stored += 1
        if request.records and self.lost_answers:
            self.lost_answers -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "going away")
        return answer


@asynccontextmanager
async def serving(collector: Collector, port: int = 0) -> AsyncIterator[int]:
    """Serve on loopback; yields the port."""
    server = grpc.aio.server()
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(None)
