import pytest

from pointsman_policy.evaluation.comparison import Comparison, Objectives, RuleRun, compare


def test_rules_are_ranked_by_mean_qos_and_compared_with_the_best(comparison: Comparison) -> None:
    assert comparison.best == "Good"
    assert comparison.ranking == ("Good", "Middling", "Bad")
    assert [cell.title for cell in comparison.cells] == ["load 0.5", "load 0.9"]
    for cell in comparison.cells:
        assert [result.picker for result in cell.results] == ["Good", "Middling", "Bad"]
        assert cell.results[0].figures.requests == 900
        assert cell.results[0].qos.mean == pytest.approx(cell.results[0].figures.mean_qos)
        assert set(cell.differences) == {"Middling", "Bad"}
        assert cell.differences["Bad"].interval.verdict == "better"


def test_the_overall_difference_is_the_mean_over_cells(comparison: Comparison) -> None:
    means = [cell.differences["Middling"].interval.mean for cell in comparison.cells]

    assert comparison.overall["Middling"].interval.mean == pytest.approx(sum(means) / 2)


def test_workloads_that_a_rule_has_not_finished_are_left_out(cells: dict[str, list[RuleRun]]) -> None:
    del cells["load 0.9"][-1]

    result = compare("", "", Objectives(), cells)

    assert result is not None
    assert [cell.results[0].figures.requests for cell in result.cells] == [900, 600]


def test_nothing_in_common_is_no_comparison(cells: dict[str, list[RuleRun]]) -> None:
    half = {"load 0.5": [run for run in cells["load 0.5"] if run.picker == ("Good" if run.seed == 1 else "Bad")]}

    assert compare("", "", Objectives(), half) is None
    assert compare("", "", Objectives(), {}) is None


def test_a_single_rule_is_compared_with_nothing(cells: dict[str, list[RuleRun]]) -> None:
    alone = {"load 0.5": [run for run in cells["load 0.5"] if run.picker == "Bad"]}

    result = compare("", "", Objectives(), alone)

    assert result is not None
    assert result.best == "Bad"
    assert not result.overall
