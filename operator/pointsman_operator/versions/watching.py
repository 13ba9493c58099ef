"""Runs the versions that the policy service assigns, and the last good ones where it cannot be reached.

What is assigned is fetched, checked, made ready, handed over and noted on disk, in this order. A version that cannot be
had, or cannot be used, changes nothing: the one before it stays, and it is tried again later.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

import grpc

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman_operator.assignment import Assignment, Installed
from pointsman_operator.outcomes.metrics import LearningMetrics
from pointsman_operator.policy_service import PolicyServiceConnection
from pointsman_operator.versions.installing import Installer
from pointsman_operator.versions.kept import KeptAssignment, KeptVersions, VersionName
from pointsman_operator.versions.listening import Listener
from pointsman_policy.documents import parse
from pointsman_policy.errors import DocumentError

_LOGGER = logging.getLogger(__name__)

_RETRY_SECONDS = 5.0
_LONGEST_RETRY_SECONDS = 60.0


class VersionWatch:
    """Keeps assignments up to date; used on one event loop.

    Args:
        kept: Versions on disk.
        connection: To the policy service; whoever made it closes it.
        router: This router's name.
        metrics: Told of problems and of the connection.
        assign: Takes what runs for a policy, by its key, from now on.
        retry_seconds: From one attempt to get a version to the next, at first.
    """

    def __init__(
        self,
        kept: KeptVersions,
        connection: PolicyServiceConnection,
        router: str,
        metrics: LearningMetrics,
        assign: Callable[[str, Assignment], None],
        retry_seconds: float = _RETRY_SECONDS,
    ) -> None:
        self._kept = kept
        self._installer = Installer(kept, connection)
        self._listener = Listener(connection, router, metrics, self._take, retry_seconds)
        self._metrics = metrics
        self._assign = assign
        self._retry_seconds = retry_seconds
        self._wanted: dict[str, KeptAssignment] = {}
        self._applied: dict[str, KeptAssignment] = {}
        self._problems: dict[str, str] = {}
        self._due: set[str] = set()
        self._news = asyncio.Event()

    @property
    def problems(self) -> Mapping[str, str]:
        """Why a policy does not run what is assigned to it, by its key, for people."""
        return self._problems

    def load_last(self) -> None:
        """Go on with what was last assigned, before anything else is heard; blocks, so call it before serving."""
        for policy in self._kept.policies():
            try:
                self._resume(policy, self._kept.assignment(policy))
            except DocumentError as error:
                self._note_problem(policy, str(error))

    def set_policies(self, policies: Iterable[str]) -> None:
        """Say which policies there are, by their keys."""
        known = set(policies)
        for policy in self._wanted.keys() - known:
            del self._wanted[policy]
            self._problems.pop(policy, None)
        self._due &= known
        self._listener.set_policies(known)

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listener.run())
            group.create_task(self._apply())

    def _resume(self, policy: str, last: KeptAssignment) -> None:
        candidate, active = None, None
        try:
            active = self._installer.load(policy, last.active) if last.active is not None else None
            candidate = self._installer.load(policy, last.candidate) if last.candidate is not None else None
        except DocumentError as error:
            self._note_problem(policy, str(error))
            last = last.model_copy(update={"candidate": None, "canary_percent": 0})
            if active is None and last.active is not None:
                active = None if last.previous is None else self._installer.load(policy, last.previous)
                last = last.model_copy(update={"active": last.previous})
        self._hand_over(policy, last, active, candidate)

    def _take(self, message: pb.Assignment) -> None:
        """Take what the policy service says of a policy."""
        try:
            self._wanted[message.policy] = _wanted(message)
        except DocumentError as error:
            self._wanted.pop(message.policy, None)
            self._metrics.version_problem(message.policy)
            self._note_problem(message.policy, str(error))
            return
        self._due.add(message.policy)
        self._news.set()

    async def _apply(self) -> None:
        """Bring about what is wanted, again and again where that fails."""
        pause = self._retry_seconds
        while True:
            self._news.clear()
            for policy in sorted(self._due):
                try:
                    if await self._bring_about(policy):
                        self._due.discard(policy)
                except Exception as error:
                    _LOGGER.exception("Policy %s does not run what is assigned to it; trying again", policy)
                    self._note_problem(policy, f"{type(error).__name__}: {error}")
            try:
                async with asyncio.timeout(pause if self._due else None):
                    await self._news.wait()
                pause = self._retry_seconds
            except TimeoutError:
                pause = min(2 * pause, max(_LONGEST_RETRY_SECONDS, self._retry_seconds))

    async def _bring_about(self, policy: str) -> bool:
        """Let a policy run what is wanted, as far as that can be had; tell whether it does."""
        wanted = self._wanted.get(policy)
        if wanted is None:
            return True
        before = self._applied.get(policy, KeptAssignment())
        problems: list[str] = []
        active = await self._obtain(policy, wanted.active, problems)
        runs = wanted
        if active is None and wanted.active is not None:
            runs = runs.model_copy(update={"active": before.active})
            active = await self._obtain(policy, before.active, [])
        candidate = await self._obtain(policy, wanted.candidate, problems)
        if candidate is None:
            runs = runs.model_copy(update={"candidate": None, "canary_percent": 0})
        changed = runs.active != before.active
        runs = runs.model_copy(update={"previous": before.active if changed else before.previous})
        if self._wanted.get(policy) != wanted:
            return False  # overtaken meanwhile
        problems += await self._change_over(policy, runs, active, candidate)
        if self._wanted.get(policy) == wanted:
            self._note_problem(policy, "; ".join(problems))
        return not problems and self._wanted.get(policy) == wanted

    async def _change_over(
        self, policy: str, runs: KeptAssignment, active: Installed | None, candidate: Installed | None
    ) -> list[str]:
        """Hand over what is new and note it on disk; return why that did not work."""
        if runs != self._applied.get(policy):
            self._hand_over(policy, runs, active, candidate)
        try:
            if runs != await asyncio.to_thread(self._known, policy):
                await asyncio.to_thread(self._kept.keep, policy, runs)
        except OSError as error:
            return [f"what is assigned cannot be noted on disk ({error}); a restart would not know it"]
        return []

    async def _obtain(self, policy: str, name: VersionName | None, problems: list[str]) -> Installed | None:
        if name is None:
            return None
        try:
            return await self._installer.obtain(policy, name)
        except grpc.aio.AioRpcError as error:
            why = f"{error.code().name}: {error.details()}"
        except (DocumentError, OSError) as error:
            why = str(error)
        except Exception as error:
            _LOGGER.exception("Version %s of %s cannot be made ready", name.version, policy)
            why = f"{type(error).__name__}: {error}"
        self._metrics.version_problem(policy)
        problems.append(f"version {name.version} cannot be taken over ({why})")
        return None

    def _hand_over(
        self, policy: str, runs: KeptAssignment, active: Installed | None, candidate: Installed | None
    ) -> None:
        self._assign(
            policy,
            Assignment(active, candidate, runs.canary_percent, runs.exploration_percent, runs.store_prompts),
        )
        self._applied[policy] = runs
        self._installer.forget_all_but(policy, runs.versions)
        _LOGGER.info(
            "Policy %s runs %s, with the candidate %s at %d %%",
            policy,
            runs.active.version if runs.active else "the packaged policy",
            runs.candidate.version if runs.candidate else "none",
            runs.canary_percent,
        )

    def _known(self, policy: str) -> KeptAssignment | None:
        try:
            return self._kept.assignment(policy)
        except DocumentError:
            return None

    def _note_problem(self, policy: str, problem: str) -> None:
        if problem and problem != self._problems.get(policy):
            _LOGGER.warning("Policy %s does not run what is assigned to it: %s", policy, problem)
        if problem:
            self._problems[policy] = problem
        else:
            self._problems.pop(policy, None)


def _wanted(message: pb.Assignment) -> KeptAssignment:
    """Return an assignment as it is kept.

    Raises:
        DocumentError: If it makes no sense.
    """
    names = {
        kind: {"version": getattr(message, kind).version, "digest": getattr(message, kind).digest}
        for kind in ("active", "candidate")
        if message.HasField(kind)
    }
    document = {
        **names,
        "canaryPercent": message.canary_percent,
        "explorationPercent": message.exploration_percent,
        "storePrompts": message.store_prompts,
    }
    return parse(KeptAssignment, document, f"assignment of {message.policy[:80]} by the policy service")
