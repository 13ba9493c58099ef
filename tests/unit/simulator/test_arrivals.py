import numpy as np
import pytest

from pointsman_policy.simulator.arrivals import bursty, daily_shape, poisson, varying


def test_poisson_arrivals_have_the_rate_and_exponential_gaps() -> None:
    arrivals = poisson(np.random.default_rng(1), 4.0, 40_000)
    gaps = np.diff(arrivals)
    assert len(arrivals) == 40_000
    assert 1 / gaps.mean() == pytest.approx(4, rel=0.02)
    assert gaps.std() / gaps.mean() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("variation", [0.3, 1.0, 4.0])
def test_bursty_arrivals_have_the_rate_and_the_variation(variation: float) -> None:
    arrivals = bursty(np.random.default_rng(1), 4.0, 200_000, variation)
    gaps = np.diff(arrivals)
    assert (gaps >= 0).all()
    assert 1 / gaps.mean() == pytest.approx(4, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(variation, rel=0.05)


def test_another_rate_stretches_the_same_arrivals() -> None:
    slow, fast = (poisson(np.random.default_rng(5), rate, 10) for rate in (1.0, 2.0))
    np.testing.assert_allclose(slow, 2 * fast)
    slow, fast = (bursty(np.random.default_rng(5), rate, 10, 3.0) for rate in (1.0, 2.0))
    np.testing.assert_allclose(slow, 2 * fast)


def test_varying_arrivals_have_the_mean_rate_and_follow_the_shape() -> None:
    shape = np.array([1.0, 0.0, 3.0, 2.0])
    arrivals = varying(np.random.default_rng(1), 5.0, 60_000, 1.0, shape)
    assert (np.diff(arrivals) >= 0).all()
    assert 60_000 / arrivals[-1] == pytest.approx(5, rel=0.02)
    counts = np.histogram(arrivals, np.linspace(0, 60_000 / 5, 5))[0]
    np.testing.assert_allclose(counts / counts.sum(), shape / shape.sum(), atol=0.01)


def test_an_even_shape_changes_nothing() -> None:
    flat = varying(np.random.default_rng(2), 4.0, 500, 2.0, np.ones(7))
    np.testing.assert_allclose(flat, bursty(np.random.default_rng(2), 4.0, 500, 2.0))


def test_the_made_up_day_has_a_quiet_night_and_two_peaks() -> None:
    shape = daily_shape()
    assert shape.mean() == pytest.approx(1)
    assert 0 < shape.min() < 0.7
    assert shape.max() > 1.3
    hours = np.arange(144) / 6
    peaks = hours[1:-1][(shape[1:-1] > shape[:-2]) & (shape[1:-1] > shape[2:])]
    assert len(peaks) == 2
    assert 2 < hours[shape.argmin()] < 5
