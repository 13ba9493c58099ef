"""Tells routers what to run: to each watcher its policies at once, and then the latest of whatever changes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection

from pointsman.policy.v1 import policy_pb2 as pb


class Assignments:
    """Hands assignments to watchers; lives on one event loop.

    A watcher that is slow misses what was overtaken meanwhile, and never makes others wait.

    Args:
        current: Returns what routers should run of a policy now.
    """

    def __init__(self, current: Callable[[str], pb.Assignment]) -> None:
        self._current = current
        self._watchers: set[_Watcher] = set()
        self._ended = False

    @property
    def watchers(self) -> int:
        """How many there are."""
        return len(self._watchers)

    def changed(self, policy: str) -> None:
        """Tell watchers of a policy that its assignment may be another one."""
        for watcher in self._watchers:
            watcher.note(policy)

    def end(self) -> None:
        """End all watches, because the service stops."""
        self._ended = True
        for watcher in self._watchers:
            watcher.wake()

    async def watch(self, policies: Collection[str]) -> AsyncIterator[pb.Assignment]:
        """Yield the assignment of each policy, and then each new one, until the caller ends it."""
        watcher = _Watcher(policies)
        self._watchers.add(watcher)
        told: dict[str, pb.Assignment] = {}
        try:
            while not self._ended:
                for policy in await watcher.noted():
                    assignment = self._current(policy)
                    if told.get(policy) != assignment:
                        told[policy] = assignment
                        yield assignment
        finally:
            self._watchers.discard(watcher)


class _Watcher:
    def __init__(self, policies: Collection[str]) -> None:
        self._policies = frozenset(policies)
        self._noted = dict.fromkeys(policies)
        self._event = asyncio.Event()
        self._event.set()

    def note(self, policy: str) -> None:
        if policy in self._policies:
            self._noted[policy] = None
            self.wake()

    def wake(self) -> None:
        self._event.set()

    async def noted(self) -> list[str]:
        await self._event.wait()
        self._event.clear()
        noted, self._noted = list(self._noted), {}
        return noted
