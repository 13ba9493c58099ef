"""The paper's agent: it learns, is exported, and starts again the same with the same seed."""

from pathlib import Path

import numpy as np
import pytest

from pointsman_policy.learning.agents import find_agent
from pointsman_policy.learning.paper import PaperLearner, PaperSettings, PaperTrainer, Trial
from pointsman_policy.learning.sources import MadeUp
from pointsman_policy.learning.training import TrainingPlan, TrainingRun
from pointsman_policy.pickers.trained import load_picker
from pointsman_policy.runtime.size import NetworkSize
from pointsman_policy.simulator.randomisation import Distribution

SMALL = PaperSettings(
    size=NetworkSize(channels=8, heads=2, hidden=16),
    batch=32,
    frames_per_update=20,
    random_frames=200,
    validation_situations=2,
    validation_rounds=2,
)
SOURCE = MadeUp(Distribution(requests=150, experts=(3, 3), admissions=("ShedHopeless",)), seed=1)


def trial_of(experts: int, seed: int = 1) -> Trial:
    return Trial(PaperLearner(experts, SMALL, seed), SOURCE, SMALL)


@pytest.mark.parametrize("experts", [0, 3])
def test_rounds_play_and_update(experts: int) -> None:
    trial = trial_of(experts)
    figures = [trial.round() for _ in range(4)]
    assert trial.learner.frames == 600
    assert "sac/critic" not in figures[0]
    assert figures[3]["sac/critic"] > 0
    assert 0 <= figures[3]["validation/qos"] <= trial.best <= 1
    assert [row[0] for row in trial.curve] == [0, 300, 600]
    assert all(len(row) == 3 for row in trial.curve)


def test_the_picker_acts_as_the_network() -> None:
    trial = trial_of(0)
    for _ in range(3):
        trial.round()
    assert trial.levels(trial.learner.picker()) == trial.levels(trial.learner.picker())


@pytest.mark.parametrize("experts", [0, 3])
def test_the_same_seed_gives_the_same_weights(experts: int) -> None:
    one, other, third = (trial_of(experts, seed) for seed in (1, 1, 2))
    for trial in (one, other, third):
        for _ in range(3):
            trial.round()
    first, second, different = (trial.learner.weights() for trial in (one, other, third))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert any(not np.array_equal(first[name], different[name]) for name in first)


def test_a_trial_goes_on_from_its_arrays() -> None:
    first, second = trial_of(0, seed=1), trial_of(0, seed=2)
    for _ in range(4):
        first.round()
    second.restore(4, first.arrays())
    assert second.curve == first.curve
    assert second.best == first.best
    weights = first.learner.weights()
    assert all(np.array_equal(array, weights[name]) for name, array in second.learner.weights().items())
    assert "sac/critic" in second.round()


def test_training_exports_a_policy_that_runs_without_torch(tmp_path: Path) -> None:
    trainer = PaperTrainer(SMALL, Distribution(requests=150, experts=(2, 4), admissions=("ShedHopeless",)))
    with TrainingRun(TrainingPlan("paper", tmp_path, seed=1, rounds=4)) as run:
        folder = trainer.train(run)
    picker = load_picker(folder)
    assert picker.name == "HanActor"
    assert (tmp_path / "curves.png").exists()
    with TrainingRun(TrainingPlan("paper", tmp_path, seed=1, rounds=6), resume=True) as run:
        trainer.train(run)
    assert len(run.log.rows) == 6


def test_it_is_an_agent() -> None:
    assert find_agent("paper").name == "paper"
