from pathlib import Path

import numpy as np
import pytest

from pointsman_policy.learning.impact_greedy_search import ImpactGreedySearch
from pointsman_policy.learning.search import SearchSettings
from pointsman_policy.learning.training import CHECKPOINT, TrainingPlan, TrainingRun
from pointsman_policy.pickers.impact_greedy import PICKER
from pointsman_policy.pickers.trained import load_picker
from pointsman_policy.runtime.exported import read_exported_policy
from pointsman_policy.simulator.randomisation import Distribution

SETTINGS = SearchSettings(seed=3, population=4, situations=3, validation_situations=5, validate_every=1, step=0.3)
SMALL = Distribution(requests=60, experts=(2, 3))


def train(folder: Path, rounds: int, resume: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    plan = TrainingPlan("impact-greedy", folder, 3, None, rounds, processes=1)
    with TrainingRun(plan, resume=resume) as run:
        return ImpactGreedySearch(SETTINGS, SMALL).train(run)


def test_what_is_exported_is_the_picker_with_other_parameters(tmp_path: Path) -> None:
    folder = train(tmp_path, 4)
    picker = load_picker(folder)
    assert picker.name == PICKER.name
    assert len(picker.parameters) == len(PICKER.parameters)
    assert picker.parameters != PICKER.parameters
    manifest = read_exported_policy(folder)
    assert manifest.training["command"] == "pointsman train --agent impact-greedy --seed 3 --rounds 4"
    assert {f"{mode}/mean_qos" for mode in ("Never", "ShedHopeless", "ShedSheddable")} <= set(manifest.scores)


def test_a_run_in_two_parts_exports_the_same_policy(tmp_path: Path) -> None:
    whole = load_picker(train(tmp_path / "whole", 4))
    train(tmp_path / "parts", 2)
    parts = load_picker(train(tmp_path / "parts", 4, resume=True))
    assert np.array_equal(whole.parameters, parts.parameters)


def test_without_any_round_the_start_is_exported(tmp_path: Path) -> None:
    picker = load_picker(train(tmp_path, 0))
    assert picker.parameters == pytest.approx(PICKER.parameters)
    assert (tmp_path / CHECKPOINT).exists()
