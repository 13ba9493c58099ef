"""Hosts the rollouts of all policies: keeps where they stand, feeds them with outcomes, and tells routers of changes.

A state is on disk before routers hear of it, so that a crash at any moment leaves them with a state that holds; only
withdrawing a version does not wait for a disk that is full.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman_policy.errors import DocumentError
from pointsman_policy.experience.pending import Rows
from pointsman_policy.experience.policy_key import check_policy_key
from pointsman_policy.registry.registry import Registry
from pointsman_policy.registry.version import GateReport
from pointsman_policy.rollout import stages
from pointsman_policy.rollout.state import PACKAGED, RolloutError, RolloutState, Stage, VersionName
from pointsman_policy.service.candidate_evidence import CandidateEvidence
from pointsman_policy.service.policy_settings import PolicyConfiguration
from pointsman_policy.service.rollout_files import RolloutFiles

_LOGGER = logging.getLogger(__name__)

Changed = Callable[[str], None]


class Rollouts:
    """All policies' rollouts; lives on one event loop.

    Args:
        root: Of the policy service.
        registry: The versions.
        clock: Unix seconds.
    """

    def __init__(self, root: Path, registry: Registry, clock: Callable[[], float]) -> None:
        self._files = RolloutFiles(root)
        self._registry = registry
        self._clock = clock
        self._settings: dict[str, PolicyConfiguration] = {}
        self._states: dict[str, RolloutState] = {}
        self._problems: dict[str, str] = {}
        self._unsaved: set[str] = set()
        self.evidence = CandidateEvidence(root)
        """On the candidates."""
        self.changed: Changed = lambda policy: None
        """Called whenever routers may have to do something else."""
        for policy in self._files.policies():
            self._open(policy)

    def policies(self) -> list[str]:
        """Return the policies that were configured or rolled out."""
        return sorted(self._settings)

    def settings(self, policy: str) -> PolicyConfiguration:
        """Return what is wanted for a policy."""
        return self._settings.get(policy) or PolicyConfiguration(policy=policy)

    def state(self, policy: str) -> RolloutState:
        """Return where a policy stands."""
        return self._states.get(policy) or RolloutState()

    def problem(self, policy: str) -> str:
        """Return what keeps a policy's rollout from its work; empty = nothing."""
        return self._problems.get(policy, "")

    def waits_for(self, policy: str) -> str:
        """Return what the candidate waits for, for people; empty = nothing."""
        candidate = self.state(policy).candidate
        if candidate is None:
            return ""
        return stages.waits_for(candidate, self.settings(policy).rollout, self.evidence.known(policy), self._clock())

    def assignment(self, policy: str) -> pb.Assignment:
        """Return what routers should run of a policy."""
        state, settings = self.state(policy), self.settings(policy)
        result = pb.Assignment(
            policy=policy, exploration_percent=settings.exploration_percent, store_prompts=settings.store_prompts
        )
        if state.active != PACKAGED:
            result.active.CopyFrom(_id(state.active))
        candidate = state.candidate
        if candidate is not None and candidate.stage in (Stage.SHADOW, Stage.CANARY):
            result.candidate.CopyFrom(_id(candidate.id))
            result.canary_percent = candidate.percent
        return result

    def in_use(self, policy: str) -> set[str]:
        """Return the versions that routers run or may go back to."""
        state = self.state(policy)
        names = [state.active, *state.earlier, *([state.candidate.id] if state.candidate else [])]
        return {one.version for one in names}

    def configure(self, settings: PolicyConfiguration) -> None:
        """Take what is wanted for a policy.

        Raises:
            OSError: If it cannot be kept.
        """
        if self._settings.get(settings.policy) == settings:
            return
        self._files.write_settings(settings)
        self._open(settings.policy)
        self._settings[settings.policy] = settings
        self.changed(settings.policy)

    async def restore(self) -> None:
        """Collect the evidence on candidates from what is stored; to be called before outcomes come in."""
        for policy in self.policies():
            problem = await self.evidence.collect(policy, self.state(policy))
            self._problems[policy] = problem or self._problems[policy]
            await self._check_versions(policy)

    def take(self, fresh: Iterable[Rows]) -> None:
        """Take in new outcomes."""
        for policy, table in fresh:
            self.evidence.take(policy, self.state(policy), table)

    def tick(self) -> None:
        """Bring candidates on, or withdraw them, where it is time."""
        for policy, state in list(self._states.items()):
            settings = self.settings(policy).rollout
            after = stages.advance(state, settings, self.evidence.known(policy), self._clock())
            if after is not state or policy in self._unsaved:
                self._put(policy, after)

    def offer(self, policy: str, version: VersionName, gate: GateReport) -> None:
        """Take a version that a training made, which is in the registry.

        Raises:
            OSError: If that cannot be kept.
        """
        state = self._open(policy)
        after = stages.offer(state, version, passed=gate.passed, reason=gate.summary, now=self._clock())
        self._put(policy, after, strict=True)

    async def promote(self, policy: str, version: str, *, force: bool, stage: Stage | None) -> None:
        """Bring a version to its next stage; an empty name means the candidate.

        Raises:
            RolloutError: If it cannot be promoted; says why.
            DocumentError: If there is no such version, or it is damaged.
            OSError: If that cannot be kept.
        """
        state = self._open(policy)
        if not version and state.candidate is None:
            raise RolloutError("there is no candidate; name a version from `pointsman policies list`")
        version = version or (state.candidate.id.version if state.candidate else "")
        found = await asyncio.to_thread(self._registry.read, policy, version)
        gate = await asyncio.to_thread(self._registry.gate, policy, version)
        name = VersionName(version=found.version, digest=found.digest)
        after = stages.promote(
            self.state(policy),
            self.settings(policy).rollout,
            name,
            self.evidence.known(policy, version),
            self._clock(),
            passed=gate is not None and gate.passed,
            force=force,
            stage=stage,
        )
        self._put(policy, after, strict=True)

    def roll_back(self, policy: str, reason: str) -> None:
        """Withdraw the candidate, or go back from the active version to the one before.

        Raises:
            RolloutError: If there is nothing to go back to.
        """
        self._put(policy, stages.roll_back(self._open(policy), reason or "rolled back by hand", self._clock()))

    def _open(self, policy: str) -> RolloutState:
        """Return where a policy stands; its files are read if they were not."""
        if policy not in self._states:
            self._states[check_policy_key(policy)], problem = self._files.read_state(policy)
            self._settings[policy], other = self._files.read_settings(policy)
            self._problems[policy] = problem or other
        return self._states[policy]

    def _put(self, policy: str, state: RolloutState, *, strict: bool = False) -> None:
        before = self._states[policy]
        if state is before and policy not in self._unsaved:
            return
        try:
            self._files.write_state(policy, state)
        except OSError as error:
            self._problems[policy] = f"its rollout's state cannot be written ({error.strerror}); free space"
            if strict or not _only_withdraws(before, state):
                if strict:
                    raise
                return
            self._unsaved.add(policy)
        else:
            self._unsaved.discard(policy)
            self._problems[policy] = ""
        self._states[policy] = state
        self._follow(policy, before, state)
        self.changed(policy)

    def _follow(self, policy: str, before: RolloutState, state: RolloutState) -> None:
        """Log what happened, and collect evidence on whoever is the candidate now."""
        if state.history != before.history:
            entry = state.history[0]
            _LOGGER.info("%s: %s is %s: %s", policy, entry.version or "packaged policy", entry.stage, entry.reason)
        self.evidence.follow(policy, state)

    async def _check_versions(self, policy: str) -> None:
        """Say so where routers could not fetch what they are to run."""
        state = self.state(policy)
        for name in (state.active, *([state.candidate.id] if state.candidate else [])):
            try:
                if name != PACKAGED:
                    await asyncio.to_thread(self._registry.read, policy, name.version)
            except DocumentError as error:
                self._problems[policy] = f"version {name.version} cannot be given to routers that lack it: {error}"
                _LOGGER.error("%s: %s", policy, self._problems[policy])


def _only_withdraws(before: RolloutState, state: RolloutState) -> bool:
    return state.withdrawn != before.withdrawn


def _id(name: VersionName) -> pb.VersionId:
    return pb.VersionId(version=name.version, digest=name.digest)
