import math

import numpy as np
import pytest

from pointsman_policy.evaluation.paired import Batches, batches, mean_interval, paired_difference, t_quantile


def _constant(value: float, requests: int = 500) -> Batches:
    return batches(np.full(requests, value))


@pytest.mark.parametrize(("freedom", "expected"), [(1, 12.7062), (2, 4.3027), (4, 2.7764), (30, 2.0423), (500, 1.9647)])
def test_the_t_quantile_agrees_with_the_tables(freedom: int, expected: float) -> None:
    assert t_quantile(freedom) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("requests", "count"), [(1, 1), (49, 1), (99, 1), (100, 2), (6_000, 120), (1_000_003, 200)])
def test_batches_hold_fifty_requests_or_more(requests: int, count: int) -> None:
    values = np.arange(float(requests))

    result = batches(values)

    assert len(result.sums) == count
    assert result.sizes.sum() == requests
    assert result.sizes.min() >= min(requests, 50)
    assert result.mean == pytest.approx(values.mean())


def test_an_interval_over_three_seeds_is_students() -> None:
    runs = [(seed, _constant(value)) for seed, value in ((1, 0.1), (2, 0.2), (3, 0.3))]

    interval = mean_interval(runs)

    assert interval.over == "seeds"
    assert interval.mean == pytest.approx(0.2)
    assert interval.high - interval.mean == pytest.approx(4.30265 * 0.1 / math.sqrt(3), rel=1e-5)


def test_several_runs_of_a_seed_are_one_sample() -> None:
    values = ((1, 0.1), (1, 0.3), (2, 0.2), (2, 0.2), (3, 0.05), (3, 0.35))

    interval = mean_interval([(seed, _constant(value)) for seed, value in values])

    assert interval.high == pytest.approx(interval.low)  # each seed's mean is the same


def test_with_fewer_seeds_the_interval_is_over_batches() -> None:
    values = np.repeat([0.0, 1.0, 0.0, 1.0], 50)

    interval = mean_interval([(1, batches(values))])

    assert interval.over == "batches"
    error = np.std([0, 1, 0, 1], ddof=1) / 2
    assert interval.high - interval.mean == pytest.approx(t_quantile(3) * error)


def test_too_little_to_tell_gives_no_interval() -> None:
    interval = mean_interval([(1, _constant(0.5, requests=60))])

    assert interval.mean == pytest.approx(0.5)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert interval.verdict == "undecided"


def test_pairing_takes_out_what_both_rules_share() -> None:
    rng = np.random.default_rng(7)
    difficulty = rng.random(3_000)
    runs = [(1, batches(difficulty + 0.02), batches(difficulty))]

    paired = paired_difference(runs)

    assert paired.interval.mean == pytest.approx(0.02)
    assert paired.interval.high - paired.interval.low < 1e-9
    assert paired.interval.verdict == "better"
    assert paired.relative == pytest.approx(0.02 / difficulty.mean())


def test_a_relative_difference_to_nothing_is_unknown() -> None:
    assert math.isnan(paired_difference([(1, _constant(0.5), _constant(0.0))]).relative)


def test_only_runs_of_the_same_requests_are_paired() -> None:
    with pytest.raises(ValueError, match="same requests"):
        paired_difference([(1, _constant(0.5, 200), _constant(0.5, 300))])


def test_intervals_over_batches_cover_the_truth_for_correlated_requests() -> None:
    """An AR(1) series of correlation 0.9 has an integrated correlation time of 19 requests."""
    rng = np.random.default_rng(3)
    series = rng.standard_normal((6_000, 200))
    for k in range(1, 6_000):
        series[k] += 0.9 * series[k - 1]

    intervals = [mean_interval([(1, batches(series[:, trial].copy()))]) for trial in range(200)]

    covered = sum(interval.low <= 0.0 <= interval.high for interval in intervals)
    assert covered >= 170
