import numpy as np
import pytest

from pointsman_policy.prediction.shrinkage import slopes


def draw(slope: list[float], count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    predicted = rng.standard_normal((count, len(slope)))
    return predicted, 3 + np.array(slope) * predicted + rng.standard_normal(predicted.shape)


def test_with_much_data_each_model_has_its_own_slope() -> None:
    predicted, truth = draw([0.2, 0.5, 0.9], 20_000)
    np.testing.assert_allclose(slopes(predicted, truth, 1.0), [0.2, 0.5, 0.9], atol=0.03)


def test_with_little_data_slopes_are_drawn_together() -> None:
    predicted, truth = draw([0.5] * 8, 60)
    pooled = slopes(predicted, truth, 1.0)
    alone = np.array([slopes(predicted[:, [m]], truth[:, [m]], 1.0)[0] for m in range(8)])
    assert pooled.std() < 0.5 * alone.std()
    assert pooled.mean() == pytest.approx(0.5, abs=0.1)


def test_predictions_without_skill_count_nothing() -> None:
    predicted, truth = draw([0.0] * 4, 500)
    np.testing.assert_array_equal(slopes(predicted, truth, 1.0), np.zeros(4))


def test_predictions_that_are_wrong_way_round_count_nothing() -> None:
    predicted, truth = draw([-0.5] * 4, 500)
    np.testing.assert_array_equal(slopes(predicted, truth, 1.0), np.zeros(4))


def test_slopes_stay_within_bounds() -> None:
    predicted, truth = draw([3.0, 0.8], 5_000)
    assert slopes(predicted, truth, 1.0)[0] == 1.0


def test_a_model_without_data_gets_the_slope_of_the_others() -> None:
    predicted, truth = draw([0.5, 0.5, 0.5], 5_000)
    truth[:, 1] = np.nan
    assert slopes(predicted, truth, 1.0)[1] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("truth", [np.full((10, 2), np.nan), np.ones((10, 2))])
def test_where_nothing_can_be_told_all_are_zero(truth: np.ndarray) -> None:
    np.testing.assert_array_equal(slopes(np.zeros((10, 2)), truth, 1.0), np.zeros(2))


def test_perfect_predictions_are_believed() -> None:
    predicted, _ = draw([1.0, 1.0], 100)
    np.testing.assert_allclose(slopes(predicted, predicted, 1.0), [1, 1])
