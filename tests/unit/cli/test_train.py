from pathlib import Path

import pytest
from tests.unit.cli.conftest import Run

from pointsman_policy.learning import agents
from pointsman_policy.learning.training import TrainingRun


class Counting:
    name = "impact-greedy"
    summary = "counts"

    def train(self, run: TrainingRun) -> Path:
        rounds = run.checkpoint.rounds if run.checkpoint is not None else 0
        while not run.is_over:
            rounds += 1
            run.record(rounds, {"count": float(rounds)})
            run.save({"count": rounds})
            if run.plan.seed == rounds:
                raise KeyboardInterrupt
        return run.plan.folder / "policy"


@pytest.fixture
def _counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "find_agent", lambda name: Counting())


@pytest.mark.usefixtures("_counting")
def test_training_ends_with_the_policys_folder(run: Run, tmp_path: Path) -> None:
    result = run("train", "--agent", "impact-greedy", "--rounds", "3", "--out", tmp_path / "new")
    assert result.code == 0
    assert str(tmp_path / "new" / "policy") in result.out
    assert (tmp_path / "new" / "curves.png").exists()


@pytest.mark.usefixtures("_counting")
def test_a_stopped_training_tells_how_to_go_on_and_does(run: Run, tmp_path: Path) -> None:
    command = ("train", "--agent", "impact-greedy", "--rounds", "3", "--seed", "2", "--out", tmp_path)
    stopped = run(*command)
    assert stopped.code == 130
    assert "--resume" in stopped.out
    again = run(*command)
    assert again.code == 2
    assert "go on with --resume" in again.err
    assert run(*command, "--resume").code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--agent", "none"), "choose from"),
        (("--agent", "impact-greedy", "--scenario", "none.yaml"), "none.yaml"),
    ],
)
def test_wrong_options_are_told_before_anything_runs(
    run: Run, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    result = run("train", *options, "--out", tmp_path / "new")
    assert result.code == 2
    assert message in result.err
    assert not (tmp_path / "new").exists()
