"""The evidence on every policy's candidate: begun with it, fed with outcomes, and found again after a restart."""

import asyncio
import logging
from pathlib import Path

import pyarrow as pa

from pointsman_policy.errors import DocumentError
from pointsman_policy.rollout.comparison import Comparison
from pointsman_policy.rollout.stages import Evidence
from pointsman_policy.rollout.state import RolloutState
from pointsman_policy.service.columns import columns_of
from pointsman_policy.service.evidence import COLUMNS, LiveEvidence, collect, learned_yardsticks

_LOGGER = logging.getLogger(__name__)


class CandidateEvidence:
    """All policies' evidence; lives on one event loop.

    Args:
        root: Of the policy service.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._live: dict[str, LiveEvidence] = {}

    def live(self, policy: str) -> LiveEvidence | None:
        """Return what is known of a candidate's doing; None = there is no candidate."""
        return self._live.get(policy)

    def known(self, policy: str, version: str = "") -> Evidence:
        """Return what is known of a candidate's doing, as the rules of rollouts take it.

        Args:
            policy: Its key.
            version: Which must be the candidate for anything to be known; empty = whoever is.
        """
        live = self._live.get(policy)
        if live is None or (version and live.candidate != version):
            return Evidence(Comparison())
        return live.evidence

    def follow(self, policy: str, state: RolloutState) -> None:
        """Begin anew where there is another candidate; end where there is none."""
        live, candidate = self._live.get(policy), state.candidate
        if candidate is None:
            self._live.pop(policy, None)
        elif live is None or live.candidate != candidate.id.version:
            self._live[policy] = LiveEvidence(candidate.id.version, state.active.version)

    def take(self, policy: str, state: RolloutState, table: pa.Table) -> None:
        """Take in new outcomes of a policy."""
        live = self._live.get(policy)
        if live is not None and table.num_rows:
            live.take(state, columns_of(table, COLUMNS))

    async def collect(self, policy: str, state: RolloutState) -> str:
        """Collect a policy's evidence from what is stored.

        Returns:
            Why it begins anew instead; empty = it does not.
        """
        try:
            live = await asyncio.to_thread(collect, self._root, policy, state)
        except (OSError, DocumentError) as error:
            _LOGGER.error("%s: the evidence on its candidate is collected anew: %s", policy, error)
            self.follow(policy, state)
            return f"the evidence on its candidate cannot be read and is collected anew: {error}"
        if live is not None:
            self._live[policy] = live
        return ""

    async def refresh_yardsticks(self, *, missing_only: bool = False) -> None:
        """Look anew at what answers are worth, where there is a candidate, or only where that is not known yet."""
        for policy, evidence in list(self._live.items()):
            if evidence.yardstick is not None and missing_only:
                continue
            try:
                evidence.yardstick = await asyncio.to_thread(learned_yardsticks, self._root, policy)
            except (OSError, DocumentError) as error:
                _LOGGER.warning("%s: keeping what its answers are worth: %s", policy, error)
                evidence.yardstick = evidence.yardstick or {}
