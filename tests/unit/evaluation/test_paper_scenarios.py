"""The paper's experiment as scenarios."""

import json
from pathlib import Path

import numpy as np
import pytest

from pointsman_policy.errors import DocumentError
from pointsman_policy.evaluation.paper_sample import MODELS, write_sample
from pointsman_policy.evaluation.paper_scenarios import PaperData, for_evaluation, for_training, paper_scenarios
from pointsman_policy.simulator.answers import split_prompts
from pointsman_policy.simulator.mix_instruct import read_mix_instruct
from pointsman_policy.simulator.sample import prompts_path, scores_path
from pointsman_policy.simulator.workload import build_workload, fleet_capacity


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("paper") / "mix.jsonl"
    write_sample(path, prompts=60)
    return path


def test_the_sample_is_a_mix_instruct_file_with_predictions(sample: Path) -> None:
    table = read_mix_instruct(sample)
    assert table.models == tuple(MODELS)
    assert len(table) == 60
    assert table.predicted_score is not None
    assert table.predicted_out_tokens is not None
    correlation = np.corrcoef(table.score.ravel(), table.predicted_score.ravel())[0, 1]
    assert 0.4 < correlation < 0.98


def test_the_sample_is_the_same_every_time(sample: Path, tmp_path: Path) -> None:
    write_sample(tmp_path / "again.jsonl", prompts=60)
    assert (tmp_path / "again.jsonl").read_bytes() == sample.read_bytes()


def test_there_are_three_and_six_experts_under_poisson_arrivals_and_a_trace(sample: Path) -> None:
    scenarios = paper_scenarios(PaperData(mix_instruct=sample), requests=50)
    assert [(scenario.name, len(scenario.experts)) for scenario in scenarios] == [
        ("N = 3, Poisson", 3),
        ("N = 3, trace", 3),
        ("N = 6, Poisson", 6),
        ("N = 6, trace", 6),
    ]
    for scenario in scenarios:
        assert scenario.token_seconds_objective == 0.03
        assert scenario.document.admission.mode == "ShedHopeless"
        assert scenario.document.quality.predictor.kind == "fromTable"
        assert len(set(scenario.quality_models)) == len(scenario.experts)


def test_with_the_papers_coefficients_three_experts_carry_about_its_three_requests_a_second(sample: Path) -> None:
    scenario = paper_scenarios(PaperData(mix_instruct=sample), experts=[3])[0]
    assert 1.5 < fleet_capacity(scenario) < 6


def test_training_and_evaluation_share_no_prompt_and_no_request_of_the_trace(sample: Path) -> None:
    scenario = paper_scenarios(PaperData(mix_instruct=sample), requests=200, experts=[3])[1]
    training, evaluation = for_training(scenario), for_evaluation(scenario)
    assert training.table is not None
    assert evaluation.table is not None
    held_out = {evaluation.table.prompt_ids[row] for row in split_prompts(evaluation)[1]}
    assert not held_out & set(training.table.prompt_ids)
    assert training.trace is not None
    assert evaluation.trace is not None
    assert scenario.trace is not None
    assert len(training.trace) + len(evaluation.trace) == len(scenario.trace)
    assert len(build_workload(training, 1.0, seed=1)) == 200


def test_models_that_mix_instruct_lacks_are_replaced_by_others(tmp_path: Path) -> None:
    candidates = [{"model": f"model-{k}", "scores": {"bertscore": 0.5}, "output_tokens": 50} for k in range(3)]
    rows = [{"id": str(k), "instruction": f"Question {k}", "candidates": candidates} for k in range(8)]
    path = tmp_path / "other.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    scenario = paper_scenarios(PaperData(mix_instruct=path), experts=[3])[0]
    assert scenario.quality_models == ("model-0", "model-1", "model-2")
    assert scenario.document.quality.predictor.kind == "modelMean"
    with pytest.raises(DocumentError, match="has 3 models; the experiment needs 6"):
        paper_scenarios(PaperData(mix_instruct=path), experts=[6])


def test_score_tables_bring_models_of_different_sizes() -> None:
    data = PaperData(scores=scores_path(), prompts=prompts_path())
    scenario = paper_scenarios(data, experts=[3])[0]
    assert scenario.quality_models[0] == "Llama-3.2-1B"
    assert scenario.quality_models[-1] == "gemma-2-9b"
    with pytest.raises(DocumentError, match="has 4 models of a known size of up to 15B; the experiment needs 6"):
        paper_scenarios(data, experts=[6])


def test_there_is_exactly_one_table() -> None:
    with pytest.raises(DocumentError, match="either a mix-instruct file or --scores"):
        PaperData()
    with pytest.raises(DocumentError, match="either a mix-instruct file or --scores"):
        PaperData(mix_instruct=Path("a"), scores=Path("b"))
