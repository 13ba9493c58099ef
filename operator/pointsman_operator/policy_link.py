"""A router's link to the policy service: outcomes go there, versions come from there, and routing waits for neither."""

import asyncio
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry

from pointsman_operator.assignment import Assignment
from pointsman_operator.outcomes.metrics import LearningMetrics
from pointsman_operator.outcomes.outcome_recorder import OutcomeRecorder
from pointsman_operator.outcomes.spool import Spool, SpoolSettings
from pointsman_operator.outcomes.submitting import OutcomeSubmitter
from pointsman_operator.policy_service import PolicyServiceAddress, PolicyServiceConnection
from pointsman_operator.versions.kept import KeptVersions
from pointsman_operator.versions.watching import VersionWatch

_DRAIN_SECONDS = 3.0
"""Longest time that a router that ends waits for its outcomes to be delivered; what is left stays on disk."""


class PolicyLink:
    """Records for the policy service, and takes versions over from it. Used on one event loop.

    Args:
        address: Where the policy service is.
        folder: Keeps outcomes and versions over restarts; None = nothing outlives the process.
        name: The router's.
        registry: For metrics.
        clock: Monotonic seconds, the router's.
        unix_clock: Unix seconds.
        rng: Spreads attempts to connect.
    """

    def __init__(
        self,
        address: PolicyServiceAddress,
        folder: Path | None,
        name: str,
        registry: CollectorRegistry,
        clock: Callable[[], float],
        unix_clock: Callable[[], float],
        rng: np.random.Generator,
    ) -> None:
        self._temporary = None if folder is not None else tempfile.TemporaryDirectory(prefix="pointsman-versions-")
        self._name = name
        self._metrics = LearningMetrics(registry)
        self._connection = PolicyServiceConnection(address)
        outcomes = None if folder is None else folder / "outcomes"
        self._spool = Spool(SpoolSettings(folder=outcomes), self._metrics, unix_clock)
        self.recorder = OutcomeRecorder(self._spool.append, clock, unix_clock)
        """What the router tells of its decisions."""
        self._submitter = OutcomeSubmitter(
            self._spool, self._connection, name, self._metrics, rng, self.recorder.repeat_fleets
        )
        versions = folder or Path(self._temporary.name if self._temporary else "")
        self._kept = KeptVersions(versions / "versions")
        self._watch: VersionWatch | None = None

    def begin(self, assign: Callable[[str, Assignment], None]) -> None:
        """Go on with the versions that were last assigned; blocks, so call it before serving.

        Args:
            assign: Takes what runs for a policy, by its key, from now on.
        """
        self._watch = VersionWatch(self._kept, self._connection, self._name, self._metrics, assign)
        self._watch.load_last()

    def set_policies(self, policies: Iterable[str]) -> None:
        """Say which policies there are, by their keys."""
        if self._watch is not None:
            self._watch.set_policies(policies)

    def problems(self) -> Mapping[str, str]:
        """Return what is wrong although the router serves, by what it is about: a policy's key or "outcomes"."""
        waits = self._spool.problem or self._submitter.problem
        return {"outcomes": waits, **(self._watch.problems if self._watch is not None else {})}

    async def run(self) -> None:
        """Keep up with the policy service until cancelled."""
        if self._watch is None:
            raise RuntimeError("begin comes first")
        async with asyncio.TaskGroup() as group:
            for run in (self._spool.run(), self._submitter.run(), self._watch.run()):
                group.create_task(run)

    async def drain(self) -> None:
        """Let what is recorded be delivered, for a moment; call it while `run` runs."""
        await self._submitter.drain(_DRAIN_SECONDS)

    async def close(self) -> None:
        """Write what is left to disk; call it once `run` has ended."""
        await self._spool.close()
        await self._connection.close()
        if self._temporary is not None:
            self._temporary.cleanup()
