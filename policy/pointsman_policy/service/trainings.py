"""Runs trainings: by schedule or on demand, one at a time, each in a process of its own.

A training whose process is killed, or whose service is started anew, goes on in its work folder; one that keeps being
killed, or fails, is reported and left until the schedule or a person asks again.
"""

import asyncio
import logging
import random
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from pointsman_policy.errors import DocumentError, PointsmanError
from pointsman_policy.experience.store import OutcomeStore
from pointsman_policy.registry.registry import Registry
from pointsman_policy.registry.version import GateReport
from pointsman_policy.rollout.state import VersionName
from pointsman_policy.service.rollouts import Rollouts
from pointsman_policy.service.training_process import end_leftover, run_training
from pointsman_policy.service.training_record import Progress, Result, TrainingFiles, TrainingRecord

_LOGGER = logging.getLogger(__name__)

_MOST_ATTEMPTS = 3
_PROGRESS_SECONDS = 0.5
_LONGEST_HOURS = 12.0


class Trainings:
    """All policies' trainings; lives on one event loop.

    Args:
        root: Of the policy service.
        store: Moved into parts before each training, which reads them.
        registry: Gets what comes out.
        rollouts: Are offered what comes out.
        command: What runs a training.
        processors: Cores that it may use.
        clock: Unix seconds.
        rng: Draws seeds.
    """

    def __init__(
        self,
        root: Path,
        store: OutcomeStore,
        registry: Registry,
        rollouts: Rollouts,
        *,
        command: Sequence[str],
        processors: int,
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._root = root
        self._store = store
        self._registry = registry
        self._rollouts = rollouts
        self._command = command
        self._processors = processors
        self._clock = clock
        self._rng = rng
        self._files = TrainingFiles(root)
        self._last: dict[str, TrainingRecord] = {}
        self._queue: list[str] = []
        self._wake = asyncio.Event()
        self._told = asyncio.Condition()
        for record in self._files.records():
            self._last[record.policy] = record
        self._queue += [policy for policy, record in self._last.items() if not record.ended]

    def last(self, policy: str) -> TrainingRecord | None:
        """Return the training of a policy that runs, waits, or ended last; None = there was none."""
        return self._last.get(policy)

    def running(self, policy: str) -> TrainingRecord | None:
        """Return the training of a policy that runs or waits for its turn."""
        record = self._last.get(policy)
        return record if record is not None and not record.ended else None

    def start(self, policy: str) -> TrainingRecord:
        """Start a training, or return the one that runs or waits already.

        Raises:
            OSError: If it cannot be noted.
        """
        running = self.running(policy)
        if running is not None:
            return running
        name = f"{int(self._clock())}-{uuid.UUID(int=self._rng.getrandbits(128)).hex[:8]}"
        seed = self._rng.randrange(2**31)
        record = TrainingRecord(id=name, policy=policy, started_at=self._clock(), seed=seed)
        self._files.write(record)
        self._last[policy] = record
        self._queue.append(policy)
        self._wake.set()
        return record

    async def watch(self, policy: str) -> AsyncIterator[TrainingRecord]:
        """Yield a policy's training whenever it gets on, until it ends; at least once."""
        told = None
        while True:
            record = self._last[policy]
            if record != told:
                told = record
                yield record
            if record.ended:
                return
            async with self._told:
                await self._told.wait_for(lambda: self._last[policy] != told)  # noqa: B023 - awaited at once

    async def run(self) -> None:
        """Run what is asked for, one training after the other, until cancelled."""
        while True:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            policy = self._queue[0]
            try:
                await self._train(self._last[policy])
            except TimeoutError:
                await self._fail(policy, f"took longer than {_LONGEST_HOURS:g} hours and was ended")
            except (OSError, PointsmanError) as error:
                await self._fail(policy, str(error))
            except Exception as error:
                _LOGGER.exception("A training of %s failed", policy)
                await self._fail(policy, f"failed inside the service: {error!r}")
            self._queue.pop(0)

    async def _train(self, record: TrainingRecord) -> None:
        await asyncio.to_thread(self._store.compact)
        await end_leftover(record.process, self._files.lock(record))
        while record.attempts < _MOST_ATTEMPTS:
            record = await self._keep(record, attempts=record.attempts + 1)
            try:
                async with asyncio.timeout(_LONGEST_HOURS * 3600):
                    code, words = await self._run_process(record)
            except asyncio.CancelledError:  # the service stops in good order: this attempt does not count
                self._files.write(self._last[record.policy].model_copy(update={"attempts": record.attempts - 1}))
                raise
            record = self._last[record.policy]
            if code == 0:
                await self._finish(record, self._files.result(record))
                return
            if code > 0:
                raise DocumentError(f"training {record.id}", f"failed: {words or f'exit code {code}'}")
            _LOGGER.warning("%s: training %s was killed by signal %d", record.policy, record.id, -code)
        raise DocumentError(f"training {record.id}", f"was killed {record.attempts} times; it may lack memory")

    async def _run_process(self, record: TrainingRecord) -> tuple[int, str]:
        folder = self._files.folder(record)
        arguments = ("--root", self._root, "--policy", record.policy, "--out", folder, "--seed", record.seed)
        followed = asyncio.create_task(self._follow(record.policy))
        try:
            ended = await run_training(
                [*self._command, *map(str, arguments)],
                self._files.log(record),
                self._files.lock(record),
                self._processors,
                lambda process: self._note_process(record.policy, process),
            )
        finally:
            followed.cancel()
            await asyncio.gather(followed, return_exceptions=True)
        return ended.code, ended.last_words

    def _note_process(self, policy: str, process: int) -> None:
        record = self._last[policy].model_copy(update={"process": process})
        self._last[policy] = record
        self._files.write(record)
        _LOGGER.info("%s: training %s runs as process %d", policy, record.id, process)

    async def _follow(self, policy: str) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_SECONDS)
            progress = await asyncio.to_thread(self._files.progress, self._last[policy])
            # A process that says that it is done has not ended yet.
            if progress != self._last[policy].progress and progress.phase not in ("done", "failed"):
                await self._tell(self._last[policy].model_copy(update={"progress": progress}))

    async def _finish(self, record: TrainingRecord, result: Result) -> None:
        if result.version:
            candidate = self._files.folder(record) / "candidate"
            version = await asyncio.to_thread(self._registry.add, record.policy, candidate)
            if version.version != result.version:
                raise DocumentError(str(candidate), f"holds version {version.version}, not {result.version}")
            gate = await asyncio.to_thread(self._registry.gate, record.policy, version.version)
            gate = gate or GateReport(passed=False, summary="the training left no verdict of the gate")
            name = VersionName(version=version.version, digest=version.digest)
            self._rollouts.offer(record.policy, name, gate)
            await asyncio.to_thread(self._registry.prune, record.policy, self._rollouts.in_use(record.policy))
        progress = Progress(phase="done", share=1.0, line=result.summary[:2_000])
        await self._keep(record, progress=progress, version=result.version, process=0)
        for folder in self._files.old(record.policy):
            await asyncio.to_thread(shutil.rmtree, folder, True)

    async def _fail(self, policy: str, problem: str) -> None:
        _LOGGER.error("%s: %s", policy, problem)
        record = self._last[policy]
        progress = Progress(phase="failed", share=record.progress.share, line=problem[:2_000])
        try:
            await self._keep(record, progress=progress, process=0)
        except OSError as error:
            _LOGGER.error("%s: the end of training %s cannot be noted: %s", policy, record.id, error)

    async def _keep(self, record: TrainingRecord, **update: object) -> TrainingRecord:
        record = record.model_copy(update=update)
        await self._tell(record)
        await asyncio.to_thread(self._files.write, record)
        return record

    async def _tell(self, record: TrainingRecord) -> None:
        async with self._told:
            self._last[record.policy] = record
            self._told.notify_all()
