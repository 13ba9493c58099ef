import json
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Run

from pointsman_policy.prediction.stored import read_predictor
from pointsman_policy.simulator.sample import prompts_path, scores_path

SAMPLE = ("--scores", scores_path(), "--prompts", prompts_path())


def test_fit_writes_a_predictor_that_can_be_read(run: Run, tmp_path: Path) -> None:
    result = run("predictor", "fit", *SAMPLE, "--out", tmp_path / "predictor")
    assert (result.code, result.err) == (0, "")
    predictor = read_predictor(tmp_path / "predictor")
    assert {fit.quality.status for fit in predictor.fits} == {"fitted"}
    for model in predictor.models:
        assert model in result.out
    manifest = json.loads((tmp_path / "predictor" / "manifest.json").read_text())
    assert manifest["training"]["command"] == (
        "pointsman predictor fit --scores scores.csv --prompts prompts.csv --seed 0"
    )
    assert str(tmp_path) not in json.dumps(manifest)


def test_report_prints_and_writes_skill_and_worth(run: Run, tmp_path: Path) -> None:
    result = run("predictor", "report", *SAMPLE, "--requests", 200, "--seed", 1, "--out", tmp_path)
    assert result.code == 0, result.err
    for shown in ("Rank corr.", "ECE", "Log error", "per-model means", "true quality and lengths", "Admission Never"):
        assert shown in result.out
    document = json.loads((tmp_path / "report.json").read_text())
    assert len(document["skill"]) == 4
    assert len(document["worth"]) == 36
    assert document["meta"]["seeds"] == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--scores", "gone.csv", "--prompts", "gone.csv"), "gone.csv: cannot be read"),
        ((*SAMPLE, "--expert", "gone"), "has no model 'gone'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    run: Run, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    result = run("predictor", "report", *arguments, "--out", tmp_path)
    assert result.code == 2
    assert message in result.err
    assert result.err.count("\n") == 1


def test_a_router_does_not_start_with_a_damaged_predictor(run: Run, tmp_path: Path) -> None:
    policy, experts = tmp_path / "policy.yaml", tmp_path / "experts.yaml"
    policy.write_text(
        "apiVersion: pointsman.io/v1alpha1\nkind: RouterPolicy\nmetadata: {name: chat}\n"
        "spec: {modelName: edge-chat, experts: {selector: {matchLabels: {a: b}}}, telemetry: {source: DirectScrape}}\n"
    )
    experts.write_text("experts: []\n")
    (tmp_path / "predictor").mkdir()
    result = run("router", "--policy", policy, "--experts", experts, "--predictor", tmp_path / "predictor")
    assert result.code == 2
    assert "manifest.json: cannot be read" in result.err
