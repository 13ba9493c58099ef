import math

import numpy as np
import pytest

from pointsman_policy.rollout.comparison import Arm, Comparison

MARGIN = 0.01


def requests_until_worse(seed: int, share: float, harm: float, most: int) -> int | None:
    """Return after how many of its requests a canary with so much less QoS is found out."""
    rng = np.random.default_rng(seed)
    comparison = Comparison()
    met_share = {"control": 0.92, "canary": 0.92 - harm / 0.73}
    for _ in range(most):
        arm: Arm = "canary" if rng.random() < share else "control"
        met = float(rng.random() < met_share[arm])
        comparison.observe(arm, met * rng.beta(8, 3), met)
        if comparison.worse_by(MARGIN):
            return comparison.requests("canary")
    return None


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
@pytest.mark.parametrize(("harm", "most_canary_requests"), [(0.4, 100), (0.2, 250)])
def test_a_canary_that_is_much_worse_is_found_out_soon(share: float, harm: float, most_canary_requests: int) -> None:
    found = [requests_until_worse(seed, share, harm, 20_000) for seed in range(12)]
    assert all(one is not None and one <= most_canary_requests for one in found)


def test_a_canary_that_is_as_good_is_hardly_ever_called_worse_however_the_load_changes() -> None:
    rng = np.random.default_rng(5)
    runs, alarms = 100, 0
    for _ in range(runs):
        comparison = Comparison()
        phase = rng.uniform(0, 6)
        for index in range(600):
            # Half of all requests miss their objectives at the peak, and the canary's share rises meanwhile.
            met = float(rng.random() < 0.95 - 0.5 * math.sin(phase + index / 100) ** 2)
            arm: Arm = "canary" if rng.random() < (0.05, 0.25, 0.5)[index // 200] else "control"
            comparison.observe(arm, met * rng.beta(8, 3), met)
            if comparison.worse_by(0.0):
                alarms += 1
                break
    assert alarms <= 0.05 * runs


def test_arms_with_unlike_means_are_alike_when_the_share_rose_with_the_load() -> None:
    rng = np.random.default_rng(5)
    comparison = Comparison()
    for share, met_share in ((0.05, 0.95), (0.5, 0.5)):
        for _ in range(2000):
            arm: Arm = "canary" if rng.random() < share else "control"
            met = float(rng.random() < met_share)
            comparison.observe(arm, met, met)
    assert comparison.slo.mean("canary") < comparison.slo.mean("control") - 0.1
    assert comparison.slo.low < 0.0 < comparison.slo.high
    assert abs(comparison.slo.estimate) < 0.05


def test_a_better_canary_has_an_interval_above_0() -> None:
    rng = np.random.default_rng(1)
    comparison = Comparison()
    for index in range(2000):
        arm: Arm = "canary" if index % 2 else "control"
        comparison.observe(arm, float(rng.beta(8, 3)) if arm == "canary" else float(rng.beta(4, 4)), 1.0)
    assert comparison.qos.low > 0.0
    assert comparison.slo.estimate == 0.0
    assert comparison.worse_by(0.0) == ""


def test_the_reason_names_the_figure_and_both_arms() -> None:
    comparison = Comparison()
    for index in range(400):
        comparison.observe("canary" if index % 2 else "control", 0.7, 0.0 if index % 2 else 1.0)
    reason = comparison.worse_by(MARGIN)
    assert reason.startswith("SLO attainment is lower than the control's by ")
    assert reason.endswith("(0.0 % against 100.0 %, 200 and 200 requests)")


def test_requests_that_cannot_be_judged_do_not_count() -> None:
    comparison = Comparison()
    comparison.observe("canary", math.nan, math.nan)
    comparison.observe("canary", math.nan, 1.0)
    assert comparison.requests("canary") == 1
    assert comparison.slo.mean("canary") == 1.0
    assert comparison.qos.mean("canary") == 0.0
    assert (comparison.qos.low, comparison.qos.high) == (-1.0, 1.0)


@pytest.mark.parametrize(("qos", "met"), [(1.5, 1.0), (0.5, -1.0), (math.inf, 1.0)])
def test_figures_outside_of_their_range_are_refused(qos: float, met: float) -> None:
    comparison = Comparison()
    with pytest.raises(ValueError, match="between 0 and 1"):
        comparison.observe("control", qos, met)
    assert comparison.requests("control") == 0


def test_attainment_that_may_be_lower_holds_nothing_up_where_qos_is_surely_higher() -> None:
    """Better answers by experts that are in time a little less often."""
    comparison, doubtful = Comparison(), Comparison()
    for index in range(400):
        canary_met = float(index % 20 != 0)
        comparison.observe("control", 0.4, 1.0)
        comparison.observe("canary", 0.8 * canary_met, canary_met)
        doubtful.observe("control", 0.4, 1.0)
        doubtful.observe("canary", 0.4 * canary_met, canary_met)
    assert comparison.slo.estimate < -MARGIN
    assert comparison.qos.low > 0.0
    assert comparison.seems_worse_by(MARGIN) == ""
    assert doubtful.seems_worse_by(MARGIN) != ""
