"""Watches whether experts are still as the active versions believe, policy by policy."""

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from pointsman_policy.errors import DocumentError
from pointsman_policy.experience.dataset import load
from pointsman_policy.experience.fleet import FleetExpert
from pointsman_policy.experience.pending import Rows
from pointsman_policy.experience.store import OutcomeStore
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.registry.registry import Registry
from pointsman_policy.service.columns import columns_from, columns_of
from pointsman_policy.service.rollouts import Rollouts
from pointsman_policy.twin.drift import COLUMNS, DriftWatch, ExpertDrift

_LOGGER = logging.getLogger(__name__)

_NEWEST = 5_000
"""Outcomes that a watch begins with after a restart."""


class _Believed(NamedTuple):
    """What a watch rests on; another one takes its place when this changes."""

    version: str
    experts: tuple[FleetExpert, ...]


class Drifts:
    """All policies' watches; lives on one event loop.

    Args:
        root: Of the policy service.
        store: Tells the fleets.
        registry: Tells what versions believe.
        rollouts: Tell which version is active.
    """

    def __init__(self, root: Path, store: OutcomeStore, registry: Registry, rollouts: Rollouts) -> None:
        self._root = root
        self._store = store
        self._registry = registry
        self._rollouts = rollouts
        self._watches: dict[str, tuple[_Believed, DriftWatch]] = {}
        self._beginning: dict[str, list[pa.Table]] = {}
        """What comes in while a watch reads what is stored."""
        self._found: dict[str, tuple[ExpertDrift, ...]] = {}

    def found(self, policy: str) -> tuple[ExpertDrift, ...]:
        """Return how far a policy's experts were from what is believed of them at the last look."""
        return self._found.get(policy, ())

    def take(self, fresh: Iterable[Rows]) -> None:
        """Take in new outcomes."""
        for policy, table in fresh:
            if policy in self._beginning:
                self._beginning[policy].append(table)
            elif policy in self._watches and table.num_rows:
                self._watches[policy][1].take(columns_of(table, COLUMNS))

    async def look(self) -> None:
        """Look at all policies anew.

        Raises:
            OSError: If the store cannot be read or written.
        """
        for policy in self._rollouts.policies():
            try:
                watch = await self._watch(policy)
            except DocumentError as error:
                _LOGGER.warning("%s: drift cannot be told: %s", policy, error)
                continue
            if watch is not None:
                self._found[policy] = await asyncio.to_thread(watch.drifts)

    async def _watch(self, policy: str) -> DriftWatch | None:
        fleet = self._store.fleet(policy)
        if fleet is None:
            return None
        state = self._rollouts.state(policy)
        believed = _Believed(state.active.version, fleet.experts)
        known = self._watches.get(policy)
        if known is not None and known[0] == believed:
            return known[1]
        calibration = Calibration()
        if believed.version:
            calibration = (await asyncio.to_thread(self._registry.read, policy, believed.version)).calibration
        watch = DriftWatch(fleet.experts, calibration)
        self._beginning[policy] = []
        try:
            await self._read_stored(policy, watch, state.active_since)
        finally:
            arrived = self._beginning.pop(policy)
        for table in arrived:
            watch.take(columns_of(table, COLUMNS))
        self._watches[policy] = (believed, watch)
        return watch

    async def _read_stored(self, policy: str, watch: DriftWatch, since: float) -> None:
        await asyncio.to_thread(self._store.compact)  # what is in the journal only cannot be loaded
        experience = await asyncio.to_thread(load, self._root, policy, since=since, limit=_NEWEST, columns=COLUMNS)
        watch.take(columns_from(experience, COLUMNS))
