import math
from dataclasses import replace

from rich.console import Console

from pointsman_policy.evaluation.comparison import Comparison
from pointsman_policy.evaluation.metrics import Figures
from pointsman_policy.evaluation.table import difference, figures_grid, figures_table, milliseconds, number, percent


def _figures(comparison: Comparison) -> Figures:
    return comparison.cells[0].results[0].figures


def test_numbers_are_shown_with_the_digits_that_matter() -> None:
    assert number(0.12345) == "0.123"
    assert percent(0.12345).replace("\N{NO-BREAK SPACE}", " ") == "12.3 %"
    assert [milliseconds(seconds) for seconds in (0.0123, 0.1234, 12.3)] == ["12.3", "123", "12,300"]


def test_what_is_not_known_is_a_dash() -> None:
    assert number(math.nan) == percent(math.nan) == milliseconds(math.nan) == "\N{EN DASH}"


def test_failures_have_a_column_only_where_there_are_any(comparison: Comparison) -> None:
    figures = _figures(comparison)

    headings, rows = figures_grid([("Good", figures)])
    assert "Failed" not in headings
    assert len(rows[0]) == len(headings)

    headings, rows = figures_grid([("Good", figures), ("Bad", replace(figures, failure_ratio=0.5))])
    assert "50.0" in rows[1][headings.index("Failed")]


def test_the_table_shows_every_rule_and_its_distance_from_the_best(comparison: Comparison) -> None:
    cell = comparison.cells[0]
    console = Console(width=200)

    with console.capture() as capture:
        results = [(result.picker, result.figures) for result in cell.results]
        console.print(figures_table("A [title]", results, comparison.best, cell.differences))
    shown = capture.get()

    assert "A [title]" in shown
    for result in cell.results:
        assert result.picker in shown
        assert number(result.figures.mean_qos) in shown
    assert difference(cell.differences["Bad"]) in shown
