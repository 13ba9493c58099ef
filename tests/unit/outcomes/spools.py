"""A spool that writes at once, and what a test says of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman_operator.outcomes.metrics import LearningMetrics
from pointsman_operator.outcomes.spool import Spool, SpoolSettings

STARTED_AT = 1_800_000_000.0


class Spooling:
    """A spool at work, and what its metrics say."""

    def __init__(self, folder: Path | None, started_at: float = STARTED_AT, **settings: Any) -> None:
        self.registry = CollectorRegistry()
        self.metrics = LearningMetrics(self.registry)
        quick = {"flush_seconds": 0.005, "retry_seconds": 0.01, **settings}
        self.spool = Spool(SpoolSettings(folder=folder, **quick), self.metrics, lambda: started_at)

    def append(self, *names: str, size: int = 0) -> None:
        for name in names:
            self.spool.append(record(name, size))

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"pointsman_{name}", labels) or 0.0

    async def take(self, most_records: int = 1_000, most_bytes: int = 1 << 20) -> list[str]:
        batch = await asyncio.wait_for(self.spool.take(most_records, most_bytes), 10)
        return names_in(batch.records)

    async def take_all(self, count: int) -> list[str]:
        found: list[str] = []
        while len(found) < count:
            found += await self.take()
        return found

    async def written(self) -> None:
        """Wait until everything that was appended is on disk."""
        waiting = self.spool._waiting
        await eventually(lambda: not waiting)


def record(name: str, size: int = 0) -> pb.Record:
    return pb.Record(outcome=pb.Outcome(id=name, state=b"s" * size))


def names_in(records: tuple[bytes, ...]) -> list[str]:
    return [pb.Record.FromString(content).outcome.id for content in records]


@asynccontextmanager
async def spooling(folder: Path | None, started_at: float = STARTED_AT, **settings: Any) -> AsyncIterator[Spooling]:
    """Run a spool, and close it in the end."""
    made = Spooling(folder, started_at, **settings)
    task = asyncio.create_task(made.spool.run())
    try:
        yield made
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await made.spool.close()


async def eventually(condition: Callable[[], bool], deadline_seconds: float = 10.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(deadline_seconds):
        while not condition():  # noqa: ASYNC110 - conditions in here have no event to wait for
            await asyncio.sleep(0.002)
