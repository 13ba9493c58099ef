import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.unit.experience.rows import NOON, POLICY, some_outcomes
from tests.unit.service.conftest import training

from pointsman_policy.experience.location import StoreLocation
from pointsman_policy.experience.pending import Rows
from pointsman_policy.experience.retention import Retention
from pointsman_policy.experience.store import OutcomeStore
from pointsman_policy.registry.registry import Registry
from pointsman_policy.service.policy_settings import PolicyConfiguration
from pointsman_policy.service.rollouts import Rollouts
from pointsman_policy.service.schedules import Schedules
from pointsman_policy.service.trainings import Trainings

THREE = NOON + 15 * 3600.0  # the next morning


@dataclass
class Scheduled:
    """Schedules with a clock of their own."""

    root: Path
    command: tuple[str, ...]
    now: float = NOON

    def __post_init__(self) -> None:
        registry = Registry(self.root)
        self.store = OutcomeStore(StoreLocation(self.root), Retention(), lambda: self.now)
        rollouts = self.rollouts = Rollouts(self.root, registry, lambda: self.now)
        self.configure("")
        self.trainings = Trainings(
            self.root,
            self.store,
            registry,
            rollouts,
            command=self.command,
            processors=1,
            clock=lambda: self.now,
            rng=random.Random(1),
        )
        self.schedules = Schedules(self.store, rollouts, self.trainings, lambda: self.now)

    def configure(self, picker: str) -> None:
        settings = PolicyConfiguration(policy=POLICY, schedule="0 3 * * *", minimum_outcomes=2, picker=picker)
        self.rollouts.configure(settings)

    def add(self, *names: str, at: float = NOON) -> None:
        self.store.add([Rows(POLICY, some_outcomes(names, at))])

    async def started_at(self, now: float) -> bool:
        self.now = now
        await self.schedules.tick()
        return self.trainings.running(POLICY) is not None


@pytest.fixture
def scheduled(tmp_path: Path) -> Iterator[Scheduled]:
    made = Scheduled(tmp_path / "root", training(tmp_path))
    yield made
    made.store.close()


async def test_it_starts_when_it_is_time_and_there_is_enough(scheduled: Scheduled) -> None:
    scheduled.add("a", "b")
    assert scheduled.schedules.next_at(POLICY) == THREE
    assert not await scheduled.started_at(NOON)
    assert not await scheduled.started_at(THREE - 1)
    assert await scheduled.started_at(THREE + 1)
    assert scheduled.schedules.next_at(POLICY) == THREE + 86_400


async def test_with_too_little_it_waits_for_the_next_time(scheduled: Scheduled) -> None:
    scheduled.add("a")
    assert not await scheduled.started_at(NOON)
    assert not await scheduled.started_at(THREE + 1)
    scheduled.add("b")
    assert not await scheduled.started_at(THREE + 2)
    assert await scheduled.started_at(THREE + 86_401)


async def test_a_clock_that_jumps_back_puts_nothing_off(scheduled: Scheduled) -> None:
    scheduled.add("a", "b", at=NOON - 3 * 86_400)
    assert not await scheduled.started_at(NOON)
    assert not await scheduled.started_at(NOON - 2 * 86_400)
    assert await scheduled.started_at(THREE - 2 * 86_400 + 1)


async def test_a_clock_that_jumps_ahead_starts_one_training(scheduled: Scheduled) -> None:
    scheduled.add("a", "b")
    assert not await scheduled.started_at(NOON)
    assert await scheduled.started_at(NOON + 30 * 86_400)
    assert scheduled.schedules.next_at(POLICY) == THREE + 30 * 86_400


async def test_only_outcomes_since_the_last_training_count(scheduled: Scheduled) -> None:
    scheduled.add("a", "b", at=NOON - 10)
    scheduled.trainings.start(POLICY)
    scheduled.add("c", at=NOON + 10)
    assert await scheduled.schedules.new_outcomes(POLICY) == 1
    assert await scheduled.schedules.missing(POLICY) == 1
    scheduled.store.compact()
    assert await scheduled.schedules.new_outcomes(POLICY) == 1


@pytest.mark.parametrize(
    ("picker", "learns"), [("HanActor", True), ("ImpactGreedy", True), ("", True), ("RoundRobin", False)]
)
async def test_what_routers_would_not_run_is_not_trained(scheduled: Scheduled, picker: str, learns: bool) -> None:
    scheduled.add("a", "b")
    scheduled.configure(picker)
    assert bool(scheduled.schedules.next_at(POLICY)) == learns
    assert not await scheduled.started_at(NOON)
    assert await scheduled.started_at(THREE + 1) == learns
