"""Brings the stored statuses in line with the facts, policy by policy: what is wrong with one harms no other."""

import asyncio
import datetime
import logging
from collections.abc import Callable

from pointsman_operator.control.attainment import Attainment
from pointsman_operator.control.events import Announcer
from pointsman_operator.control.facts import Facts
from pointsman_operator.control.metrics import OperatorMetrics
from pointsman_operator.control.status import Subject, make_status, read_status
from pointsman_operator.control.status_document import Status
from pointsman_operator.control.writer import StatusWriter

_LOGGER = logging.getLogger(__name__)

_MOST_WRITES_AT_ONCE = 8
_WINDOW_SECONDS = 300.0


class Reconciler:
    """Makes statuses and has them stored.

    Args:
        facts: What is known.
        writer: Stores statuses.
        announcer: Posts events.
        metrics: Counts policies by condition.
        where: Where routers are looked for, for people.
        clock: Returns seconds; never goes back.
    """

    def __init__(
        self,
        facts: Facts,
        writer: StatusWriter,
        announcer: Announcer,
        metrics: OperatorMetrics,
        where: str,
        clock: Callable[[], float],
    ) -> None:
        self._facts = facts
        self._writer = writer
        self._announcer = announcer
        self._metrics = metrics
        self._where = where
        self._clock = clock
        self._attainment = Attainment(_WINDOW_SECONDS)
        self._began = clock()
        self._statuses: dict[str, Status] = {}
        self._limit = asyncio.Semaphore(_MOST_WRITES_AT_ONCE)

    def observe(self) -> None:
        """Take note of the counters in the reports; call it once for each round of reports."""
        now = self._clock()
        for router in self._facts.reports or ():
            for key, report in router.policies.items():
                self._attainment.observe(
                    key, router.router, report.answered_request_count, report.met_objective_count, now
                )

    async def reconcile(self) -> float | None:
        """Look at every policy once.

        Returns:
            Seconds until a status that had to wait can be stored; None = none has to.
        """
        subjects = self._facts.subjects()
        uids = frozenset(subject.uid for subject in subjects)
        self._writer.forget(uids)
        self._announcer.forget(uids)
        self._attainment.forget(
            frozenset(subject.key for subject in subjects),
            frozenset(report.router for report in self._facts.reports or ()),
        )
        self._statuses = {uid: status for uid, status in self._statuses.items() if uid in uids}
        waits = await asyncio.gather(*(self._guarded(subject) for subject in subjects))
        self._metrics.policies(self._statuses.values())
        return min((wait for wait in waits if wait is not None), default=None)

    async def _guarded(self, subject: Subject) -> float | None:
        try:
            return await self._one(subject)
        except Exception:
            _LOGGER.exception("RouterPolicy %s cannot be looked after now; the others are", subject.key)
            return None

    async def _one(self, subject: Subject) -> float | None:
        watched = self._facts.stored(subject.uid)
        if watched is None:
            return None
        stored = self._writer.newest(subject.uid, watched)
        before = read_status({"status": stored})
        made = self._make(subject, before)
        self._statuses[subject.uid] = made
        await self._announcer.experts(subject)
        wait = self._writer.due(subject.uid, stored, made)
        if wait != 0.0:
            return wait
        async with self._limit:
            if await self._writer.write(subject, stored, made):
                await self._announcer.conditions(subject, before, made)
        return None

    def _make(self, subject: Subject, before: Status) -> Status:
        percent = self._attainment.percent(subject.key)
        if percent is None and self._clock() - self._began < _WINDOW_SECONDS:
            percent = before.slo_attainment_percent  # of an earlier process, and still about the same minutes
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        rollout = self._facts.rollout(subject.key)
        return make_status(subject, self._facts.reports or (), self._where, before, percent, now, rollout)
