from dataclasses import replace

import numpy as np
import pytest
from tests.unit.twin.runs import TRUE, make_experience

from pointsman_policy.simulator.simulation import Change
from pointsman_policy.twin.fitting import Fit, fit_expert
from pointsman_policy.twin.served import Served

_STEADY = np.array([1.0, 8.0, 8.0 * 460.0, 25.0])
"""What a usual iteration is made of: a batch of eight, and a prompt now and then."""


def _fitted(served: Served, declared: np.ndarray) -> Fit:
    fit = fit_expert(served, declared)
    assert fit is not None
    return fit


@pytest.mark.parametrize("seed", range(4))
def test_usual_iterations_are_right_however_each_coefficient_was_off(seed: int) -> None:
    declared = TRUE[0] * np.random.default_rng(seed).uniform(0.7, 1.3, 4)
    fit = _fitted(make_experience(seed, count=600).served(0), declared)
    assert _STEADY @ fit.coefficients == pytest.approx(_STEADY @ TRUE[0], rel=0.04)
    assert fit.coefficients[3] == pytest.approx(TRUE[0, 3], rel=0.1)
    assert fit.changes == ()


def test_unix_times_do_as_well_as_small_ones() -> None:
    served = make_experience().served(0)
    late = replace(
        served,
        arrival_at=served.arrival_at + 1.7e9,
        first_token_at=served.first_token_at + 1.7e9,
        end_at=served.end_at + 1.7e9,
    )
    assert _fitted(late, TRUE[0]).coefficients == pytest.approx(_fitted(served, TRUE[0]).coefficients, rel=1e-3)


@pytest.mark.parametrize("pace", [0.6, 1.6])
def test_a_change_of_pace_on_the_way_is_seen_and_the_new_pace_is_learned(pace: float) -> None:
    experience = make_experience(count=1_200, changes=(Change(60.0, 0, "pace", pace),))
    fit = _fitted(experience.served(0), 1.2 * TRUE[0])
    assert fit.changes[-1] == pytest.approx(60.0, abs=5.0)
    assert _STEADY @ fit.coefficients == pytest.approx(pace * _STEADY @ TRUE[0], rel=0.06)
    assert fit.outcomes < len(experience.served(0))


def test_a_coefficient_that_was_declared_zero_can_be_found() -> None:
    declared = TRUE[0] * [1.0, 1.0, 1.0, 0.0]
    fit = _fitted(make_experience().served(0), declared)
    assert fit.coefficients[3] == pytest.approx(TRUE[0, 3], rel=0.2)


def test_answers_that_stalled_for_reasons_of_their_own_hardly_matter() -> None:
    served = make_experience().served(0)
    rng = np.random.default_rng(0)
    stalled = rng.random(len(served)) < 0.08
    end_at = np.where(stalled, served.end_at + rng.exponential(5.0, len(served)), served.end_at)
    fit = _fitted(replace(served, end_at=end_at), TRUE[0])
    assert _STEADY @ fit.coefficients == pytest.approx(_STEADY @ TRUE[0], rel=0.1)


def test_an_expert_that_served_too_little_stays_as_declared() -> None:
    served = make_experience(count=30).served(0)
    assert fit_expert(served, TRUE[0]) is None
    nothing = np.zeros(0)
    assert fit_expert(Served(nothing, nothing, nothing, nothing, nothing, np.zeros(0, np.bool_)), TRUE[0]) is None
