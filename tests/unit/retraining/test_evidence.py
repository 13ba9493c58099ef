from dataclasses import replace

import numpy as np
import pytest
from tests.unit.twin.experience import COEFFICIENTS, make_experience, make_situation

from pointsman_policy.experience.dataset import Experience
from pointsman_policy.retraining.evidence import gather, split, split_point
from pointsman_policy.simulator.simulation import Change
from pointsman_policy.twin.calibration import calibrate, declared_experts
from pointsman_policy.twin.last_change import last_change

_COUNT = 3_000
_CHANGED = 2_000


def test_where_nothing_changed_the_newest_quarter_is_held_out() -> None:
    experience = make_experience(make_situation(count=800))
    assert last_change(experience) is None
    point = split_point(experience)
    training, held_out = split(experience, point)
    assert point == len(training) == 600
    assert training["decided_at"].max() <= held_out["decided_at"].min()


@pytest.fixture(scope="module", params=["pace", "quality"])
def changed(request: pytest.FixtureRequest) -> tuple[str, Experience]:
    situation = make_situation(count=_COUNT, rate=16.0)
    if request.param == "pace":
        at = float(situation.requests.arrival_at[_CHANGED])
        return request.param, make_experience(replace(situation, changes=(Change(at, 0, "pace", 1.6),)))
    quality = situation.quality.copy()
    quality[_CHANGED:, 2] *= 0.5
    return request.param, make_experience(replace(situation, quality=quality))


def test_after_a_change_both_parts_have_seen_it(changed: tuple[str, Experience]) -> None:
    what, experience = changed
    since = last_change(experience)
    assert since is not None
    assert np.searchsorted(experience["decided_at"], since) == pytest.approx(_CHANGED, abs=100)
    point = split_point(experience)
    assert point == pytest.approx(_COUNT - (_COUNT - _CHANGED) / 4, abs=30)
    calibration = calibrate(split(experience, point)[0])
    truth = gather(experience, point, seed=0).twin.truth
    for known in (calibration, truth):
        if what == "pace":
            name = declared_experts(experience)[0].name
            assert known.experts[name].base_seconds == pytest.approx(1.6 * COEFFICIENTS[0, 0], rel=0.1)
        else:
            assert known.models["large-9b"].quality == pytest.approx(0.33, abs=0.07)


def test_a_change_that_came_just_now_does_not_shrink_what_is_held_out() -> None:
    situation = make_situation(count=1_600, rate=16.0)
    at = float(situation.requests.arrival_at[1_350])
    experience = make_experience(replace(situation, changes=(Change(at, 0, "pace", 1.6),)))
    assert split_point(experience) == 1_200


def test_there_may_be_too_few_outcomes() -> None:
    with pytest.raises(ValueError, match="there are 150 outcomes of simulated/policy, a training needs 200"):
        split_point(make_experience(make_situation(count=150)))
