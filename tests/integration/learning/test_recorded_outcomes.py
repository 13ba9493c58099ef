"""What the router records, as those find it who learn from it: with the real policy service in between."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from tests.unit.outcomes.spools import eventually
from tests.unit.routing import Core, ObedientPicker, endpoint, policy

from pointsman_operator.decision import OutcomeStatus
from pointsman_operator.errors import ShedError
from pointsman_operator.outcomes.metrics import LearningMetrics
from pointsman_operator.outcomes.outcome_recorder import OutcomeRecorder
from pointsman_operator.outcomes.spool import Spool, SpoolSettings
from pointsman_operator.outcomes.submitting import OutcomeSubmitter
from pointsman_operator.policy_service import PolicyServiceAddress, PolicyServiceConnection
from pointsman_policy.experience.dataset import DEFAULT_COLUMNS, Experience, load
from pointsman_policy.experience.location import StoreLocation
from pointsman_policy.experience.packed_state import unpack_states
from pointsman_policy.experience.prompt_features import decode_prompts
from pointsman_policy.experience.retention import Retention
from pointsman_policy.experience.store import OutcomeStore
from pointsman_policy.service.run import serve
from pointsman_policy.service.settings import ServiceSettings

POLICY = "edge/chat"
PICKER = "ImpactGreedy"


class RecordingRouter:
    """A router's core whose outcomes go to the policy service."""

    def __init__(self, folder: Path, port: int) -> None:
        self.registry = CollectorRegistry()
        metrics = LearningMetrics(self.registry)
        settings = SpoolSettings(folder=folder / "outcomes", flush_seconds=0.01, retry_seconds=0.02)
        self.spool = Spool(settings, metrics, lambda: 1.8e9)
        started_at = time.time()
        self.recorder = OutcomeRecorder(self.spool.append, self._clock, lambda: started_at + self._clock())
        self.core: Core | None = None
        policies = [policy(picker=PICKER, admission={"mode": "ShedHopeless"})]
        self.picker = ObedientPicker(name=PICKER)
        self.core = Core([endpoint("a"), endpoint("b")], policies, {PICKER: self.picker}, recorder=self.recorder)
        self.connection = PolicyServiceConnection(PolicyServiceAddress(target=f"127.0.0.1:{port}"))
        self.submitter = OutcomeSubmitter(
            self.spool, self.connection, "router-1", metrics, np.random.default_rng(1), self.recorder.repeat_fleets
        )

    def serve_requests(self, count: int) -> list[str]:
        """Route requests and report their ends; return the decisions' ids."""
        assert self.core is not None
        ids = []
        for number in range(count):
            decision = self.core.route(prompt=f"How far is it to place {number}?", request_id=str(number))
            self.core.clock.now += 0.5
            self.core.report(decision, ttft_seconds=0.1, duration_seconds=1.1, output_tokens=100, quality=0.75)
            ids.append(decision.id)
        return ids

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"pointsman_{name}", labels) or 0.0

    def _clock(self) -> float:
        return 1_000.0 if self.core is None else self.core.clock.now


@asynccontextmanager
async def recording_router(folder: Path, port: int) -> AsyncIterator[RecordingRouter]:
    one = RecordingRouter(folder, port)
    tasks = [asyncio.create_task(work) for work in (one.spool.run(), one.submitter.run())]
    try:
        yield one
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await one.spool.close()
        await one.connection.close()


@asynccontextmanager
async def policy_service(root: Path, port: int) -> AsyncIterator[None]:
    ready = asyncio.Event()
    stop = asyncio.Event()
    settings = ServiceSettings(
        root=root, addresses=(f"127.0.0.1:{port}",), admin_port=0, tick_seconds=0.02, grace_seconds=0.1
    )
    task = asyncio.create_task(serve(settings, (), stop, lambda *_: ready.set()))
    try:
        async with asyncio.timeout(30):
            await asyncio.wait({task, waits := asyncio.create_task(ready.wait())}, return_when="FIRST_COMPLETED")
            waits.cancel()
            if task.done():
                task.result()
        yield
    finally:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def learned(root: Path) -> Experience:
    """Return all that a policy service that has ended has kept."""
    store = OutcomeStore(StoreLocation(root), Retention(), time.time)
    store.compact()
    store.close()
    return load(root, POLICY, columns=(*DEFAULT_COLUMNS, "state", "prompt_features"))


async def test_what_the_router_records_can_be_learned_from(tmp_path: Path, port: int) -> None:
    root = tmp_path / "root"
    async with policy_service(root, port), recording_router(tmp_path / "state", port) as one:
        assert one.core is not None
        one.picker.scores = (0.0, 1.0)
        ids = one.serve_requests(30)
        failed = one.core.route()
        one.core.report(failed, OutcomeStatus.FAILED)
        late = one.core.route()
        one.core.report(late)
        one.core.router.label(late.id, 0.25)
        one.picker.drops = True
        with pytest.raises(ShedError):
            one.core.route()
        await eventually(lambda: one.spool.record_count == 0)
        assert one.value("outcomes_dropped_total", reason="refused") == 0
        assert one.value("outcomes_submitted_total") == one.value("outcomes_recorded_total")
    found = await asyncio.to_thread(learned, root)
    assert len(found) == 33
    assert found.text("status").tolist() == ["completed"] * 30 + ["failed", "completed", "dropped"]
    assert found.text("expert").tolist() == ["b"] * 32 + [""]
    assert found.text("model").tolist() == ["model-b"] * 32 + [""]
    assert found["quality"][:30].tolist() == [0.75] * 30
    assert found["quality"][31] == 0.25
    assert np.all(np.diff(found["decided_at"]) >= 0)
    assert not np.isnan(found["predicted_ttft_seconds"][:32]).any()
    assert found.fleet is not None
    assert [expert.name for expert in found.fleet.experts] == ["a", "b"]
    states = [one for one in found["state"] if one]
    assert len(states) >= 20
    assert unpack_states(states).refused == 0
    prompts = [one for one in found["prompt_features"] if one]
    assert len(decode_prompts(prompts).rows) == 30
    assert len(set(ids)) == 30
