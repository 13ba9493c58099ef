import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from pointsman_operator.cli import bench_sim as command
from pointsman_policy.errors import DocumentError
from pointsman_policy.evaluation.bench import (
    RESULT_FIGURES,
    BenchPlan,
    BenchRun,
    compare_runs,
    find_pickers,
    run_bench,
    write_results,
    write_text,
)
from pointsman_policy.evaluation.emulation import emulate, run_outcomes
from pointsman_policy.simulator.scenario import Scenario, read_scenario
from pointsman_policy.simulator.situation import build_fleet, build_visibility
from pointsman_policy.simulator.workload import build_workload
from pointsman_policy.state import DROP

_SCENARIO = """
name: tiny
description: Two made-up experts.
experts:
  - {name: small, model: gemma-2-2b, gpu: A10, speed: 2.0}
  - {name: large, model: gemma-2-9b, gpu: L40S, maximumRunning: 8, kvCapacityTokens: 9000}
requests: 300
lengths:
  prompt: {kind: lognormal, meanTokens: 200}
  output: {kind: lognormal, meanTokens: 50}
quality:
  synthetic: {meanPercent: {gemma-2-2b: 50, gemma-2-9b: 70}}
objectives: {normalizedTimePerOutputTokenMilliseconds: 30, timeToFirstTokenMilliseconds: 2000}
admission: {mode: ShedHopeless}
telemetry: {intervalMilliseconds: 500, delayMilliseconds: 20}
outcomes: {delayMilliseconds: 30, progressMilliseconds: 0}
beliefScalePercent: 150
loadFactors: [0.5, 3]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(_SCENARIO, "utf-8")
    return path


@pytest.fixture
def scenario(path: Path) -> Scenario:
    return read_scenario(path)


@pytest.fixture
def plan(scenario: Scenario) -> BenchPlan:
    return BenchPlan((scenario,), find_pickers(["RoundRobin", "ImpactGreedy"]), (1, 2))


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=160, record=True)


def test_the_fleet_is_what_the_scenario_says_and_what_it_believes(scenario: Scenario) -> None:
    fleet = build_fleet(scenario)

    assert fleet.coefficients[0, 0] == scenario.experts[0].coefficients.base_seconds
    assert fleet.believed_coefficients == pytest.approx(1.5 * fleet.coefficients)
    assert fleet.maximum_running.tolist() == [256, 8]
    assert fleet.kv_capacity[1] == 9_000
    assert fleet.quality_prior == pytest.approx([0.5, 0.7])


def test_visibility_is_in_seconds_and_a_progress_interval_of_none_means_always_known(scenario: Scenario) -> None:
    visibility = build_visibility(scenario)

    assert visibility.telemetry_interval == pytest.approx(0.5)
    assert visibility.telemetry_delay == pytest.approx(0.02)
    assert visibility.outcome_delay == pytest.approx(0.03)
    assert visibility.progress_interval == 0.0


def test_outcomes_are_those_of_the_expert_that_answered(scenario: Scenario) -> None:
    workload = build_workload(scenario, 3.0, seed=1)
    (picker,) = find_pickers(["ImpactGreedy"])
    run = emulate(scenario, build_fleet(scenario), workload, picker, np.random.default_rng(1))

    outcomes = run_outcomes(workload, run)

    assert outcomes.dropped.tolist() == (run.expert == DROP).tolist()
    assert (outcomes.answered ^ outcomes.dropped).all()
    for i in np.flatnonzero(outcomes.answered):
        assert outcomes.output_tokens[i] == workload.output_tokens[i, run.expert[i]]
        assert outcomes.quality[i] == workload.quality[i, run.expert[i]]
    assert outcomes.qos().max() <= 1.0
    assert outcomes.dropped.any()


def test_every_combination_runs_once_on_shared_workloads(plan: BenchPlan) -> None:
    runs = list(run_bench(plan))

    assert len(runs) == len(plan) == 8
    combinations = [(run.load, run.rule.seed, run.rule.picker) for run in runs]
    assert combinations[:3] == [(0.5, 1, "RoundRobin"), (0.5, 1, "ImpactGreedy"), (0.5, 2, "RoundRobin")]
    assert len(set(combinations)) == 8
    for run in runs:
        assert run.rule.figures.requests == 300
        assert run.rule.figures.failure_ratio == 0.0
        assert run.rule.qos.mean == pytest.approx(run.rule.figures.mean_qos)


def test_the_same_plan_gives_the_same_runs(plan: BenchPlan) -> None:
    first, second = ([_row(run) for run in run_bench(plan)] for _ in range(2))

    assert first == second


def _row(run: BenchRun) -> list[float]:
    return [getattr(run.rule.figures, name) for name in RESULT_FIGURES if name != "decisions_per_second"]


def test_runs_are_compared_scenario_by_scenario_and_load_by_load(plan: BenchPlan) -> None:
    (comparison,) = compare_runs(list(run_bench(plan)))

    assert comparison.title == "tiny"
    assert [cell.title for cell in comparison.cells] == ["load 0.5", "load 3"]
    assert comparison.objectives == (2.0, 0.0, 0.03)


def test_results_have_one_row_for_each_run_and_null_for_what_is_not_known(plan: BenchPlan, tmp_path: Path) -> None:
    runs = list(run_bench(plan))
    file = tmp_path / "results.json"

    write_results(file, runs, complete=True)

    document = json.loads(file.read_text("utf-8"), parse_constant=pytest.fail)
    assert document["meta"] == {"schema": 1, "complete": True}
    assert len(document["rows"]) == 8
    for row in document["rows"]:
        assert list(row) == ["scenario", "load", "seed", "picker", *RESULT_FIGURES]


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text("old", "utf-8")

    write_text(file, "new")

    assert file.read_text("utf-8") == "new"
    assert list(tmp_path.iterdir()) == [file]


def test_a_failed_replacement_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "report.html"
    folder.mkdir()

    with pytest.raises(OSError, match=str(folder)):
        write_text(folder, "new")

    assert list(tmp_path.iterdir()) == [folder]


def test_unknown_pickers_are_named_with_the_choice_there_is() -> None:
    with pytest.raises(DocumentError, match=r"no picker is named 'Best'; choose from .*ImpactGreedy, .*RoundRobin"):
        find_pickers(["RoundRobin", "Best"])
    with pytest.raises(DocumentError, match="no picker is given"):
        find_pickers([])


def test_a_picker_given_twice_runs_once() -> None:
    assert [picker.name for picker in find_pickers(["Random", "LeastKv", "Random"])] == ["Random", "LeastKv"]


def test_two_scenarios_of_one_name_are_refused(scenario: Scenario) -> None:
    with pytest.raises(DocumentError, match="two scenarios have the name 'tiny'"):
        BenchPlan((scenario, scenario), find_pickers(["Random"]), (1,))


def test_the_command_writes_results_and_report(path: Path, tmp_path: Path, console: Console) -> None:
    out = tmp_path / "new" / "folder"

    complete = command.bench_sim([path], ["RoundRobin", "ImpactGreedy"], [1, 2, 1], out, console)

    assert complete
    assert len(json.loads((out / "results.json").read_text("utf-8"))["rows"]) == 8
    assert "tiny" in (out / "report.html").read_text("utf-8")
    printed = console.export_text()
    assert "has the highest mean QoS" in printed
    assert "8 of 8 runs" in printed


def test_stopping_the_command_keeps_what_is_finished(
    path: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(plan: BenchPlan) -> object:
        for count, run in enumerate(run_bench(plan)):
            if count == 3:
                raise KeyboardInterrupt
            yield run

    monkeypatch.setattr(command, "run_bench", interrupted)

    complete = command.bench_sim([path], ["RoundRobin", "ImpactGreedy"], [1, 2], tmp_path, console)

    assert not complete
    document = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert document["meta"]["complete"] is False
    assert len(document["rows"]) == 3
    assert "Stopped before its end" in (tmp_path / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("pickers", "seeds", "message"),
    [
        (["Nobody"], [1], "--picker: no picker is named 'Nobody'"),
        (["Random"], [], "--seeds: must be one or more integers"),
        (["Random"], [-1], "--seeds: must be one or more integers"),
    ],
)
def test_wrong_arguments_are_explained(
    path: Path, tmp_path: Path, console: Console, pickers: list[str], seeds: list[int], message: str
) -> None:
    with pytest.raises(DocumentError, match=message):
        command.bench_sim([path], pickers, seeds, tmp_path, console)


def test_a_folder_that_cannot_be_written_to_is_found_out_before_anything_runs(
    path: Path, tmp_path: Path, console: Console
) -> None:
    file = tmp_path / "file"
    file.touch()

    with pytest.raises(DocumentError, match="choose another folder with --out"):
        command.bench_sim([path], ["Random"], [1], file / "out", console)


def test_no_scenario_is_explained(tmp_path: Path, console: Console) -> None:
    with pytest.raises(DocumentError, match="--scenario: no scenario is given"):
        command.bench_sim([], ["Random"], [1], tmp_path, console)
