"""Agents of the paper's experiment: trained on the spot, written to folders, and read from them."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from pointsman_policy.errors import DocumentError
from pointsman_policy.evaluation.paper import FLAT, PAPER, PaperAgent
from pointsman_policy.evaluation.paper_figures import Curve, draw_curves
from pointsman_policy.evaluation.paper_scenarios import for_training
from pointsman_policy.learning.paper import FLAT_PARTS, VALIDATION_FROM, PaperLearner, PaperSettings, Trial, write_trial
from pointsman_policy.learning.training import write_json
from pointsman_policy.pickers.flat_actor import flat_actor
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.pickers.trained import load_picker
from pointsman_policy.runtime.exported import MANIFEST, WEIGHTS
from pointsman_policy.simulator.scenario import Scenario
from pointsman_policy.simulator.situation import Situation, situation_from_scenario

DESCRIPTION = "agent.json"
_REQUESTS = 1_000
_VALIDATION_REQUESTS = 600
_LOADS = (0.3, 1.6)
_VALIDATION_LOADS = (0.5, 1.1, 0.8, 1.4)
_LAYERS = 3
_LEVELS = ("RoundRobin", "ShortestQueue", "QualityFirst", "ImpactGreedy")
_KINDS = {PAPER: "paper", FLAT: "flat"}


@dataclass(frozen=True)
class ExperimentSource:
    """Training situations of the experiment: its scenarios in turn, at any load; validation is the same for all seeds.

    Args:
        scenarios: From `for_training`.
        seed: Of the training.
    """

    scenarios: tuple[Scenario, ...]
    seed: int

    def situation(self, index: int) -> Situation:
        """Return the situation with this index."""
        if index < VALIDATION_FROM:
            scenario = _with_requests(self.scenarios[index % len(self.scenarios)], _REQUESTS)
            rng = np.random.default_rng([self.seed, index])
            return situation_from_scenario(scenario, float(rng.uniform(*_LOADS)), int(rng.integers(2**31)))
        place, number = divmod(index - VALIDATION_FROM, len(self.scenarios))
        scenario = _with_requests(self.scenarios[number], _VALIDATION_REQUESTS)
        return situation_from_scenario(
            scenario, _VALIDATION_LOADS[place % len(_VALIDATION_LOADS)], VALIDATION_FROM + place
        )

    def admitting(self, admissions: Sequence[str]) -> "ExperimentSource":
        """Return itself: the experiment has one mode of admission."""
        return self


@dataclass(frozen=True)
class Training:
    """One agent to be trained."""

    kind: str
    """PAPER or FLAT, or another name for a variant."""
    experts: int
    """0 = the graph network, trained on all scenarios; N = the flat one, on those of N experts."""
    seed: int
    settings: PaperSettings = field(default_factory=PaperSettings)

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.kind}{f', N = {self.experts}' if self.experts else ''}, seed {self.seed}"

    @property
    def folder(self) -> str:
        """Name of its folder."""
        kind = _KINDS.get(self.kind, self.kind.replace(" ", "-"))
        return f"{kind}{self.experts or ''}-{self.seed}"


def trainings(scenarios: Sequence[Scenario], seeds: Sequence[int]) -> tuple[Training, ...]:
    """Return the agents of the experiment: for each seed one with the graph network, and a flat one for each N."""
    counts = sorted({len(scenario.experts) for scenario in scenarios})
    return tuple(
        training
        for seed in seeds
        for training in (Training(PAPER, 0, seed), *(Training(FLAT, count, seed) for count in counts))
    )


def train_agent(
    training: Training, scenarios: Sequence[Scenario], out: Path, goes_on: Callable[[Trial], bool]
) -> PaperAgent:
    """Train an agent on the training side of scenarios and write it to a folder.

    Args:
        training: Which.
        scenarios: Of the experiment.
        out: Folder for the agent's folder.
        goes_on: Asked after each round.
    """
    fitting = tuple(for_training(one) for one in scenarios if training.experts in (0, len(one.experts)))
    count = len(fitting) * len(_VALIDATION_LOADS)
    settings = dataclasses.replace(training.settings, validation_situations=count)
    learner = PaperLearner(training.experts, settings, training.seed)
    trial = Trial(learner, ExperimentSource(fitting, training.seed), settings)
    while goes_on(trial):
        trial.round()
    trial.finish()
    folder = out / training.folder
    if training.experts:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: np.ascontiguousarray(part) for name, part in trial.best_weights.items()}, folder / WEIGHTS)
    else:
        write_trial(trial, folder, {"command": "pointsman bench paper", "seed": str(training.seed)})
    description = {
        "kind": training.kind,
        "experts": training.experts,
        "seed": training.seed,
        "validation": [len(fitting[k % len(fitting)].experts) for k in range(count)],
        "curve": trial.curve,
        "levels": {name: trial.levels(PICKERS[name]) for name in _LEVELS},
    }
    write_json(folder / DESCRIPTION, description)
    return PaperAgent(training.kind, training.seed, trial.best_picker, training.experts)


def _with_requests(scenario: Scenario, requests: int) -> Scenario:
    document = scenario.document.model_copy(update={"requests": requests})
    return dataclasses.replace(scenario, document=document)


def read_agents(folders: Sequence[Path]) -> tuple[PaperAgent, ...]:
    """Read agents; a policy of `pointsman train --agent paper` counts as one too.

    Raises:
        DocumentError: If a folder holds no agent.
    """
    return tuple(_read(folder, index) for index, folder in enumerate(folders, 1))


def _read(folder: Path, number: int) -> PaperAgent:
    path = folder / DESCRIPTION
    if not path.exists():
        if not (folder / MANIFEST).exists():
            raise DocumentError(str(folder), f"holds neither {DESCRIPTION} nor {MANIFEST}; give an agent's folder")
        return PaperAgent(PAPER, number, load_picker(folder))
    try:
        document = json.loads(path.read_text("utf-8"))
        kind, experts, seed = str(document["kind"]), int(document["experts"]), int(document["seed"])
        if not experts:
            return PaperAgent(kind, seed, load_picker(folder))
        weights = load_file(folder / WEIGHTS)
        layers = [(weights[f"{k}.{FLAT_PARTS[0]}"], weights[f"{k}.{FLAT_PARTS[1]}"]) for k in range(_LAYERS)]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise DocumentError(str(folder), f"is no agent that can be read ({error}); train it anew") from error
    return PaperAgent(kind, seed, flat_actor(kind, experts, layers), experts)


def draw_agents_curves(folders: Sequence[Path], out: Path) -> None:
    """Draw the learning curves of agents, a picture `curves-N.png` for each number of experts.

    Args:
        folders: Of agents that `train_agent` wrote.
        out: Folder for the pictures.
    """
    documents = [json.loads((folder / DESCRIPTION).read_text("utf-8")) for folder in folders]
    for experts in sorted({count for document in documents for count in document["validation"]}):
        curves: dict[str, list[Curve]] = {}
        levels: dict[str, float] = {}
        for document in documents:
            chosen = np.array(document["validation"]) == experts
            if not chosen.any():
                continue
            points = np.array(document["curve"], np.float64)
            means = points[:, 1:][:, chosen].mean(axis=1)
            curves.setdefault(str(document["kind"]), []).append((points[:, 0].tolist(), means.tolist()))
            for name, level in document["levels"].items():
                levels[name] = float(np.array(level)[chosen].mean())
        draw_curves(out / f"curves-{experts}.png", f"N = {experts}", curves, levels)
