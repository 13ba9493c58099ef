"""The agent `paper`: discrete SAC on the paper's graph network, and without it for comparison.

As in the paper, the graph network embeds the request and the experts with what they hold, an actor and two critics
score the actions, and the reward is QoS less the action impact. What differs, so that it learns within minutes:

- Experts are scored one by one with shared weights, so one network serves any number of them.
- Features include the latency model's predictions (`pointsman_policy.runtime.features`).
- A request's QoS is credited to the decision that routed it, and the penalty is corrected
  (`pointsman_policy.learning.episodes`).
- Episodes are played by the exported policy, compiled, the greedy one with a share of random actions: what is
  judged is the greedy policy, and a stochastic one would price its own mistakes. SAC is off-policy.

A round is an episode and the updates that belong to it. The policy exported is the best on validation situations.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pointsman_policy.learning.episodes import Episode, RewardSettings, play
from pointsman_policy.learning.replay import ReplayBuffer, ReplaySettings
from pointsman_policy.learning.sac import Losses, SacSettings, SoftActorCritic
from pointsman_policy.learning.scoring import mean_qos
from pointsman_policy.learning.sources import Source, training_source
from pointsman_policy.learning.training import TrainingRun
from pointsman_policy.networks.actor_critic import FlatActorCritic, GraphActorCritic
from pointsman_policy.pickers.flat_actor import flat_actor
from pointsman_policy.pickers.han_actor import han_actor
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.runtime.exported import ExportedPolicy, write_exported_policy
from pointsman_policy.runtime.features import Features
from pointsman_policy.runtime.packing import pack_network
from pointsman_policy.runtime.size import NetworkSize
from pointsman_policy.simulator.randomisation import Distribution
from pointsman_policy.simulator.situation import Situation

Weights = dict[str, npt.NDArray[np.float32]]

_SIZE = NetworkSize(channels=32, heads=4, hidden=64)
FLAT_PARTS = ("weight", "bias")
VALIDATION_FROM = 1_000_000_000
"""Index of the first validation situation; training does not get there."""


@dataclass(frozen=True)
class PaperSettings:
    """The agent's numbers; those of SAC itself are in `sac`."""

    size: NetworkSize = _SIZE
    """Of the graph network; the paper has 64 channels and 8 heads."""
    sac: SacSettings = field(default_factory=SacSettings)
    reward: RewardSettings = field(default_factory=RewardSettings)
    batch: int = 128
    """Transitions in an update."""
    frames_per_update: int = 24
    """Decisions for one update."""
    random_frames: int = 3_000
    """Decisions made at random before the policy plays."""
    exploration: float = 0.1
    """Share of random actions afterwards."""
    replay_steps: int = 20_000
    """Kept for each number of experts."""
    validation_situations: int = 8
    validation_rounds: int = 4
    """Episodes between two validations."""


class PaperLearner:
    """What learns: a network, SAC, and the experience, kept apart by the number of experts.

    Args:
        experts: 0 = the graph network, for any number; N = the flat network for N experts.
        settings: Numbers.
        seed: Of weights, exploration and batches.
    """

    def __init__(self, experts: int, settings: PaperSettings, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.experts = experts
        self.frames = 0
        self._settings = settings
        self._rng = np.random.default_rng(seed)
        self._updates = 0
        self._replays: dict[int, ReplayBuffer[Features]] = {}
        self.network: GraphActorCritic | FlatActorCritic
        if experts:
            self.network = FlatActorCritic(experts, settings.size.hidden, generator)
        else:
            self.network = GraphActorCritic(settings.size, generator)
        self.sac: SoftActorCritic[Features] = SoftActorCritic(self.network, settings.sac)

    def picker(self) -> Picker:
        """Return the actor as it is now."""
        if isinstance(self.network, FlatActorCritic):
            return flat_actor("SAC without HAN", self.network.experts, self.network.layers())
        return han_actor(pack_network(self.network.policy.weights(), self._settings.size))

    def resume(self, frames: int) -> None:
        """Go on after some frames with an empty store: updates start once the policy has played for a while."""
        self.frames = frames
        self._updates = (frames - self._settings.random_frames) // self._settings.frames_per_update

    def weights(self) -> Weights:
        """Return a copy of the actor's weights by name."""
        if isinstance(self.network, FlatActorCritic):
            layers = enumerate(self.network.layers())
            return {f"{k}.{name}": part for k, layer in layers for name, part in zip(FLAT_PARTS, layer, strict=True)}
        return self.network.policy.weights()

    def learn(self, situation: Situation) -> dict[str, float]:
        """Play a situation, store it, make the updates that it is worth, and return figures of both."""
        settings = self._settings
        exploration = 1.0 if self.frames < settings.random_frames else settings.exploration
        episode = play(situation, self.picker(), self._rng, exploration, settings.reward)
        self._store(episode)
        figures = {"episode/qos": episode.mean_qos, "episode/reward": float(episode.reward.mean())}
        losses = []
        while (self._updates + 1) * settings.frames_per_update <= self.frames - settings.random_frames:
            losses.append(self._update())
        if losses:
            means = np.mean(np.array(losses), axis=0)
            figures |= {f"sac/{name}": float(mean) for name, mean in zip(Losses._fields, means, strict=True)}
        return figures

    def _store(self, episode: Episode) -> None:
        experts = episode.features.allowed.shape[1]
        if experts not in self._replays:
            sac = self._settings.sac
            settings = ReplaySettings(self._settings.replay_steps, sac.return_steps, sac.discount)
            self._replays[experts] = ReplayBuffer(episode.features, settings)
        self._replays[experts].extend(episode.features, episode.action, episode.reward)
        self.frames += len(episode.action)

    def _update(self) -> Losses:
        replays = list(self._replays.values())
        kept = np.array([len(replay) for replay in replays], np.float64)
        replay = replays[int(self._rng.choice(len(replays), p=kept / kept.sum()))]
        batch = replay.sample(self._rng, self._settings.batch)
        if batch is None:
            raise ValueError("an episode needs more steps than a return has")
        self._updates += 1
        return self.sac.update(batch)


@dataclass
class Trial:
    """A learner with its validation situations.

    Args:
        learner: Learns.
        source: Gives situations to learn from, and others to validate on.
        settings: Numbers.
    """

    learner: PaperLearner
    source: Source
    settings: PaperSettings
    rounds: int = field(default=0, init=False)
    curve: list[tuple[float, ...]] = field(default_factory=list, init=False)
    """Frames, then the mean QoS on each validation situation."""
    best: float = field(default=-1.0, init=False)
    best_picker: Picker = field(init=False)
    best_weights: Weights = field(init=False)
    _validation: list[Situation] = field(init=False)

    def __post_init__(self) -> None:
        indices = range(VALIDATION_FROM, VALIDATION_FROM + self.settings.validation_situations)
        self._validation = [self.source.situation(index) for index in indices]
        self._validate()

    def round(self) -> dict[str, float]:
        """Learn from one more situation and return figures."""
        figures = self.learner.learn(self.source.situation(self.rounds))
        self.rounds += 1
        figures["frames"] = float(self.learner.frames)
        if self.validated:
            figures["validation/qos"] = self._validate()
        return figures

    @property
    def validated(self) -> bool:
        """Whether the last round ended with a validation."""
        return self.rounds % self.settings.validation_rounds == 0

    def finish(self) -> None:
        """Validate what was learned since the last validation."""
        if not self.validated:
            self._validate()

    def levels(self, picker: Picker) -> list[float]:
        """Return the mean QoS of a rule on each validation situation."""
        return [mean_qos(situation, picker, index) for index, situation in enumerate(self._validation)]

    def _validate(self) -> float:
        picker = self.learner.picker()
        levels = self.levels(picker)
        reached = float(np.mean(levels))
        self.curve.append((float(self.learner.frames), *levels))
        if reached > self.best:
            self.best, self.best_picker, self.best_weights = reached, picker, self.learner.weights()
        return reached

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what `restore` needs."""
        arrays = {f"sac.{name}": tensor.numpy() for name, tensor in self.learner.sac.state().items()}
        arrays |= {f"best.{name}": array for name, array in self.best_weights.items()}
        return {**arrays, "curve": np.array(self.curve), "best_qos": np.array([self.best])}

    def restore(self, rounds: int, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on after some rounds; experience is gathered anew by the policy as it is."""
        state = {name[4:]: torch.from_numpy(array) for name, array in arrays.items() if name.startswith("sac.")}
        self.learner.sac.restore(state)
        self.rounds = rounds
        self.curve = [tuple(map(float, row)) for row in arrays["curve"]]
        self.best = float(arrays["best_qos"][0])
        self.best_weights = {name[5:]: array for name, array in arrays.items() if name.startswith("best.")}
        self.learner.resume(int(self.curve[-1][0]))


class PaperTrainer:
    """Trains the paper's agent in a `TrainingRun`.

    Going on from a checkpoint takes up networks and optimisers; experience is gathered anew, so the result is not that
    of an uninterrupted run.
    """

    name = "paper"
    summary = "The paper's agent: discrete SAC on the graph network"

    def __init__(self, settings: PaperSettings | None = None, distribution: Distribution | None = None) -> None:
        self._settings = settings or PaperSettings()
        self._distribution = distribution or Distribution(requests=1_000, experts=(2, 8), admissions=("ShedHopeless",))

    def train(self, run: TrainingRun) -> Path:
        """Train until the run is over and return the folder of the exported policy."""
        source = training_source(run.plan.scenarios, self._distribution, run.plan.seed)
        trial = Trial(PaperLearner(0, self._settings, run.plan.seed), source, self._settings)
        return export(self._follow(run, trial), run)

    def _follow(self, run: TrainingRun, trial: Trial) -> Trial:
        if run.checkpoint is not None:
            trial.restore(run.checkpoint.rounds, run.checkpoint.arrays)
        while not run.is_over:
            figures = trial.round()
            line = f"{trial.learner.frames} frames, best mean QoS {trial.best:.3f}"
            run.record(trial.rounds, figures, line)
            if trial.validated:
                run.save({}, trial.arrays())
        trial.finish()
        return trial


def export(trial: Trial, run: TrainingRun) -> Path:
    """Write the best policy of a trial and return its folder."""
    plan = run.plan
    training = {
        "command": f"pointsman train --agent {plan.agent} --seed {plan.seed}",
        "scenarios": ", ".join(path.name for path in plan.scenarios) or "made-up",
        "frames": str(trial.learner.frames),
    }
    return write_trial(trial, plan.folder / "policy", training)


def write_trial(trial: Trial, folder: Path, training: Mapping[str, str]) -> Path:
    """Write the best graph policy of a trial as an exported policy and return its folder."""
    policy = ExportedPolicy(
        picker="HanActor",
        size=trial.settings.size,
        weights=trial.best_weights,
        training=dict(training),
        scores={"validation_mean_qos": trial.best},
    )
    write_exported_policy(folder, policy)
    return folder


AGENTS = (PaperTrainer(),)
