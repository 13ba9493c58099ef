import numpy as np
import pytest

from pointsman_policy.simulator.arrivals import bursty, poisson


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
