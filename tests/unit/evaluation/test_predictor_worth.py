import dataclasses

import pytest

from pointsman_policy.errors import DocumentError
from pointsman_policy.evaluation.predictor_worth import (
    ADMISSIONS,
    CONSTANTS,
    LOADS,
    VARIANTS,
    WorthPlan,
    default_experts,
    run_worth,
    summarise,
    worth_run_count,
    worth_scenario,
)
from pointsman_policy.simulator.sample import prompts_path, scores_path
from pointsman_policy.simulator.tables import read_score_table

PLAN = WorthPlan(
    scores=scores_path(),
    prompts=prompts_path(),
    experts=("gemma-2-2b-it", "Meta-Llama-3.1-8B-Instruct"),
    gpu="L40S",
    profiles=None,
    requests=300,
    fit_percent=50,
    split_seed=0,
    seeds=(1, 2, 3),
)


def test_every_variant_meets_the_same_requests_in_every_cell() -> None:
    runs = list(run_worth(worth_scenario(PLAN, with_lengths=True), PLAN.seeds))
    assert len(runs) == worth_run_count(PLAN.seeds)
    worths = summarise(runs)
    cells = [(one.admission, one.load, one.variant) for one in worths]
    assert cells == [(a, load, variant) for a in ADMISSIONS for load in LOADS for variant in VARIANTS]
    for one in worths:
        assert (one.difference is None) == (one.variant == CONSTANTS)
        assert 0 < one.qos.mean < 1
    known = {one.variant: one for one in worths if (one.admission, one.load) == ("ShedHopeless", 0.5)}
    truth, fitted = known["true quality and lengths"], known["fitted"]
    assert truth.qos.mean > fitted.qos.mean
    assert truth.difference is not None
    assert truth.difference.interval.mean == pytest.approx(truth.qos.mean - known[CONSTANTS].qos.mean)


def test_the_same_plan_gives_the_same_runs() -> None:
    plan = dataclasses.replace(PLAN, seeds=(4,), requests=100)
    one, other = (
        [run.qos.mean for run in run_worth(worth_scenario(plan, with_lengths=True), plan.seeds)] for _ in range(2)
    )
    assert one == other


def test_without_lengths_these_are_drawn() -> None:
    scenario = worth_scenario(PLAN, with_lengths=False)
    assert scenario.document.lengths.output.kind == "lognormal"


def test_experts_are_chosen_by_size() -> None:
    table = read_score_table(scores_path(), prompts_path())
    assert default_experts(table) == ("Llama-3.2-1B", "Llama-3.1-8B", "gemma-2-9b")
    unknown = dataclasses.replace(table, models=tuple(f"m{index}" for index in range(len(table.models))))
    with pytest.raises(DocumentError, match="choose experts with --expert"):
        default_experts(unknown)


def test_an_unknown_model_is_said() -> None:
    with pytest.raises(DocumentError, match="has no model 'gone'"):
        worth_scenario(dataclasses.replace(PLAN, experts=("gone",)), with_lengths=True)
