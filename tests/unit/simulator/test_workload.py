import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pointsman_policy.documents import parse
from pointsman_policy.latency.profiles import capacity_requests_per_second
from pointsman_policy.simulator.answers import split_prompts
from pointsman_policy.simulator.scenario import Scenario, resolve_scenario
from pointsman_policy.simulator.scenario_document import ScenarioDocument
from pointsman_policy.simulator.workload import Workload, build_workload, fleet_capacity

SAMPLE = {"scores": "data/scores.csv", "prompts": "data/prompts.csv"}
PACKAGE = Path(__file__).parents[3] / "policy" / "pointsman_policy" / "simulator"
LOGNORMAL = {
    "prompt": {"kind": "lognormal", "meanTokens": 300, "coefficientOfVariation": 0.5},
    "output": {"kind": "lognormal", "meanTokens": 120, "coefficientOfVariation": 1.0},
}
SYNTHETIC = {"synthetic": {"meanPercent": {"gemma-2-2b": 40, "Llama-3.1-8B": 80}, "spreadPercent": 20}}


def scenario(folder: Path = PACKAGE, **changes: Any) -> Scenario:
    document: dict[str, Any] = {
        "name": "test",
        "experts": [
            {"name": "a", "model": "gemma-2-2b", "gpu": "L4", "replicas": 2},
            {"name": "b", "model": "Llama-3.1-8B", "gpu": "A100-SXM-80G"},
        ],
        "requests": 2_000,
        "quality": SAMPLE,
        **changes,
    }
    return resolve_scenario(parse(ScenarioDocument, document, "test"), folder, "test")


def predicting(**predictor: Any) -> Scenario:
    return scenario(quality={**SAMPLE, "predictor": predictor})


def fields(workload: Workload) -> dict[str, np.ndarray]:
    return {field.name: getattr(workload, field.name) for field in dataclasses.fields(workload)}


def test_every_array_has_its_shape_and_range() -> None:
    workload = build_workload(scenario(), 1.0, 1)
    assert len(workload) == 2_000
    for name in ("output_tokens", "quality", "predicted_quality", "predicted_output_tokens"):
        assert fields(workload)[name].shape == (2_000, 3), name
    for name in ("arrival_seconds", "prompt_tokens", "priority", "prompt_index"):
        assert fields(workload)[name].shape == (2_000,), name
    assert (np.diff(workload.arrival_seconds) >= 0).all()
    assert workload.prompt_tokens.min() >= 1
    assert workload.output_tokens.min() >= 1
    assert workload.predicted_output_tokens.min() >= 1
    assert 0 <= workload.quality.min() <= workload.quality.max() <= 1


def test_the_same_seed_gives_the_same_workload_and_another_seed_another() -> None:
    first, again, other = (build_workload(predicting(kind="noisy"), 1.0, seed) for seed in (1, 1, 2))
    for name, values in fields(first).items():
        np.testing.assert_array_equal(values, fields(again)[name])
    assert not np.array_equal(first.arrival_seconds, other.arrival_seconds)
    assert not np.array_equal(first.prompt_index, other.prompt_index)


def test_load_moves_the_same_requests_closer_together() -> None:
    half, double = (build_workload(scenario(), load, 1) for load in (0.5, 2.0))
    np.testing.assert_allclose(half.arrival_seconds, 4 * double.arrival_seconds)
    np.testing.assert_array_equal(half.prompt_index, double.prompt_index)
    np.testing.assert_array_equal(half.output_tokens, double.output_tokens)


def test_changing_arrivals_or_predictions_leaves_the_requests_alone() -> None:
    plain = build_workload(scenario(), 1.0, 1)
    others = (
        scenario(arrivals={"kind": "bursty", "coefficientOfVariation": 4}),
        scenario(arrivals={"kind": "trace", "trace": "data/trace.csv"}),
        predicting(kind="noisy"),
        predicting(kind="oracle"),
    )
    for other in others:
        workload = build_workload(other, 1.0, 1)
        np.testing.assert_array_equal(workload.prompt_index, plain.prompt_index)
        np.testing.assert_array_equal(workload.quality, plain.quality)


@pytest.mark.parametrize("kind", ["poisson", "bursty", "diurnal", "trace"])
def test_load_one_is_the_fleets_capacity(kind: str) -> None:
    ready = scenario(arrivals={"kind": kind, "trace": "data/trace.csv"}, requests=6_000)
    arrivals = build_workload(ready, 1.0, 1).arrival_seconds
    assert 6_000 / arrivals[-1] == pytest.approx(fleet_capacity(ready), rel=0.03)


def test_capacity_sums_the_experts_with_their_own_speed_and_answer_lengths() -> None:
    ready = scenario(lengths=LOGNORMAL, quality=SYNTHETIC)
    expected = sum(
        capacity_requests_per_second(
            expert.coefficients,
            prompt_tokens=300,
            output_tokens=120,
            token_seconds=0.03,
            maximum_running=256,
            kv_capacity_tokens=expert.kv_capacity_tokens,
        )
        for expert in ready.experts
    )
    assert fleet_capacity(ready) == pytest.approx(expected)
    faster = scenario(
        experts=[{"name": "a", "model": "gemma-2-2b", "gpu": "L4", "speed": 3}], lengths=LOGNORMAL, quality=SYNTHETIC
    )
    slower = scenario(experts=[{"name": "a", "model": "gemma-2-2b", "gpu": "L4"}], lengths=LOGNORMAL, quality=SYNTHETIC)
    assert fleet_capacity(faster) > 2.9 * fleet_capacity(slower)


def test_beliefs_do_not_change_the_load() -> None:
    assert fleet_capacity(scenario(beliefScalePercent=50)) == fleet_capacity(scenario())


def test_replicas_give_the_same_answer() -> None:
    workload = build_workload(predicting(kind="noisy"), 1.0, 1)
    for name in ("output_tokens", "quality", "predicted_quality", "predicted_output_tokens"):
        values = fields(workload)[name]
        np.testing.assert_array_equal(values[:, 0], values[:, 1])
        assert not np.array_equal(values[:, 0], values[:, 2])


def test_requests_carry_the_prompts_held_out_from_fitting_and_each_as_often() -> None:
    ready = scenario()
    fit, evaluation = split_prompts(ready)
    workload = build_workload(ready, 1.0, 1)
    assert not set(workload.prompt_index) & set(fit)
    _, counts = np.unique(workload.prompt_index, return_counts=True)
    assert len(counts) == len(evaluation)
    assert counts.max() - counts.min() <= 1


def test_truth_is_the_tables_row() -> None:
    ready = scenario()
    assert ready.table is not None
    assert ready.table.prompt_tokens is not None
    workload = build_workload(ready, 1.0, 1)
    row = int(workload.prompt_index[7])
    assert workload.prompt_tokens[7] == ready.table.prompt_tokens[row]
    assert workload.quality[7].tolist() == ready.table.score[row][[0, 0, 1]].tolist()
    assert workload.output_tokens[7].tolist() == ready.table.out_tokens[row][[0, 0, 1]].tolist()


def test_model_means_come_from_the_prompts_set_aside() -> None:
    ready = scenario()
    assert ready.table is not None
    fit = split_prompts(ready)[0]
    workload = build_workload(ready, 1.0, 1)
    np.testing.assert_allclose(workload.predicted_quality[0, [0, 2]], ready.table.score[fit].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        workload.predicted_output_tokens[-1, [0, 2]], ready.table.out_tokens[fit].mean(axis=0), rtol=1e-5
    )


def test_an_oracle_predicts_the_truth() -> None:
    workload = build_workload(predicting(kind="oracle"), 1.0, 1)
    np.testing.assert_array_equal(workload.predicted_quality, workload.quality)
    np.testing.assert_array_equal(workload.predicted_output_tokens, workload.output_tokens)


def test_noisy_predictions_are_better_than_means_and_unbiased() -> None:
    noisy = build_workload(predicting(kind="noisy", noisePercent=15, lengthNoisePercent=40), 1.0, 1)
    means = build_workload(scenario(), 1.0, 1)
    for predicted, true in (("predicted_quality", "quality"), ("predicted_output_tokens", "output_tokens")):
        truth = fields(noisy)[true]
        noisy_error = np.square(fields(noisy)[predicted] - truth).mean()
        assert noisy_error < 0.8 * np.square(fields(means)[predicted] - truth).mean()
        np.testing.assert_allclose(fields(noisy)[predicted].mean(axis=0), truth.mean(axis=0), rtol=0.1)


@pytest.mark.parametrize(("reliability", "same_as"), [(0, "modelMean"), (100, "oracle")])
def test_reliability_leads_from_the_mean_to_the_noisy_truth(reliability: int, same_as: str) -> None:
    noisy = predicting(kind="noisy", noisePercent=0, lengthNoisePercent=0, reliabilityPercent=reliability)
    left, right = build_workload(noisy, 1.0, 1), build_workload(predicting(kind=same_as), 1.0, 1)
    np.testing.assert_allclose(left.predicted_quality, right.predicted_quality, atol=1e-6)
    np.testing.assert_allclose(left.predicted_output_tokens, right.predicted_output_tokens, rtol=1e-5)


def test_predictions_shipped_with_the_data_are_used(tmp_path: Path) -> None:
    rows = [
        {
            "instruction": f"do {index}",
            "candidates": [
                {"model": model, "text": "x" * 80, "scores": {"bertscore": 0.5}}
                for model in ("gemma-2-2b", "Llama-3.1-8B")
            ],
            "pred_score": [0.25, 0.75],
            "pred_output_tokens": [11, 22],
        }
        for index in range(4)
    ]
    (tmp_path / "mix.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    quality = {"mixInstruct": "mix.jsonl", "predictor": {"kind": "fromTable"}}
    workload = build_workload(scenario(tmp_path, quality=quality), 1.0, 1)
    assert workload.predicted_quality[0].tolist() == [0.25, 0.25, 0.75]
    assert workload.predicted_output_tokens[0].tolist() == [11, 11, 22]
    assert workload.output_tokens[0].tolist() == [20, 20, 20]


def test_synthetic_quality_and_lognormal_lengths_have_their_moments() -> None:
    ready = scenario(requests=40_000, lengths=LOGNORMAL, quality=SYNTHETIC)
    workload = build_workload(ready, 1.0, 1)
    np.testing.assert_allclose(workload.quality[:, [0, 2]].mean(axis=0), [0.4, 0.8], rtol=0.02)
    np.testing.assert_allclose(workload.quality[:, [0, 2]].std(axis=0), [0.2, 0.2], rtol=0.03)
    assert workload.prompt_tokens.mean() == pytest.approx(300, rel=0.02)
    assert workload.prompt_tokens.std() == pytest.approx(150, rel=0.05)
    np.testing.assert_allclose(workload.output_tokens.mean(axis=0), [120] * 3, rtol=0.03)
    assert workload.predicted_quality[0].tolist() == pytest.approx([0.4, 0.4, 0.8])
    assert (workload.prompt_index == -1).all()


def test_lengths_and_arrivals_of_a_trace_stay_together(tmp_path: Path) -> None:
    lines = [f"{second},{second + 1},{second * 10}" for second in range(50)]
    (tmp_path / "trace.csv").write_text("arrival_s,prompt_tokens,output_tokens\n" + "\n".join(lines) + "\n")
    ready = scenario(
        tmp_path,
        requests=20,
        arrivals={"kind": "trace", "trace": "trace.csv"},
        lengths={"prompt": {"kind": "fromTrace"}, "output": {"kind": "fromTrace"}},
        quality=SYNTHETIC,
    )
    workload = build_workload(ready, 1.0, 3)
    first = int(workload.prompt_tokens[0])
    expected = (first - 1 + np.arange(20)) % 50
    np.testing.assert_array_equal(workload.prompt_tokens, expected + 1)
    np.testing.assert_array_equal(workload.output_tokens[:, 2], np.maximum(expected * 10, 1))


def test_objectives_and_priorities_follow_the_document() -> None:
    ready = scenario(
        objectives={"timeToFirstTokenMilliseconds": 2_000, "normalizedTimePerOutputTokenMilliseconds": 30},
        admission={"mode": "ShedSheddable", "sheddablePercent": 25},
    )
    workload = build_workload(ready, 1.0, 1)
    np.testing.assert_allclose(workload.objectives, np.tile([2, 0, 0.03], (2_000, 1)))
    assert set(workload.priority.tolist()) == {-1, 0}
    assert (workload.priority < 0).mean() == pytest.approx(0.25, abs=0.03)
    assert not build_workload(scenario(), 1.0, 1).priority.any()


def test_classes_of_requests_have_their_own_targets_and_leave_the_rest_alone() -> None:
    classes = [
        {"sharePercent": 20, "normalizedTimePerOutputTokenMilliseconds": 15},
        {"sharePercent": 30, "timeToFirstTokenMilliseconds": 500},
    ]
    plain, mixed = (build_workload(ready, 1.0, 1) for ready in (scenario(), scenario(objectiveClasses=classes)))
    kinds, counts = np.unique(mixed.objectives, axis=0, return_counts=True)
    np.testing.assert_allclose(kinds, [[0, 0, 0.015], [0, 0, 0.03], [0.5, 0, 0]])
    np.testing.assert_allclose(counts / 2_000, [0.2, 0.5, 0.3], atol=0.03)
    for name, values in fields(plain).items():
        if name != "objectives":
            np.testing.assert_array_equal(values, fields(mixed)[name])


def test_a_run_passes_through_one_day_of_measured_rates(tmp_path: Path) -> None:
    (tmp_path / "rates.csv").write_text("t_s,rps\n0,1\n28800,5\n57600,2\n")
    arrivals = {"kind": "diurnal", "rates": "rates.csv"}
    changes = {"lengths": LOGNORMAL, "quality": SYNTHETIC, "requests": 20_000}
    seconds = build_workload(scenario(tmp_path, arrivals=arrivals, **changes), 1.0, 1).arrival_seconds
    thirds = np.histogram(seconds, np.linspace(0, seconds[-1], 4))[0] / 20_000
    np.testing.assert_allclose(sorted(thirds), [1 / 8, 2 / 8, 5 / 8], atol=0.03)


def test_one_prompt_and_one_request_are_enough(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("prompt_id,model,score,out_tokens\n1,gemma-2-2b,1,5\n1,Llama-3.1-8B,1,0\n")
    (tmp_path / "prompts.csv").write_text("prompt_id,prompt,prompt_tokens\n1,hello,2\n")
    quality = {"scores": "scores.csv", "prompts": "prompts.csv", "predictor": {"kind": "noisy"}}
    workload = build_workload(scenario(tmp_path, requests=1, quality=quality), 1.0, 1)
    assert workload.output_tokens.tolist() == [[5, 5, 1]]
    assert np.isfinite(workload.predicted_output_tokens).all()
