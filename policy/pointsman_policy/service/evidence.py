"""What is known of a candidate's doing, from the outcomes of its shadow and its canary."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from pointsman_policy.experience.dataset import load
from pointsman_policy.experience.fleet import Fleet
from pointsman_policy.experience.qos import met, qos, yardsticks
from pointsman_policy.rollout.comparison import Comparison
from pointsman_policy.rollout.stages import Evidence
from pointsman_policy.rollout.state import RolloutState, Stage
from pointsman_policy.service.columns import Columns, columns_from

COLUMNS: Final = (
    "decided_at",
    "version",
    "arm",
    "expert",
    "model",
    "status",
    "output_tokens",
    "ttft_seconds",
    "duration_seconds",
    "quality",
    "ttft_objective_seconds",
    "tpot_objective_seconds",
    "ntpot_objective_seconds",
    "shadow_version",
    "shadow_expert",
    "shadow_gain",
)
_LABELLED_OUTCOMES: Final = 100_000
"""Newest ones that yardsticks rest on."""
_NEWEST_LABELS: Final = 500
"""Of each model, that its yardstick is the mean of: what a model was worth long ago does not count."""
_UNKNOWN_QUALITY: Final = 0.5


@dataclass(slots=True)
class Shadow:
    """What a candidate would have done."""

    decisions: int = 0
    agreements: int = 0
    gain: float = 0.0
    """Sum of the predicted gains."""


class LiveEvidence:
    """Collects the evidence on one candidate.

    Args:
        candidate: The candidate's version.
        active: The version that is active.
        yardstick: What an answer of each model is worth without a label; None = nobody has looked yet.
    """

    def __init__(self, candidate: str, active: str, yardstick: Mapping[str, float] | None = None) -> None:
        self.candidate = candidate
        self._active = active
        self.yardstick = yardstick
        self.comparison = Comparison()
        self.shadow = Shadow()

    @property
    def evidence(self) -> Evidence:
        """As the rules of rollouts take it."""
        return Evidence(self.comparison, self.shadow.decisions)

    def take(self, state: RolloutState, columns: Columns) -> None:
        """Take in outcomes.

        Args:
            state: Where the policy stands.
            columns: Of `COLUMNS`, [rows].
        """
        self._take_shadow(columns)
        candidate = state.candidate
        if candidate is None or candidate.stage is not Stage.CANARY:
            return
        arm, version = columns["arm"], columns["version"]
        canary = (arm == "canary") & (version == self.candidate)
        control = (arm == "control") & (version == self._active)
        wanted = (canary | control) & (columns["decided_at"] >= candidate.canary_since)
        chosen = {name: values[wanted] for name, values in columns.items()}
        judged, worth = self._judge(chosen)
        for name, value, one in zip(chosen["arm"].tolist(), worth.tolist(), judged.tolist(), strict=True):
            self.comparison.observe(name, value, one)

    def _take_shadow(self, columns: Columns) -> None:
        mine = columns["shadow_version"] == self.candidate
        self.shadow.decisions += int(mine.sum())
        self.shadow.agreements += int((columns["shadow_expert"][mine] == columns["expert"][mine]).sum())
        self.shadow.gain += float(np.nansum(columns["shadow_gain"][mine]))

    def _judge(self, columns: Columns) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return who met the objectives and what each request was worth, [rows]."""
        judged = met(
            columns["status"],
            columns["output_tokens"],
            columns["ttft_seconds"],
            columns["duration_seconds"],
            columns["ttft_objective_seconds"],
            columns["tpot_objective_seconds"],
            columns["ntpot_objective_seconds"],
        )
        known = self.yardstick or {}
        yardstick = np.array([known.get(model, _UNKNOWN_QUALITY) for model in columns["model"]])
        return judged, qos(judged, columns["quality"], yardstick)


def collect(root: Path, policy: str, state: RolloutState) -> LiveEvidence | None:
    """Return the evidence on a policy's candidate from what is stored; None = there is no candidate.

    Raises:
        DocumentError: If the store cannot be used.
        OSError: If it cannot be read.
    """
    candidate = state.candidate
    if candidate is None:
        return None
    result = LiveEvidence(candidate.id.version, state.active.version, learned_yardsticks(root, policy))
    begun = [entry.at for entry in state.history if entry.version == candidate.id.version]
    result.take(state, columns_from(load(root, policy, since=min([candidate.since, *begun]), columns=COLUMNS), COLUMNS))
    return result


def learned_yardsticks(root: Path, policy: str) -> dict[str, float]:
    """Return what an answer of each model is worth: the mean of its newest labels, or what is declared.

    Raises:
        DocumentError: If the store cannot be used.
        OSError: If it cannot be read.
    """
    experience = load(root, policy, limit=_LABELLED_OUTCOMES, columns=("model", "quality"))
    labelled = experience.rows(~np.isnan(experience["quality"]))
    means = {}
    for code, model in enumerate(labelled.names["model"]):
        qualities = labelled["quality"][labelled["model"] == code][-_NEWEST_LABELS:]
        if len(qualities):
            means[model] = (len(qualities), float(qualities.mean()))
    return yardsticks(_declared(experience.fleet), means)


def _declared(fleet: Fleet | None) -> dict[str, float]:
    return {} if fleet is None else {expert.model: expert.quality_prior for expert in fleet.experts}
