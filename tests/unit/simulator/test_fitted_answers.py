import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pointsman_policy.documents import parse
from pointsman_policy.errors import DocumentError
from pointsman_policy.simulator.answers import split_prompts
from pointsman_policy.simulator.fitted_answers import fitted_answers
from pointsman_policy.simulator.sample import data_folder, prompts_path, scores_path
from pointsman_policy.simulator.scenario import Scenario, resolve_scenario
from pointsman_policy.simulator.scenario_document import ScenarioDocument
from pointsman_policy.simulator.tables import read_score_table
from pointsman_policy.simulator.workload import build_workload

LOGNORMAL = {"kind": "lognormal", "meanTokens": 120, "coefficientOfVariation": 1.0}


def scenario(kind: str = "fitted", **changes: Any) -> Scenario:
    document: dict[str, Any] = {
        "name": "test",
        "experts": [
            {"name": "a", "model": "gemma-2-2b", "gpu": "L4", "replicas": 2},
            {"name": "b", "model": "Llama-3.1-8B", "gpu": "A100-SXM-80G"},
        ],
        "requests": 400,
        "quality": {"scores": "scores.csv", "prompts": "prompts.csv", "predictor": {"kind": kind}},
        **changes,
    }
    return resolve_scenario(parse(ScenarioDocument, document, "test"), data_folder(), "test")


def test_requests_are_predicted_better_than_by_means() -> None:
    fitted, means = (build_workload(scenario(kind), 1.0, 1) for kind in ("fitted", "modelMean"))
    np.testing.assert_array_equal(fitted.quality, means.quality)
    for predicted, truth in (("predicted_quality", "quality"), ("predicted_output_tokens", "output_tokens")):
        errors = [np.square(getattr(one, predicted) - getattr(one, truth)).mean() for one in (fitted, means)]
        assert errors[0] < 0.95 * errors[1], predicted
    assert len(np.unique(fitted.predicted_quality[:, 0])) > 50
    np.testing.assert_array_equal(fitted.predicted_quality[:, 0], fitted.predicted_quality[:, 1])


def test_answers_to_evaluated_prompts_are_not_fitted_on() -> None:
    one = scenario()
    assert one.table is not None
    _, evaluated = split_prompts(one)
    score, tokens = one.table.score.copy(), one.table.out_tokens.copy()
    score[evaluated], tokens[evaluated] = 0, 1
    changed = dataclasses.replace(one.table, score=score, out_tokens=tokens)
    for before, after in zip(fitted_answers(one.table, 0, 50), fitted_answers(changed, 0, 50), strict=True):
        np.testing.assert_array_equal(before, after)


def test_prompts_for_fitting_are_predicted_without_their_own_answers() -> None:
    table = read_score_table(scores_path(), prompts_path())
    rng = np.random.default_rng(1)
    shuffled = rng.permutation(len(table))
    table = dataclasses.replace(table, score=table.score[shuffled], out_tokens=table.out_tokens[shuffled])
    prediction = fitted_answers(table, 0, 60)
    fit_rows, _ = table.split(np.random.default_rng(0), 0.6)
    for predicted, truth in ((prediction.quality, table.score), (prediction.output_tokens, table.out_tokens)):
        error = np.square(truth[fit_rows] - predicted[fit_rows]).sum(axis=0)
        constant = np.square(truth[fit_rows] - truth[fit_rows].mean(axis=0)).sum(axis=0)
        assert (error > 0.98 * constant).all()


def test_a_table_is_fitted_once() -> None:
    one = scenario()
    assert one.table is not None
    assert fitted_answers(one.table, 0, 50) is fitted_answers(one.table, 0, 50)


def test_lengths_that_do_not_belong_to_prompts_are_predicted_by_their_mean() -> None:
    workload = build_workload(scenario(lengths={"output": LOGNORMAL}), 1.0, 1)
    np.testing.assert_allclose(workload.predicted_output_tokens, 120)
    assert len(np.unique(workload.predicted_quality[:, 0])) > 50


@pytest.mark.parametrize(
    "quality",
    [
        {"scores": "scores.csv", "predictor": {"kind": "fitted"}},
        {"synthetic": {"meanPercent": {"gemma-2-2b": 50, "Llama-3.1-8B": 60}}, "predictor": {"kind": "fitted"}},
    ],
)
def test_texts_are_needed(quality: dict[str, Any]) -> None:
    with pytest.raises(DocumentError, match=r"predictor\.kind fitted needs prompts"):
        scenario(quality=quality, lengths={"prompt": LOGNORMAL, "output": LOGNORMAL})


def test_without_scikit_learn_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pointsman_policy.prediction.fitting", None)
    table = read_score_table(scores_path(), prompts_path())
    with pytest.raises(DocumentError, match=r"pip install 'pointsman\[policy\]'"):
        fitted_answers(table, 0, 50)


def test_scores_alone_are_refused() -> None:
    with pytest.raises(DocumentError, match=r"scores.csv: has no prompts"):
        fitted_answers(read_score_table(Path(scores_path())), 0, 50)
