import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from pointsman_policy.rollout.confidence import ConfidenceSequence

Draw = Callable[[np.random.Generator, int], npt.NDArray[np.float64]]

STREAMS: dict[str, tuple[Draw, float]] = {
    "fair coin": (lambda rng, n: (rng.random(n) < 0.5).astype(float), 0.5),
    "rare event": (lambda rng, n: (rng.random(n) < 0.03).astype(float), 0.03),
    "narrow": (lambda rng, n: rng.beta(30, 10, n), 0.75),
    "skewed": (lambda rng, n: rng.beta(0.5, 3, n), 0.5 / 3.5),
}


@pytest.mark.parametrize("name", STREAMS)
def test_the_interval_holds_at_all_times_in_nearly_all_runs(name: str) -> None:
    draw, mean = STREAMS[name]
    rng = np.random.default_rng(7)
    runs, missed = 150, 0
    for _ in range(runs):
        sequence = ConfidenceSequence(alpha=0.2)
        for value in draw(rng, 400).tolist():
            sequence.observe(value)
            if abs(sequence.estimate - mean) > sequence.reach:
                missed += 1
                break
    assert missed <= 0.2 * runs


def test_an_interval_that_is_made_for_one_look_does_not_hold_at_all_times() -> None:
    rng = np.random.default_rng(7)
    values = rng.random((150, 400)) < 0.5
    counts = np.arange(1, 401)
    means = values.cumsum(axis=1) / counts
    reach = 1.2816 * 0.5 / np.sqrt(counts)  # 80 % of a normal distribution
    missed = (np.abs(means - 0.5) > reach)[:, 20:].any(axis=1).mean()
    assert missed > 0.5


def test_the_interval_narrows_as_the_variance_allows() -> None:
    rng = np.random.default_rng(3)
    wide, narrow = ConfidenceSequence(0.05), ConfidenceSequence(0.05)
    for _ in range(2000):
        wide.observe(float(rng.random() < 0.5))
        narrow.observe(float(rng.beta(50, 50)))
    assert wide.reach == pytest.approx(2.5 * 0.5 / math.sqrt(2000) * 2, rel=0.5)
    assert narrow.reach < 0.3 * wide.reach


def test_before_the_first_value_everything_is_possible() -> None:
    sequence = ConfidenceSequence(0.05)
    assert (sequence.estimate - sequence.reach, sequence.estimate + sequence.reach) == (-0.5, 1.5)


def test_the_first_bet_is_that_of_the_formula() -> None:
    sequence = ConfidenceSequence(0.05)
    sequence.observe(0.9)
    # Weight 1/2 is the largest one; squared distance to 1/2 is 0.16.
    assert sequence.estimate == pytest.approx(0.9)
    assert sequence.reach == 1.0
    for _ in range(99):
        sequence.observe(0.9)
    assert sequence.estimate == pytest.approx(0.9)
    assert sequence.reach < 0.12


@pytest.mark.parametrize("value", [-0.01, 1.01, math.nan, math.inf])
def test_a_value_outside_of_0_to_1_is_refused(value: float) -> None:
    sequence = ConfidenceSequence(0.05)
    with pytest.raises(ValueError, match="between 0 and 1"):
        sequence.observe(value)
    assert sequence.count == 0
