import numpy as np

from pointsman_policy.evaluation.calibration import BELIEFS, TIMES, Case, calibration_table, measure

_DECLARED, _CALIBRATED, _TRUE = (BELIEFS.index(name) for name in ("declared, pace not followed", "calibrated", "true"))


def test_calibrated_predictions_are_as_good_as_those_of_who_knows_the_truth() -> None:
    result = measure(Case("all off", off=0.3, throttled=False, load=0.5), seeds=(1,), requests=3_000)
    assert result.outcomes[0] == result.outcomes[2] == 300
    calibrated, true = result.error[_CALIBRATED], result.error[_TRUE]
    assert (calibrated <= true + 0.02).all()
    assert (calibrated[1:] < 0.1).all()
    assert result.error[_DECLARED, 0] > calibrated[0] + 0.02


def test_an_expert_that_was_throttled_on_the_way_is_predicted_as_it_is_now() -> None:
    result = measure(Case("throttled", off=0.0, throttled=True, load=0.5), seeds=(2,), requests=3_000)
    assert (result.error[_CALIBRATED] <= result.error[_TRUE] + 0.02).all()
    assert np.abs(result.bias[_CALIBRATED]).max() < 0.08


def test_the_table_shows_every_belief_and_time() -> None:
    result = measure(Case("all off", off=0.3, throttled=False, load=0.5), seeds=(1,), requests=1_000)
    table = calibration_table([result])
    assert table.row_count == len(BELIEFS)
    headings = [column.header for column in table.columns]
    assert set(TIMES) <= set(headings)
