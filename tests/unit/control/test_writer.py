"""Statuses are stored when they are new, not too often, and in the end."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tests.unit.control.subjects import NOW, WHERE, report, subject

from pointsman_operator.control.api import RefusedError
from pointsman_operator.control.facts import Stored
from pointsman_operator.control.metrics import OperatorMetrics
from pointsman_operator.control.status import make_status
from pointsman_operator.control.status_document import Status
from pointsman_operator.control.writer import StatusWriter
from pointsman_operator.errors import KubernetesError
from pointsman_operator.token_bucket import TokenBucket


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Server:
    """Stores what is patched, as the API server would, or fails."""

    def __init__(self) -> None:
        self.patches: list[tuple[str, Any]] = []
        self.error: KubernetesError | None = None

    async def patch(self, path: str, body: Any) -> Any:
        if self.error:
            raise self.error
        self.patches.append((path, body))
        return {"metadata": {"resourceVersion": str(10 + len(self.patches))}, "status": body["status"]}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def metrics() -> OperatorMetrics:
    return OperatorMetrics(CollectorRegistry())


@pytest.fixture
def writer(server: Server, metrics: OperatorMetrics, clock: Clock) -> StatusWriter:
    return StatusWriter(server, metrics, clock)  # type: ignore[arg-type]


def _status(percent: int | None = 90, **changes: Any) -> Status:
    return make_status(subject(), [report(**changes)], WHERE, Status(observed_generation=0), percent, NOW)


def _writes(metrics: OperatorMetrics, result: str) -> float:
    return metrics.registry.get_sample_value("pointsman_operator_status_writes_total", {"result": result}) or 0.0


async def test_a_burst_is_stored_at_once_then_one_a_second(writer: StatusWriter, clock: Clock) -> None:
    stored = None
    waits = []
    for number in range(6):
        made = _status(problem=f"version {number}")
        wait = writer.due("u1", stored, made)
        assert wait is not None
        waits.append(round(wait, 3))
        clock.now += wait
        assert await writer.write(subject(), stored, made)
        stored = made.document()
    assert waits == [0, 0, 0, 1, 1, 1]


async def test_a_figure_alone_is_stored_once_a_minute(writer: StatusWriter, clock: Clock) -> None:
    assert await writer.write(subject(), None, _status(90))
    stored = _status(90).document()
    assert writer.due("u1", stored, _status(90)) is None
    assert writer.due("u1", stored, _status(91)) == 60.0
    clock.now += 50.0
    assert writer.due("u1", stored, _status(91)) == 10.0
    assert writer.due("u1", stored, _status(91, problem="new")) == 0.0


async def test_the_patch_names_the_object_that_is_meant(writer: StatusWriter, server: Server) -> None:
    await writer.write(subject(), {"foreign": 1}, _status())
    ((path, body),) = server.patches
    assert path == "/apis/pointsman.io/v1alpha1/namespaces/edge/routerpolicies/chat/status"
    assert body["metadata"] == {"uid": "u1"}
    assert body["status"]["foreign"] is None


async def test_what_was_written_counts_until_the_watch_has_caught_up(writer: StatusWriter) -> None:
    old = Stored("10", {"observedGeneration": 1})
    assert writer.newest("u1", old) == {"observedGeneration": 1}
    made = _status()
    await writer.write(subject(), old.status, made)
    assert writer.newest("u1", old) == {**made.document()}
    assert writer.newest("u1", Stored("12", {"observedGeneration": 7})) == {"observedGeneration": 7}
    writer.forget(frozenset())
    assert writer.newest("u1", old) == old.status


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (RefusedError("PATCH", 404, "gone"), "gone"),
        (RefusedError("PATCH", 409, "another uid"), "gone"),
        (RefusedError("PATCH", 403, "forbidden"), "failed"),
        (KubernetesError("away"), "failed"),
    ],
)
async def test_a_failed_write_is_tried_again_after_a_pause(
    writer: StatusWriter, server: Server, metrics: OperatorMetrics, clock: Clock, error: KubernetesError, result: str
) -> None:
    server.error = error
    assert not await writer.write(subject(), None, _status())
    assert writer.due("u1", None, _status()) == 5.0
    assert (_writes(metrics, result), _writes(metrics, "stored")) == (1.0, 0.0)
    server.error = None
    clock.now += 5.0
    assert writer.due("u1", None, _status()) == 0.0
    assert await writer.write(subject(), None, _status())


def test_tokens_come_back_one_by_one_up_to_the_burst(clock: Clock) -> None:
    bucket = TokenBucket(2, 10.0, clock)
    assert [bucket.take(), bucket.take(), bucket.take()] == [True, True, False]
    assert bucket.wait_seconds() == 10.0
    clock.now += 15.0
    assert [bucket.take(), bucket.take()] == [True, False]
    assert bucket.wait_seconds() == 5.0
    clock.now += 1_000.0
    assert [bucket.take(), bucket.take(), bucket.take()] == [True, True, False]
