"""The paper's experiment from training to figures, on a small scale."""

import dataclasses
import math
from pathlib import Path

import pytest

from pointsman_policy.errors import DocumentError
from pointsman_policy.evaluation.bench import BenchRun
from pointsman_policy.evaluation.paper import (
    BASELINES,
    FLAT,
    OTHERS,
    PAPER,
    PaperAgent,
    PaperPlan,
    margins,
    run_paper,
    standings,
)
from pointsman_policy.evaluation.paper_agents import draw_agents_curves, read_agents, train_agent, trainings
from pointsman_policy.evaluation.paper_figures import draw_standings
from pointsman_policy.evaluation.paper_sample import write_sample
from pointsman_policy.evaluation.paper_scenarios import PaperData, for_evaluation, paper_scenarios
from pointsman_policy.learning.paper import PaperSettings
from pointsman_policy.runtime.size import NetworkSize
from pointsman_policy.simulator.scenario import Scenario

SMALL = PaperSettings(size=NetworkSize(8, 2, 16), batch=16, frames_per_update=100, random_frames=900)
ROUNDS = 2


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scenario, ...]:
    path = tmp_path_factory.mktemp("data") / "mix.jsonl"
    write_sample(path, prompts=60)
    return paper_scenarios(PaperData(mix_instruct=path), loads=[0.6, 1.2], requests=120, experts=[3])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, scenarios: tuple[Scenario, ...]) -> Path:
    """Return a folder of agents: one with the graph network and a flat one."""
    out = tmp_path_factory.mktemp("agents")
    for training in trainings(scenarios, seeds=[1]):
        small = dataclasses.replace(training, settings=SMALL)
        train_agent(small, scenarios, out, lambda trial: trial.rounds < ROUNDS)
    return out


@pytest.fixture(scope="module")
def plan(scenarios: tuple[Scenario, ...], folder: Path) -> PaperPlan:
    return PaperPlan(tuple(map(for_evaluation, scenarios)), read_agents(sorted(folder.iterdir())), seeds=(1,))


@pytest.fixture(scope="module")
def runs(plan: PaperPlan) -> list[BenchRun]:
    return list(run_paper(plan))


def test_for_each_seed_there_is_a_graph_agent_and_a_flat_one_for_each_number_of_experts(
    scenarios: tuple[Scenario, ...],
) -> None:
    planned = trainings(scenarios, seeds=[4, 5])
    assert [(training.kind, training.experts, training.seed) for training in planned] == [
        (PAPER, 0, 4),
        (FLAT, 3, 4),
        (PAPER, 0, 5),
        (FLAT, 3, 5),
    ]
    assert len({training.folder for training in planned}) == 4


def test_agents_are_read_as_they_were_trained(plan: PaperPlan) -> None:
    assert [(agent.kind, agent.seed, agent.experts) for agent in plan.agents] == [(FLAT, 1, 3), (PAPER, 1, 0)]


def test_a_folder_without_an_agent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"neither agent\.json nor manifest\.json"):
        read_agents([tmp_path])
    (tmp_path / "agent.json").write_text("{}", "utf-8")
    with pytest.raises(DocumentError, match="train it anew"):
        read_agents([tmp_path])


def test_everyone_runs_in_every_scenario(plan: PaperPlan, runs: list[BenchRun]) -> None:
    assert len(runs) == len(plan)
    everyone = {*BASELINES, *OTHERS, f"{PAPER} (seed 1)", f"{FLAT} (seed 1)"}
    for scenario in plan.scenarios:
        for load in (0.6, 1.2):
            here = {run.rule.picker for run in runs if (run.scenario.name, run.load) == (scenario.name, load)}
            assert here == everyone


def test_standings_are_means_and_margins_their_differences(plan: PaperPlan, runs: list[BenchRun]) -> None:
    name = plan.scenarios[0].name
    found = {standing.kind: standing for standing in standings(plan, runs, name)}
    wanted = [run.rule.figures for run in runs if run.scenario.name == name and run.rule.picker == "RoundRobin"]
    assert found["RoundRobin"].qos == pytest.approx(sum(one.mean_qos for one in wanted) / len(wanted))
    assert found["RoundRobin"].efficiency > 0
    overall = {margin.other: margin for margin in margins(plan, runs) if margin.scenario == name}
    assert set(overall) == {*BASELINES, FLAT}
    assert math.isnan(overall["RoundRobin"].load)
    assert overall["RoundRobin"].mean == pytest.approx(found[PAPER].qos - found["RoundRobin"].qos)


def test_seeds_of_agents_are_taken_together(plan: PaperPlan, runs: list[BenchRun]) -> None:
    second = dataclasses.replace(plan.agents[1], seed=2)
    doubled = dataclasses.replace(plan, agents=(*plan.agents, second))
    worse = [
        dataclasses.replace(
            run,
            rule=dataclasses.replace(
                run.rule, picker=second.name, figures=dataclasses.replace(run.rule.figures, mean_qos=0.0)
            ),
        )
        for run in runs
        if run.rule.picker == plan.agents[1].name
    ]
    name = plan.scenarios[0].name
    alone = next(one for one in standings(plan, runs, name) if one.kind == PAPER)
    both = next(one for one in standings(doubled, [*runs, *worse], name) if one.kind == PAPER)
    assert both.agents == 2
    assert both.least == 0.0
    assert both.greatest == pytest.approx(alone.qos)
    assert both.qos == pytest.approx(alone.qos / 2)


def test_two_agents_of_one_name_are_refused(plan: PaperPlan) -> None:
    with pytest.raises(ValueError, match="same seed"):
        dataclasses.replace(plan, agents=(plan.agents[0], plan.agents[0]))


def test_agents_for_another_number_of_experts_stay_out(plan: PaperPlan) -> None:
    stranger = PaperAgent(FLAT, 9, plan.agents[0].picker, experts=6)
    names = {picker.name for part in dataclasses.replace(plan, agents=(stranger,)).parts() for picker in part.pickers}
    assert names == {*BASELINES, *OTHERS}


def test_figures_are_pictures(plan: PaperPlan, runs: list[BenchRun], folder: Path, tmp_path: Path) -> None:
    draw_standings(tmp_path / "qos.png", plan, runs)
    draw_agents_curves(sorted(folder.iterdir()), tmp_path)
    for name in ("qos.png", "curves-3.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
