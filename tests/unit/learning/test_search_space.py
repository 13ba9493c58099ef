import numpy as np
import pytest

from pointsman_policy.learning.search_space import (
    IMPACT_GREEDY_BOUNDS,
    SearchSpace,
    constant_tunables,
    tunables,
)
from pointsman_policy.pickers.impact_greedy import COLUMNS
from pointsman_policy.pickers.registry import PICKERS

IMPACT_GREEDY = PICKERS["ImpactGreedy"]


def test_coordinates_and_parameters_go_back_and_forth() -> None:
    space = SearchSpace(("a", "b"), (0.0, 0.1), (2.0, 10.0), (1.0, 1.0), (False, True))
    assert space.encode(np.array([1.0, 1.0])) == pytest.approx([0.5, 0.5])
    assert space.decode(np.array([0.25, 1.0])) == pytest.approx([0.5, 10.0])
    values = np.array([0.3, 0.7])
    assert space.decode(space.encode(values)) == pytest.approx(values)
    assert space.encode(np.array([-5.0, 50.0])) == pytest.approx([0.0, 1.0])


def test_a_parameter_at_different_loads_is_one_group() -> None:
    space = SearchSpace(("a@0.5", "a@1", "b@0.5", "c"), (0.0,) * 4, (1.0,) * 4, (0.5,) * 4, (False,) * 4)
    assert space.groups == (0, 0, 2, 3)


@pytest.mark.parametrize(("low", "high", "logarithmic"), [(1.0, 1.0, False), (2.0, 1.0, False), (0.0, 1.0, True)])
def test_bounds_that_leave_nothing_are_refused(low: float, high: float, logarithmic: bool) -> None:
    with pytest.raises(ValueError, match="bounds"):
        SearchSpace(("a",), (low,), (high,), (1.0,), (logarithmic,))


def test_every_column_of_impact_greedy_but_the_load_has_bounds() -> None:
    assert set(IMPACT_GREEDY_BOUNDS) == set(COLUMNS) - {"load"}


@pytest.mark.parametrize("name", ["ImpactGreedy", "SloFilteredQuality", "StaticPrior", "WeightedScore"])
def test_what_is_searched_starts_at_the_pickers_own_parameters(name: str) -> None:
    for tunable in tunables(PICKERS[name]):
        assert tunable.parameters(np.array(tunable.space.start)) == pytest.approx(PICKERS[name].parameters)
        coordinates = tunable.space.encode(np.array(tunable.space.start))
        assert tunable.space.decode(coordinates) == pytest.approx(tunable.space.start, abs=1e-6)


@pytest.mark.parametrize("name", ["PowerOfTwo", "QualityFirst", "RoundRobin"])
def test_a_rule_without_parameters_is_not_searched(name: str) -> None:
    assert tunables(PICKERS[name]) == ()


def test_a_search_over_one_table_leaves_the_other_and_the_loads_alone() -> None:
    must_serve, may_drop = tunables(IMPACT_GREEDY)
    half = len(IMPACT_GREEDY.parameters) // 2
    moved = must_serve.parameters(np.array(must_serve.space.high))
    original = np.array(IMPACT_GREEDY.parameters)
    assert np.array_equal(moved[half:], original[half:])
    assert not np.array_equal(moved[:half], original[:half])
    assert np.array_equal(moved[: half : len(COLUMNS)], original[: half : len(COLUMNS)])
    assert must_serve.admissions == ("Never",)
    assert "Never" not in may_drop.admissions


def test_constant_parameters_are_the_same_at_every_load() -> None:
    must_serve = constant_tunables(IMPACT_GREEDY)[0]
    found = must_serve.parameters(np.array(must_serve.space.low))
    table = found[: len(found) // 2].reshape(-1, len(COLUMNS))
    column = COLUMNS.index("pessimism")
    assert np.unique(table[:, column]).tolist() == [IMPACT_GREEDY_BOUNDS["pessimism"][0]]
