"""Starts trainings when their policies' schedules say so and there is enough to learn from."""

import asyncio
import logging
from collections.abc import Callable

from pointsman_policy.experience.store import OutcomeStore
from pointsman_policy.service.cron import Cron
from pointsman_policy.service.rollouts import Rollouts
from pointsman_policy.service.trainings import Trainings

_LOGGER = logging.getLogger(__name__)


class Schedules:
    """All policies' schedules; lives on one event loop.

    Times that pass while the service is away are not caught up on.

    Args:
        store: Tells how much has come in.
        rollouts: Tell the schedules.
        trainings: Are started.
        clock: Unix seconds.
    """

    def __init__(
        self, store: OutcomeStore, rollouts: Rollouts, trainings: Trainings, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._rollouts = rollouts
        self._trainings = trainings
        self._clock = clock
        self._next: dict[str, tuple[str, float]] = {}

    def next_at(self, policy: str) -> float:
        """Return when a policy is trained next, Unix seconds; 0 = never: no schedule, or its picker does not learn."""
        settings = self._rollouts.settings(policy)
        schedule = settings.schedule
        known = self._next.get(policy)
        if not schedule or not settings.learns or policy not in self._rollouts.policies():
            return 0.0
        upcoming = Cron(schedule).next_after(self._clock())
        # The earlier of both: a clock that jumped back must not put a training off.
        return min(known[1], upcoming) if known is not None and known[0] == schedule else upcoming

    async def tick(self) -> None:
        """Start what is due.

        Raises:
            OSError: If outcomes cannot be counted, or a training not be noted.
        """
        now = self._clock()
        for policy in self._rollouts.policies():
            settings = self._rollouts.settings(policy)
            due = self.next_at(policy)
            if due and now >= due:
                self._next.pop(policy, None)
                await self._start(policy, settings.minimum_outcomes)
            elif due:
                self._next[policy] = (settings.schedule, due)

    async def missing(self, policy: str) -> int:
        """Return how many outcomes are missing for a training; 0 = there are enough.

        Raises:
            OSError: If they cannot be counted.
        """
        return max(self._rollouts.settings(policy).minimum_outcomes - await self.new_outcomes(policy), 0)

    async def new_outcomes(self, policy: str) -> int:
        """Return how many outcomes were decided since the last training began.

        Raises:
            OSError: If they cannot be counted.
        """
        last = self._trainings.last(policy)
        return await asyncio.to_thread(self._store.count_since, policy, last.started_at if last is not None else 0.0)

    async def _start(self, policy: str, minimum: int) -> None:
        new = await self.new_outcomes(policy)
        if new < minimum:
            _LOGGER.info("%s: no training, %d new outcomes of %d", policy, new, minimum)
            return
        self._trainings.start(policy)
