"""The loop around a source: what it passes on, and how it lives through failures."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

import pytest

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.errors import TelemetryError
from pointsman_operator.telemetry.poller import Poller
from pointsman_operator.telemetry.protocols import TelemetryCounts
from pointsman_operator.telemetry.sample import LoadSample

A, B = "10.0.0.1:8000", "10.0.0.2:8000"
MakeEndpoint = Callable[..., Endpoint]
Answer = list[LoadSample] | Exception


class ScriptedSource:
    """Gives its answers in turn, the last one for ever."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.problem: str | None = None
        self.asked: list[list[str]] = []

    async def collect(self, endpoints: Sequence[Endpoint]) -> list[LoadSample]:
        self.asked.append([endpoint.name for endpoint in endpoints])
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None: ...


class Silent(ScriptedSource):
    """Never answers; counts how many wait at a time."""

    waiting = most = 0

    async def collect(self, endpoints: Sequence[Endpoint]) -> list[LoadSample]:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        self.asked.append([])
        try:
            await asyncio.Event().wait()
        finally:
            self.waiting -= 1
        raise AssertionError


class FakeTime:
    """A clock that only sleeping moves, and that ends the loop after some sleeps."""

    def __init__(self, sleeps: int) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._left = sleeps

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        self._left -= 1
        if self._left == 0:
            raise asyncio.CancelledError
        await asyncio.sleep(0)


class Fixture:
    """A poller with everything around it."""

    def __init__(self, source: ScriptedSource, endpoints: Sequence[Endpoint], *, sleeps: int = 1) -> None:
        self.time = FakeTime(sleeps)
        self.received: list[list[LoadSample]] = []
        self.counts = TelemetryCounts()
        self.poller = Poller(
            source,
            lambda: endpoints,
            1.0,
            lambda samples: self.received.append(list(samples)),
            self.counts,
            timeout_seconds=0.05,
            clock=self.time,
            monotonic=self.time,
            sleep=self.time.sleep,
        )

    async def run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await self.poller.run()


def sample(endpoint: str, sampled_at: float) -> LoadSample:
    return LoadSample(endpoint, sampled_at, 1.0, 0.0, None)


async def test_only_samples_newer_than_before_are_passed_on(make_endpoint: MakeEndpoint) -> None:
    endpoints = [make_endpoint(A), make_endpoint(B, name="b")]
    source = ScriptedSource(
        [sample(A, 5), sample(B, 5)],
        [sample(A, 5), sample(B, 6)],
        [sample(A, 4), sample(B, 6)],
        [sample(A, 7)],
    )
    fixture = Fixture(source, endpoints, sleeps=4)
    await fixture.run()
    assert fixture.received == [[sample(A, 5), sample(B, 5)], [sample(B, 6)], [sample(A, 7)]]
    assert fixture.counts.samples == {A: 2, B: 2}


async def test_samples_of_experts_not_asked_for_are_not_passed_on(make_endpoint: MakeEndpoint) -> None:
    fixture = Fixture(ScriptedSource([sample(A, 5), sample(B, 5)]), [make_endpoint(A)])
    await fixture.run()
    assert fixture.received == [[sample(A, 5)]]


async def test_experts_that_are_not_ready_are_left_alone(make_endpoint: MakeEndpoint) -> None:
    source = ScriptedSource([])
    await Fixture(source, [make_endpoint(A, name="a", ready=False), make_endpoint(B, name="b")]).run()
    assert source.asked == [["b"]]


async def test_the_interval_is_from_start_to_start(make_endpoint: MakeEndpoint) -> None:
    class Slow(ScriptedSource):
        async def collect(self, endpoints: Sequence[Endpoint]) -> list[LoadSample]:
            fixture.time.now += 0.25
            return await super().collect(endpoints)

    fixture = Fixture(Slow([sample(A, 5)]), [make_endpoint(A)], sleeps=3)
    await fixture.run()
    assert fixture.time.slept == [0.75, 0.75, 0.75]


async def test_failures_are_survived_with_longer_and_longer_pauses(make_endpoint: MakeEndpoint) -> None:
    failure = TelemetryError("nobody there")
    source = ScriptedSource(*[failure] * 6, [sample(A, 5)])
    fixture = Fixture(source, [make_endpoint(A)], sleeps=7)
    await fixture.run()
    assert fixture.time.slept == [2, 4, 8, 10, 10, 10, 1]
    assert fixture.poller.problem is None
    assert fixture.poller.last_success_at == 1000 + 2 + 4 + 8 + 10 + 10 + 10


async def test_a_problem_is_visible_and_logged_only_when_it_changes(
    make_endpoint: MakeEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    down, html = TelemetryError("down"), TelemetryError("html")
    source = ScriptedSource(down, down, down, html, html, [sample(A, 5)])
    fixture = Fixture(source, [make_endpoint(A)], sleeps=5)
    await fixture.run()
    assert fixture.poller.problem == "html"
    assert fixture.poller.last_success_at is None
    await fixture.poller.collect_once()
    assert [record.getMessage() for record in caplog.records] == [
        "Telemetry: down",
        "Telemetry: html",
        "Telemetry is complete again",
    ]


async def test_what_a_working_source_lacks_is_a_problem_too(make_endpoint: MakeEndpoint) -> None:
    source = ScriptedSource([sample(A, 5)])
    source.problem = "knows nothing of b"
    fixture = Fixture(source, [make_endpoint(A)])
    await fixture.run()
    assert fixture.poller.problem == "knows nothing of b"
    assert fixture.poller.last_success_at == 1000


async def test_a_source_that_hangs_is_cut_off_and_never_piles_up(make_endpoint: MakeEndpoint) -> None:
    source = Silent([])
    fixture = Fixture(source, [make_endpoint(A)], sleeps=3)
    await fixture.run()
    assert len(source.asked) == 3
    assert source.most == 1
    assert "took longer than 0.05 s" in str(fixture.poller.problem)


@pytest.mark.parametrize("error", [RuntimeError("bug"), KeyError("x"), RecursionError()])
async def test_a_bug_in_a_source_does_not_end_the_loop(error: Exception, make_endpoint: MakeEndpoint) -> None:
    fixture = Fixture(ScriptedSource(error, [sample(A, 5)]), [make_endpoint(A)], sleeps=2)
    await fixture.run()
    assert fixture.received == [[sample(A, 5)]]


async def test_a_receiver_that_raises_does_not_end_the_loop(make_endpoint: MakeEndpoint) -> None:
    def refuse(_samples: Sequence[LoadSample]) -> None:
        raise RuntimeError("bug")

    time = FakeTime(2)
    source = ScriptedSource([sample(A, 5)], [sample(A, 6)])
    poller = Poller(
        source, lambda: [make_endpoint(A)], 1.0, refuse, TelemetryCounts(), monotonic=time, sleep=time.sleep
    )
    with contextlib.suppress(asyncio.CancelledError):
        await poller.run()
    assert len(source.asked) == 2
    assert "RuntimeError" in str(poller.problem)


async def test_an_expert_that_comes_back_at_its_address_is_read_from_anew(make_endpoint: MakeEndpoint) -> None:
    endpoints = [make_endpoint(A)]
    fixture = Fixture(ScriptedSource([sample(A, 5)]), endpoints)
    await fixture.poller.collect_once()
    endpoints.clear()
    await fixture.poller.collect_once()
    endpoints.append(make_endpoint(A))
    await fixture.poller.collect_once()
    assert fixture.received == [[sample(A, 5)], [sample(A, 5)]]
