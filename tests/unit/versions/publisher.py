"""A policy service that only hands out versions, and fails as a test wants it to."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from tests.unit.exports import greedy_export

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman.policy.v1 import policy_pb2_grpc
from pointsman_operator.versions.kept import VersionName
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.registry.version import FILES, PolicyVersion, write_version

POLICY = "edge/chat"
PIECE_BYTES = 100

Files = list[tuple[str, bytes]]
Context = grpc.aio.ServicerContext[Any, Any]


def made_version(folder: Path, number: int) -> tuple[VersionName, Files]:
    """Write a version of its own for each number; return its name and its files."""
    version = PolicyVersion(POLICY, 1000.0 + number, "", 5, greedy_export(0.01 + 0.001 * number), Calibration())
    written = write_version(folder / f"made{number}", version)
    files = [(name, folder / f"made{number}" / name) for name in FILES]
    name = VersionName(version=written.version, digest=written.digest)
    return name, [(path, file.read_bytes()) for path, file in files if file.exists()]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Publisher(policy_pb2_grpc.PolicyServiceServicer):
    """Serves versions that it makes itself, by their numbers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[int, tuple[VersionName, Files]] = {}
        self.assignments: dict[str, pb.Assignment] = {}
        self.asked: list[tuple[str, ...]] = []
        self.fetched: Counter[str] = Counter()
        self.damage: Callable[[Files], Files] = list
        """Changes what is sent of any version."""
        self.cut_after = 10**9
        """Pieces after which the sending of a version breaks."""
        self.hangs = False
        """Whether the sending of a version stops in its middle for ever."""
        self._changed = asyncio.Condition()

    def version(self, number: int) -> VersionName:
        """Return the name of a version, which is made if needed."""
        if number not in self._made:
            self._made[number] = made_version(self._folder, number)
        return self._made[number][0]

    async def assign(
        self, active: int | None = None, candidate: int | None = None, policy: str = POLICY, **fields: Any
    ) -> None:
        """Tell routers what to run, by number."""
        numbers = {"active": active, "candidate": candidate}
        names = {kind: self.version(number) for kind, number in numbers.items() if number is not None}
        ids: dict[str, Any] = {
            kind: pb.VersionId(version=name.version, digest=name.digest) for kind, name in names.items()
        }
        await self.tell(pb.Assignment(policy=policy, **ids, **fields))

    async def tell(self, assignment: pb.Assignment) -> None:
        """Tell routers anything."""
        async with self._changed:
            self.assignments[assignment.policy] = assignment
            self._changed.notify_all()

    async def WatchActive(  # noqa: N802 - the name of the method on the wire
        self, request: pb.WatchActiveRequest, context: Context
    ) -> AsyncIterator[pb.Assignment]:
        self.asked.append(tuple(request.policies))
        told: dict[str, pb.Assignment] = {}
        while True:
            for policy in request.policies:
                assignment = self.assignments.get(policy, pb.Assignment(policy=policy))
                if told.get(policy) != assignment:
                    told[policy] = assignment
                    yield assignment
            async with self._changed:
                await self._changed.wait()

    async def FetchVersion(  # noqa: N802 - the name of the method on the wire
        self, request: pb.FetchVersionRequest, context: Context
    ) -> AsyncIterator[pb.FilePiece]:
        self.fetched[request.version] += 1
        found = [files for name, files in self._made.values() if name.version == request.version]
        if not found:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such version")
        pieces = [
            pb.FilePiece(path=path, content=content[start : start + PIECE_BYTES])
            for path, content in self.damage(found[0])
            for start in range(0, len(content), PIECE_BYTES)
        ]
        for number, piece in enumerate(pieces):
            if number == self.cut_after:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "going away")
            if self.hangs and number == len(pieces) // 2:
                await asyncio.Event().wait()
            yield piece


@asynccontextmanager
async def serving(publisher: Publisher, port: int = 0) -> AsyncIterator[int]:
    """Serve on loopback; yields the port."""
    server = grpc.aio.server()
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(publisher, server)  # type: ignore[no-untyped-call]
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(None)
