import numpy as np
import pytest

from pointsman_policy.twin.shifts import shifts


@pytest.mark.parametrize("size", [-0.5, 0.3, 0.6])
def test_a_clear_shift_is_found_where_it_is(size: float) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0.0, 0.1, 200) + np.where(np.arange(200) >= 120, size, 0.0)
    (found,) = shifts(values, least=0.08)
    assert abs(found - 120) <= 3


def test_several_shifts_are_found_in_order() -> None:
    rng = np.random.default_rng(2)
    level = np.repeat([0.0, 0.5, 0.1], 80)
    found = shifts(rng.normal(level, 0.1), least=0.08)
    assert np.allclose(found, [80, 160], atol=3)


def test_noise_is_hardly_ever_taken_for_a_shift() -> None:
    rng = np.random.default_rng(3)
    alarms = sum(bool(shifts(rng.standard_t(3, 300) * 0.1, least=0.08)) for _ in range(200))
    assert alarms <= 2


def test_small_shifts_do_not_matter() -> None:
    values = np.where(np.arange(400) >= 200, 0.05, 0.0) + np.random.default_rng(4).normal(0.0, 0.01, 400)
    assert shifts(values, least=0.08) == ()


def test_outliers_make_no_shift() -> None:
    values = np.random.default_rng(5).normal(0.0, 0.05, 300)
    values[[40, 41, 90, 200, 201]] = 30.0
    assert shifts(values, least=0.08) == ()


def test_too_few_values_have_none() -> None:
    assert shifts(np.array([0.0] * 10 + [9.0] * 10), least=0.08) == ()
    assert shifts(np.zeros(0), least=0.08) == ()
