"""The paper's experiment: its agent with and without the graph network, against its baselines, on the same requests.

Agents trained with several seeds run one by one; where a single figure is shown for them it is their mean, with the
least and the greatest beside it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pointsman_policy.evaluation.bench import BenchPlan, BenchRun, run_bench
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.simulator.scenario import Scenario

PAPER = "paper agent"
FLAT = "SAC without HAN"
BASELINES = ("RoundRobin", "ShortestQueue", "QualityFirst")
"""Of the paper; its fourth is SAC without the graph network."""
OTHERS = tuple(name for name in ("ImpactGreedy", "HanActor") if name in PICKERS)
"""Not in the paper: what Pointsman has besides."""


@dataclass(frozen=True)
class PaperAgent:
    """A trained agent."""

    kind: str
    """PAPER, FLAT, or what else it is called in tables."""
    seed: int
    """It was trained with."""
    picker: Picker
    """Its name is ignored."""
    experts: int = 0
    """The only number of experts that it works with; 0 = any."""

    @property
    def name(self) -> str:
        """Unique among agents."""
        return f"{self.kind} (seed {self.seed})"


@dataclass(frozen=True)
class PaperPlan:
    """What to run."""

    scenarios: tuple[Scenario, ...]
    agents: tuple[PaperAgent, ...]
    seeds: tuple[int, ...]
    """Of the workloads, not of the training."""

    def __post_init__(self) -> None:
        names = [(agent.name, agent.experts) for agent in self.agents]
        if len(set(names)) < len(names):
            raise ValueError("two agents of the same kind were trained with the same seed for the same experts")

    def parts(self) -> tuple[BenchPlan, ...]:
        """Return the plan of each scenario: the rules, and the agents that work with its number of experts."""
        rules = tuple(PICKERS[name] for name in (*BASELINES, *OTHERS))
        return tuple(
            BenchPlan((scenario,), (*rules, *self._agents(len(scenario.experts))), self.seeds)
            for scenario in self.scenarios
        )

    def _agents(self, experts: int) -> tuple[Picker, ...]:
        fitting = (agent for agent in self.agents if agent.experts in (0, experts))
        return tuple(_named(agent.picker, agent.name) for agent in fitting)

    def kind(self, picker: str) -> str:
        """Return what a rule is shown as: an agent's kind, else its own name."""
        return next((agent.kind for agent in self.agents if agent.name == picker), picker)

    def __len__(self) -> int:
        return sum(map(len, self.parts()))


def _named(picker: Picker, name: str) -> Picker:
    return Picker(name, picker.kernel, picker.summary, picker.parameters, picker.needs_slots, picker.version)


def run_paper(plan: PaperPlan) -> Iterator[BenchRun]:
    """Run everything, scenario by scenario; the same plan gives the same runs, but for their speed."""
    for part in plan.parts():
        yield from run_bench(part)


@dataclass(frozen=True)
class Standing:
    """A rule, or all agents of a kind, in one scenario or at one of its loads."""

    kind: str
    qos: float
    """Mean QoS, over loads, workloads and training seeds."""
    least: float
    """Of the agents' means; the same as `qos` for a rule."""
    greatest: float
    efficiency: float
    """The paper's resource efficiency: QoS per busy expert-second, mean as above."""
    drop_ratio: float
    agents: int
    """1 for a rule."""


def standings(plan: PaperPlan, runs: Sequence[BenchRun], scenario: str, load: float | None = None) -> list[Standing]:
    """Return everyone in a scenario, best first.

    Args:
        plan: The plan.
        runs: What has been run of it.
        scenario: Its name.
        load: None = mean over its loads.
    """
    chosen = [run for run in runs if run.scenario.name == scenario and load in (None, run.load)]
    by_kind: dict[str, dict[str, list[BenchRun]]] = {}
    for run in chosen:
        by_kind.setdefault(plan.kind(run.rule.picker), {}).setdefault(run.rule.picker, []).append(run)
    found = [_standing(kind, list(of_kind.values())) for kind, of_kind in by_kind.items()]
    return sorted(found, key=lambda standing: -standing.qos)


def _standing(kind: str, agents: list[list[BenchRun]]) -> Standing:
    qos = [float(np.mean([run.rule.figures.mean_qos for run in runs])) for runs in agents]
    figures = [run.rule.figures for runs in agents for run in runs]
    return Standing(
        kind=kind,
        qos=float(np.mean(qos)),
        least=min(qos),
        greatest=max(qos),
        efficiency=float(np.nanmean([one.qos_per_busy_second for one in figures] or [np.nan])),
        drop_ratio=float(np.mean([one.drop_ratio for one in figures])),
        agents=len(agents),
    )


@dataclass(frozen=True)
class Margin:
    """The least mean QoS of the paper's agents over their seeds, less what another rule reaches."""

    scenario: str
    load: float
    """NaN = mean over the scenario's loads."""
    other: str
    worst: float
    """Against the other's best agent."""
    mean: float


def margins(plan: PaperPlan, runs: Sequence[BenchRun]) -> list[Margin]:
    """Return how far the paper's agent is ahead of each of its baselines, in each scenario and at each of its loads."""
    found = []
    for scenario in dict.fromkeys(run.scenario.name for run in runs):
        loads = dict.fromkeys(run.load for run in runs if run.scenario.name == scenario)
        for load in (*loads, None):
            by_kind = {standing.kind: standing for standing in standings(plan, runs, scenario, load)}
            if PAPER not in by_kind:
                continue
            agent = by_kind[PAPER]
            others = [by_kind[name] for name in (*BASELINES, FLAT) if name in by_kind]
            found += [
                Margin(
                    scenario,
                    float("nan") if load is None else load,
                    other.kind,
                    agent.least - other.greatest,
                    agent.qos - other.qos,
                )
                for other in others
            ]
    return found
