import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tests.unit.outcomes.collector import Collector, serving
from tests.unit.outcomes.spools import STARTED_AT, Spooling, eventually, spooling

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman_operator.outcomes import submitting
from pointsman_operator.outcomes.submitting import OutcomeSubmitter
from pointsman_operator.policy_service import PolicyServiceAddress, PolicyServiceConnection


class Submitting:
    """A spool, what empties it, and the pauses that it makes."""

    def __init__(self, made: Spooling, port: int) -> None:
        self.spooling = made
        self.pauses: list[float] = []
        self.connection = PolicyServiceConnection(PolicyServiceAddress(target=f"127.0.0.1:{port}"))
        self.greetings = 0
        self.submitter = OutcomeSubmitter(
            made.spool,
            self.connection,
            "router-1",
            made.metrics,
            np.random.default_rng(1),
            self._greeted,
            self._sleep,
        )

    def append(self, *names: str, size: int = 0) -> None:
        self.spooling.append(*names, size=size)

    def value(self, name: str, **labels: str) -> float:
        return self.spooling.value(name, **labels)

    async def stored(self, collector: Collector, *names: str) -> None:
        await eventually(lambda: set(names) <= collector.stored.keys())

    def _greeted(self) -> None:
        self.greetings += 1

    async def _sleep(self, seconds: float) -> None:
        if seconds > 0.1:
            self.pauses.append(seconds)
        await asyncio.sleep(0.001)


@asynccontextmanager
async def submits(folder: Path | None, port: int, started_at: float = STARTED_AT) -> AsyncIterator[Submitting]:
    async with spooling(folder, started_at) as made:
        one = Submitting(made, port)
        task = asyncio.create_task(one.submitter.run())
        try:
            yield one
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await one.connection.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def test_records_arrive_once_and_leave_the_spool(folder: Path, collector: Collector) -> None:
    async with serving(collector) as port, submits(folder, port) as one:
        one.append("a", "b")
        await one.stored(collector, "a", "b")
        one.append("c")
        await one.stored(collector, "c")
        await eventually(lambda: one.value("outcome_spool_records") == 0)
        assert one.value("outcomes_submitted_total") == 3
        assert one.value("policy_service_connected", link="outcomes") == 1
        assert not one.submitter.problem
    assert set(collector.routers) == {"router-1"}
    assert collector.duplicates == 0


async def test_without_a_folder_records_go_from_memory(collector: Collector) -> None:
    async with serving(collector) as port, submits(None, port) as one:
        one.append("a", "b")
        await one.stored(collector, "a", "b")
        await eventually(lambda: one.value("outcome_spool_records") == 0)


async def test_batches_stay_small(folder: Path, collector: Collector) -> None:
    async with spooling(folder) as made:
        made.append(*map(str, range(1_200)))
        made.append(*map(str, range(2_000, 2_010)), size=100_000)
    async with serving(collector) as port, submits(folder, port, STARTED_AT + 5):
        await eventually(lambda: len(collector.stored) == 1_210)
    assert max(collector.sizes) == 500
    assert min(collector.sizes) <= 2


async def test_what_was_made_without_the_service_arrives_when_it_comes(
    folder: Path, collector: Collector, port: int
) -> None:
    async with submits(folder, port) as one:
        one.append("a", "b")
        await eventually(lambda: len(one.pauses) >= 3)
        assert "UNAVAILABLE" in one.submitter.problem
        assert one.value("policy_service_connected", link="outcomes") == 0
        async with serving(collector, port):
            await one.stored(collector, "a", "b")
            assert not one.submitter.problem


async def test_a_service_that_restarts_gets_everything_once(folder: Path, collector: Collector, port: int) -> None:
    async with submits(folder, port) as one:
        for start in range(0, 60, 20):
            async with serving(collector, port):
                names = [str(number) for number in range(start, start + 20)]
                one.append(*names[:10])
                await one.stored(collector, names[0])
                one.append(*names[10:])
        async with serving(collector, port):
            await one.stored(collector, *map(str, range(60)))
            await eventually(lambda: one.value("outcome_spool_records") == 0)
            assert one.greetings == 4


async def test_records_whose_answer_was_lost_are_sent_again(folder: Path, collector: Collector) -> None:
    collector.lost_answers = 2
    async with serving(collector) as port, submits(folder, port) as one:
        one.append("a", "b", "c")
        await eventually(lambda: one.value("outcome_spool_records") == 0)
        assert collector.stored.keys() == {"a", "b", "c"}
        assert collector.duplicates > 0
        assert one.value("outcomes_submitted_total") == 3


async def test_a_router_that_restarts_sends_what_was_not_acknowledged(folder: Path, collector: Collector) -> None:
    collector.silent_after = 0
    async with serving(collector) as port:
        async with submits(folder, port) as one:
            one.append("a", "b")
            await eventually(lambda: len(collector.sizes) > 0)
        assert collector.stored == {}
        collector.silent_after = 10**9
        async with submits(folder, port, STARTED_AT + 5) as one:
            await one.stored(collector, "a", "b")


async def test_a_full_service_is_left_alone_for_longer(folder: Path, collector: Collector) -> None:
    collector.status = grpc.StatusCode.RESOURCE_EXHAUSTED
    async with serving(collector) as port, submits(folder, port) as one:
        one.append("a")
        await eventually(lambda: len(one.pauses) >= 3)
        assert min(one.pauses) >= 7.5
        assert "the volume is full" in one.submitter.problem
        assert one.value("outcome_spool_records") == 1
        collector.status = None
        await one.stored(collector, "a")


async def test_pauses_grow_and_differ(folder: Path, collector: Collector, port: int) -> None:
    async with submits(folder, port) as one:
        await eventually(lambda: len(one.pauses) >= 12)
        assert one.pauses[0] <= 0.75
        assert all(15 <= pause <= 45 for pause in one.pauses[8:])
        assert len(set(one.pauses)) == len(one.pauses)
        async with serving(collector, port):
            one.append("a")
            await one.stored(collector, "a")
            await eventually(lambda: one.value("outcome_spool_records") == 0)
        seen = len(one.pauses)
        await eventually(lambda: len(one.pauses) > seen)
        assert one.pauses[seen] <= 0.75


async def test_a_service_that_says_nothing_is_given_up(
    folder: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitting, "_ANSWER_SECONDS", 0.1)
    collector.silent_after = 1
    async with serving(collector) as port, submits(folder, port) as one:
        one.append("a")
        await one.stored(collector, "a")
        await eventually(lambda: one.value("outcome_spool_records") == 0)
        one.append("b")
        await eventually(lambda: "has not answered" in one.submitter.problem)
        assert one.value("outcome_spool_records") == 1
        collector.silent_after = 10**9
        await one.stored(collector, "b")


async def test_refused_records_are_counted_and_do_not_come_again(
    folder: Path, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.refuses = "b"
    async with serving(collector) as port, submits(folder, port) as one:
        one.append("a", "b", "c")
        await eventually(lambda: one.value("outcome_spool_records") == 0)
        assert collector.stored.keys() == {"a", "c"}
        assert one.value("outcomes_dropped_total", reason="refused") == 1
        assert one.value("outcomes_submitted_total") == 2
    assert "its duration is negative" in caplog.text


async def test_each_time_that_the_service_is_away_is_reported_once(
    folder: Path, collector: Collector, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with submits(folder, port) as one:
        await eventually(lambda: len(one.pauses) >= 3)
        async with serving(collector, port):
            await eventually(lambda: not one.submitter.problem)
        seen = len(one.pauses)
        await eventually(lambda: len(one.pauses) >= seen + 3)
    told = [message.partition(",")[0] for message in caplog.messages if "utcomes" in message]
    assert told == ["Outcomes wait", "The policy service takes outcomes", "Outcomes wait"]


async def test_what_is_left_is_delivered_before_the_router_ends(folder: Path, collector: Collector) -> None:
    async with serving(collector) as port, submits(folder, port) as one:
        await eventually(lambda: not one.submitter.problem)
        one.append("a", "b")
        await one.submitter.drain(10)
        assert collector.stored.keys() == {"a", "b"}


@pytest.mark.parametrize("away", [True, False])
async def test_draining_does_not_wait_for_a_service_that_does_not_answer(
    folder: Path, collector: Collector, port: int, *, away: bool
) -> None:
    collector.silent_after = 0
    async with serving(collector, port if not away else 0), submits(folder, port) as one:
        if not away:
            await eventually(lambda: not one.submitter.problem)
        one.append("a")
        async with asyncio.timeout(5):
            await one.submitter.drain(0.05)
        assert one.value("outcome_spool_records") == 1


async def test_a_connection_that_is_opened_anew_does_not_end_submitting(folder: Path, collector: Collector) -> None:
    async with serving(collector) as port, submits(folder, port) as one:
        await eventually(lambda: not one.submitter.problem)
        await one.connection.close()
        one.append("a")
        await one.stored(collector, "a")


async def test_a_greeting_can_add_records(folder: Path, collector: Collector) -> None:
    async with serving(collector) as port, spooling(folder) as made:
        one: Any = Submitting(made, port)
        one._greeted = None
        fleet = pb.Record(fleet=pb.Fleet(policy="edge/chat"))
        submitter = OutcomeSubmitter(
            made.spool, one.connection, "r", made.metrics, np.random.default_rng(1), lambda: made.spool.append(fleet)
        )
        task = asyncio.create_task(submitter.run())
        await eventually(lambda: "edge/chat" in collector.stored)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await one.connection.close()
