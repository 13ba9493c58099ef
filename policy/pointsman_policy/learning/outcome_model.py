"""Learning from outcomes what the latency model gets wrong: the chance that a request meets its objectives.

The analytic P(meets its objectives) rests on a believed latency model, on predicted lengths and on a state reckoned
from old telemetry. A network that sees all of these corrects its logit, fitted by logistic regression on what became of
requests: a supervised problem with one label for each request, free of the noise of returns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from pointsman_policy.learning.sources import Source
from pointsman_policy.networks.han import FeatureTensors
from pointsman_policy.networks.policy_network import PolicyNetwork
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.runtime.features import (
    FEATURES,
    LOGIT_SCALE,
    Features,
    empty_features,
    encode_batch,
)
from pointsman_policy.runtime.size import NetworkSize
from pointsman_policy.simulator.simulation import UNFORCED, record
from pointsman_policy.simulator.situation import Situation, situation_outcomes
from pointsman_policy.state import DROP

_SLO_LOGIT = FEATURES["expert"].index("slo_logit")
EXPERT_ESTIMATES = (
    "work_relative",
    "work_scale",
    "ttft",
    "tpot",
    "ntpot",
    "slo_logit",
    "impact",
    "health",
    "expected",
    "advantage",
)
REQUEST_ESTIMATES = ("mean_work", "best_expected")
"""Features that come from analytic estimates rather than from the state."""

_LARGEST_GRADIENT = 1.0
_WIDTHS = (4, 8, 16, 32, 64, 128)
"""Experts that a batch is padded to: fleets of like sizes are trained together."""


class Decisions(NamedTuple):
    """What was seen at K decisions, and what became of the requests."""

    features: Features
    """With a leading axis [K]."""
    chosen: npt.NDArray[np.int64]
    """Expert, [K]."""
    met: npt.NDArray[np.bool_]
    """Whether the request met its objectives, [K]."""


@dataclass(frozen=True)
class Collection:
    """How decisions are collected."""

    sampled_share: float = 0.35
    """Of decisions; successive ones are much alike."""
    explored_share: float = 0.1
    """Of requests sent to any expert at all, so that the network learns of those that the policy avoids."""


def collect(
    source: Source, indices: Sequence[int], picker: Picker, collection: Collection, rng: np.random.Generator
) -> list[Decisions]:
    """Run a picker in situations and return some of its decisions with their outcomes, by size of the fleet.

    Args:
        source: Gives the situations.
        indices: Which of them.
        picker: Decides, but for the explored share.
        collection: How many decisions, how much exploration.
        rng: Draws both.
    """
    by_width: dict[int, list[Decisions]] = {}
    for index in indices:
        situation = source.situation(index)
        experts = len(situation.fleet.coefficients)
        width = next((width for width in _WIDTHS if width >= experts), experts)
        by_width.setdefault(width, []).append(_collect_one(situation, width, picker, collection, rng))
    return [_joined(parts) for _, parts in sorted(by_width.items())]


def _collect_one(
    situation: Situation, width: int, picker: Picker, collection: Collection, rng: np.random.Generator
) -> Decisions:
    count, experts = len(situation), len(situation.fleet.coefficients)
    sampled = rng.random(count) < collection.sampled_share
    explored = rng.random(count) < collection.explored_share
    forced = np.where(explored, rng.integers(experts, size=count), UNFORCED)
    recording = record(
        situation.fleet,
        situation.requests,
        picker,
        rng,
        situation.visibility,
        situation.admission,
        situation.changes,
        sampled,
        forced,
    )
    states, rows = recording.states, recording.rows
    features = empty_features((len(rows),), experts, states.running_mask.shape[2], states.waiting_mask.shape[2])
    encode_batch(states, features)
    chosen = recording.run.expert[rows]
    sent = chosen != DROP
    per_expert = {name: _padded(getattr(features, name)[sent], width) for name in Features._fields if name != "request"}
    return Decisions(
        features=Features(request=features.request[sent], **per_expert),
        chosen=chosen[sent],
        met=situation_outcomes(situation, recording.run).met()[rows][sent],
    )


def _padded(values: npt.NDArray[Any], width: int) -> npt.NDArray[Any]:
    missing = width - values.shape[1]
    return np.pad(values, [(0, 0), (0, missing), *[(0, 0)] * (values.ndim - 2)])


def _joined(parts: Sequence[Decisions]) -> Decisions:
    features = Features(*(np.concatenate(arrays) for arrays in zip(*(part.features for part in parts), strict=True)))
    return Decisions(
        features,
        np.concatenate([part.chosen for part in parts]),
        np.concatenate([part.met for part in parts]),
    )


class OutcomeModel:
    """A policy network that is fitted to outcomes.

    Args:
        size: Of the network.
        seed: Of its first weights.
        estimates: Whether the network sees the features that analytic estimates make; what it corrects stays one.
    """

    def __init__(self, size: NetworkSize, seed: int, estimates: bool = True) -> None:
        self.network = PolicyNetwork(size, torch.Generator().manual_seed(seed))
        if not estimates:
            self.network.ignore(EXPERT_ESTIMATES, REQUEST_ESTIMATES)
        self._optimiser = torch.optim.Adam(self.network.parameters())

    def fit(self, groups: Sequence[Decisions], rng: np.random.Generator, rate: float, batch: int = 256) -> float:
        """Go once over decisions in random order and return the mean loss before each step, nats.

        Args:
            groups: From `collect`.
            rng: Draws the order.
            rate: Learning rate.
            batch: Decisions in one step.
        """
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        batches = [
            (group, rows)
            for group in groups
            for rows in np.array_split(rng.permutation(len(group.met)), -(-len(group.met) // batch))
            if len(rows)
        ]
        losses = []
        for place in rng.permutation(len(batches)):
            group, rows = batches[place]
            loss = self._loss(group, rows)
            self._optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_GRADIENT)
            self._optimiser.step()
            losses.append((float(loss.detach()), len(rows)))
        return _mean(losses)

    def losses(self, groups: Sequence[Decisions], batch: int = 1024) -> tuple[float, float]:
        """Return the mean loss over decisions, and that of the analytic chance without the network, nats."""
        own, analytic = [], []
        with torch.no_grad():
            for group in groups:
                for rows in np.array_split(np.arange(len(group.met)), -(-len(group.met) // batch)):
                    own.append((float(self._loss(group, rows)), len(rows)))
                    analytic.append((float(_cross_entropy(_analytic(group, rows), group, rows)), len(rows)))
        return _mean(own), _mean(analytic)

    def _loss(self, group: Decisions, rows: npt.NDArray[np.int64]) -> torch.Tensor:
        scores = self.network(FeatureTensors(*(torch.from_numpy(array[rows]) for array in group.features)))
        chosen = torch.from_numpy(group.chosen[rows])
        logits = _analytic(group, rows) + scores.slo_logit.gather(1, chosen[:, None])[:, 0]
        return _cross_entropy(logits, group, rows)

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return weights and optimiser state, all that is needed to go on."""
        arrays = {f"weight.{name}": values for name, values in self.network.weights().items()}
        names = [name for name, _ in self.network.named_parameters()]
        for index, state in self._optimiser.state_dict()["state"].items():
            for key, value in state.items():
                arrays[f"optimiser.{key}.{names[index]}"] = np.array(value.numpy(), np.float32)
        return arrays

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take back what `arrays` returned."""
        weights = {name: torch.tensor(arrays[f"weight.{name}"]) for name in self.network.state_dict()}
        self.network.load_state_dict(weights)
        state: dict[int, dict[str, torch.Tensor]] = {}
        for index, (name, _) in enumerate(self.network.named_parameters()):
            kept = {key: arrays.get(f"optimiser.{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
            if kept["step"] is not None:
                state[index] = {key: torch.tensor(value) for key, value in kept.items()}
        document = self._optimiser.state_dict()
        self._optimiser.load_state_dict({"state": state, "param_groups": document["param_groups"]})


def _analytic(group: Decisions, rows: npt.NDArray[np.int64]) -> torch.Tensor:
    return LOGIT_SCALE * torch.from_numpy(group.features.expert[rows, group.chosen[rows], _SLO_LOGIT])


def _cross_entropy(logits: torch.Tensor, group: Decisions, rows: npt.NDArray[np.int64]) -> torch.Tensor:
    met = torch.from_numpy(group.met[rows].astype(np.float32))
    return functional.binary_cross_entropy_with_logits(logits, met)


def _mean(losses: Sequence[tuple[float, int]]) -> float:
    """Return the mean over decisions of means over batches; NaN if there are none."""
    total = sum(count for _, count in losses)
    return sum(loss * count for loss, count in losses) / total if total else float("nan")
