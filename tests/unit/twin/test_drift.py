from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.unit.twin.experience import make_experience, make_situation

from pointsman_policy.experience.dataset import Experience
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.simulator.simulation import Change
from pointsman_policy.twin.calibration import calibrate, declared_experts
from pointsman_policy.twin.drift import COLUMNS, DriftWatch, ExpertDrift, has_drifted

NOTHING = Calibration()
_NAMES = ("expert", "status")


def _columns(experience: Experience) -> dict[str, npt.NDArray[Any]]:
    return {name: experience.text(name) if name in _NAMES else experience[name] for name in COLUMNS}


def _watched(experience: Experience, believed: Calibration = NOTHING) -> dict[str, ExpertDrift]:
    watch = DriftWatch(declared_experts(experience), believed)
    for rows in np.array_split(np.arange(len(experience)), 20):
        watch.take(_columns(experience.rows(rows)))
    return {one.expert: one for one in watch.drifts()}


def test_experts_that_are_as_believed_have_not_drifted() -> None:
    drifts = _watched(make_experience(make_situation()))
    assert set(drifts) == {"expert-0", "expert-1", "expert-2"}
    for drift in drifts.values():
        assert not drift.drifted
        assert drift.ratio == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("pace", [0.6, 1.25, 1.6])
def test_an_expert_that_changes_its_pace_drifts_alone(pace: float) -> None:
    experience = make_experience(make_situation(count=1_200, changes=(Change(30.0, 0, "pace", pace),)))
    drifts = _watched(experience)
    assert drifts["expert-0"].drifted
    assert drifts["expert-0"].ratio == pytest.approx(pace, rel=0.08)
    assert not drifts["expert-1"].drifted
    assert not drifts["expert-2"].drifted


def test_a_version_that_knows_the_new_pace_has_not_drifted() -> None:
    experience = make_experience(make_situation(count=1_500, pace=(1.6, 1.0, 0.8)))
    assert _watched(experience)["expert-0"].drifted
    assert not any(one.drifted for one in _watched(experience, calibrate(experience)).values())


def test_an_expert_that_is_as_believed_again_is_forgiven() -> None:
    changes = (Change(20.0, 0, "pace", 1.6), Change(50.0, 0, "pace", 1.0))
    drifts = _watched(make_experience(make_situation(count=2_500, changes=changes)))
    assert not drifts["expert-0"].drifted
    assert drifts["expert-0"].ratio == pytest.approx(1.0, abs=0.03)


def test_outcomes_may_come_late_and_in_any_order() -> None:
    experience = make_experience(make_situation(count=350, pace=(1.6, 1.0, 1.0)))
    shuffled = experience.rows(np.random.default_rng(0).permutation(len(experience)))
    assert _watched(shuffled) == _watched(experience)


def test_too_few_outcomes_and_unknown_experts_tell_nothing() -> None:
    experience = make_experience(make_situation(count=40))
    assert _watched(experience) == {}
    watch = DriftWatch((), NOTHING)
    watch.take(_columns(experience))
    assert watch.drifts() == ()


def test_noise_and_single_stalls_are_hardly_ever_taken_for_drift() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(0.0, 0.1, (300, 400)) + np.where(rng.random((300, 400)) < 0.02, 3.0, 0.0)
    assert sum(has_drifted(ratios) for ratios in noise) <= 1


def test_a_drift_of_a_quarter_is_found_within_twenty_requests() -> None:
    rng = np.random.default_rng(2)
    ratios = rng.normal(0.0, 0.05, (100, 200))
    ratios[:, 180:] += np.log(1.25)
    assert sum(has_drifted(one) for one in ratios) >= 95
