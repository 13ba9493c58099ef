from dataclasses import replace

import numpy as np
import pytest
from tests.unit.twin.experience import COEFFICIENTS, make_experience, make_situation

from pointsman_policy.experience.dataset import Experience
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.twin.calibration import (
    believed_coefficients,
    calibrate,
    declared_coefficients,
    declared_experts,
    served_by,
)

_STEADY = np.array([1.0, 8.0, 8.0 * 460.0, 25.0])


@pytest.fixture(scope="module")
def experience() -> Experience:
    return make_experience(make_situation(pace=(1.0, 1.6, 1.2), quality=(0.45, 0.45, 0.35)))


def test_each_expert_is_known_by_its_own_pace(experience: Experience) -> None:
    calibration = calibrate(experience)
    for expert, pace, declared in zip(declared_experts(experience), (1.0, 1.6, 1.2), COEFFICIENTS, strict=True):
        found = believed_coefficients(expert, calibration)
        assert _STEADY @ found == pytest.approx(pace * _STEADY @ declared, rel=0.06)


def test_experts_not_seen_yet_are_believed_to_be_as_others_of_their_kind(experience: Experience) -> None:
    calibration = calibrate(experience)
    large = declared_experts(experience)[2]
    newcomer = large.model_copy(update={"name": "expert-9"})
    assert "expert-9" not in calibration.experts
    assert believed_coefficients(newcomer, calibration) == pytest.approx(believed_coefficients(large, calibration))
    stranger = newcomer.model_copy(update={"gpu": "H100"})
    assert believed_coefficients(stranger, calibration) == pytest.approx(declared_coefficients(stranger))


def test_a_models_quality_is_that_of_its_labels_once_there_are_many(experience: Experience) -> None:
    models = calibrate(experience).models
    assert models["small-2b"].quality == pytest.approx(0.45, abs=0.04)
    assert models["large-9b"].quality == pytest.approx(0.35, abs=0.05)
    assert models["large-9b"].labels >= 50


def test_quality_is_left_open_without_labels_and_hardly_moved_by_one() -> None:
    situation = make_situation(count=400)
    without = calibrate(make_experience(situation, labelled_share=0.0)).models["small-2b"]
    assert without.quality is None
    assert without.labels == 0
    experience = make_experience(situation, labelled_share=0.0)
    first = np.flatnonzero(experience.text("model") == "small-2b")[0]
    experience["quality"][first] = 1.0
    one = calibrate(experience).models["small-2b"]
    assert one.quality == pytest.approx(0.5)


def test_a_model_that_was_replaced_on_the_way_is_judged_by_what_came_since() -> None:
    experience = make_experience(make_situation(count=1_500), labelled_share=0.5)
    large = experience.text("model") == "large-9b"
    late = np.arange(len(experience)) > 900
    experience["quality"][large & late] *= 0.4
    assert calibrate(experience).models["large-9b"].quality == pytest.approx(0.26, abs=0.05)


def test_answer_lengths_are_those_observed() -> None:
    experience = make_experience(make_situation(count=1_000))
    observed = np.nanmean(experience["output_tokens"][experience.text("model") == "small-2b"])
    assert calibrate(experience).models["small-2b"].output_tokens == pytest.approx(observed, rel=0.05)


def test_answers_that_came_all_at_once_calibrate_too_though_their_first_tokens_were_not_seen() -> None:
    experience = make_experience(make_situation(pace=(1.5, 1.5, 1.5)))
    experience["ttft_seconds"][:] = experience["duration_seconds"]
    expert = declared_experts(experience)[0]
    assert not served_by(experience, expert).first_token_known.any()
    found = believed_coefficients(expert, calibrate(experience))
    assert _STEADY @ found == pytest.approx(1.5 * _STEADY @ COEFFICIENTS[0], rel=0.15)


def test_what_an_expert_did_as_another_model_and_wrong_clocks_are_left_out(experience: Experience) -> None:
    expert = declared_experts(experience)[0]
    whole = len(served_by(experience, expert))
    other = expert.model_copy(update={"model": "large-9b"})
    assert len(served_by(experience, other)) == 0
    retimed = replace(experience, columns={**experience.columns, "retimed": np.ones(len(experience), np.bool_)})
    assert whole > 100
    assert len(served_by(retimed, expert)) == 0


def test_nothing_can_be_learned_where_no_fleet_is_known(experience: Experience) -> None:
    with pytest.raises(ValueError, match="never told which experts"):
        calibrate(replace(experience, fleet=None))


def test_experts_without_a_declared_iteration_time_are_left_out(experience: Experience) -> None:
    assert experience.fleet is not None
    blank = experience.fleet.experts[0].model_copy(update={"base_seconds": 0.0})
    fleet = experience.fleet.model_copy(update={"experts": (blank, *experience.fleet.experts[1:])})
    assert set(calibrate(replace(experience, fleet=fleet)).experts) == {"expert-1", "expert-2"}


def test_without_outcomes_nothing_is_said() -> None:
    experience = make_experience(make_situation(count=20))
    calibration = calibrate(experience.rows(np.zeros(20, np.bool_)))
    assert calibration == Calibration(models=calibration.models)
    assert all(model.quality is None and model.output_tokens is None for model in calibration.models.values())
