"""Figures of several rules as a table for the terminal."""

import math
from collections.abc import Iterable, Mapping

from rich import box
from rich.table import Table
from rich.text import Text

from pointsman_policy.evaluation.metrics import Figures
from pointsman_policy.evaluation.paired import PairedDifference

MISSING = "–"  # noqa: RUF001
"""Shown where a figure is not known."""


def number(value: float, digits: int = 3) -> str:
    """Return a number for people."""
    return f"{value:.{digits}f}" if math.isfinite(value) else MISSING


def percent(value: float, digits: int = 1) -> str:
    """Return a ratio as a percentage for people."""
    return f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%" if math.isfinite(value) else MISSING


def milliseconds(seconds: float) -> str:
    """Return a time in milliseconds for people, three digits that matter."""
    if not math.isfinite(seconds):
        return MISSING
    value = 1e3 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


_COLUMNS = (
    "Rule",
    "Mean QoS",
    "SLO met",
    "Quality",
    "Dropped",
    "Failed",
    "TTFT ms p50 / p99",
    "TPOT ms p50 / p99",
    "NTPOT ms p50 / p99",
    "QoS per busy s",
)
_FAILED = _COLUMNS.index("Failed")


def figures_grid(results: Iterable[tuple[str, Figures]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headings and rows of text, one row for each rule; failures have a column only where there are any."""
    results = list(results)
    rows = [_cells(rule, figures) for rule, figures in results]
    if any(figures.failure_ratio > 0 for _, figures in results):
        return _COLUMNS, rows
    return _without_failed(_COLUMNS), [_without_failed(row) for row in rows]


def _without_failed(row: tuple[str, ...]) -> tuple[str, ...]:
    return row[:_FAILED] + row[_FAILED + 1 :]


def _cells(rule: str, figures: Figures) -> tuple[str, ...]:
    return (
        rule,
        number(figures.mean_qos),
        percent(figures.slo_attainment_ratio),
        number(figures.mean_quality_served),
        percent(figures.drop_ratio),
        percent(figures.failure_ratio),
        _pair(figures.ttft_seconds_p50, figures.ttft_seconds_p99),
        _pair(figures.tpot_seconds_p50, figures.tpot_seconds_p99),
        _pair(figures.ntpot_seconds_p50, figures.ntpot_seconds_p99),
        number(figures.qos_per_busy_second, 2),
    )


def _pair(p50: float, p99: float) -> str:
    return f"{milliseconds(p50)} / {milliseconds(p99)}"


def difference(paired: PairedDifference) -> str:
    """Return a paired difference and how far its interval reaches, as text."""
    interval = paired.interval
    if not math.isfinite(interval.high):
        return f"{interval.mean:+.3f}"
    return f"{interval.mean:+.3f}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{interval.high - interval.mean:.3f}"


def figures_table(
    title: str,
    results: Iterable[tuple[str, Figures]],
    best: str | None = None,
    differences: Mapping[str, PairedDifference] | None = None,
) -> Table:
    """Return a table of rules and their figures; cheap enough to be drawn anew several times a second.

    Args:
        title: Above the table.
        results: Rule and figures, in the order to be shown.
        best: The rule to highlight.
        differences: Mean QoS of the best rule less that of others, paired; adds a column.
    """
    headings, rows = figures_grid(results)
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index else "left", no_wrap=index == 0)
    if differences:
        table.add_column("Best is ahead by", justify="right")
    for row in rows:
        if differences:
            row += (difference(differences[row[0]]) if row[0] in differences else "",)
        table.add_row(*map(Text, row), style="bold green" if row[0] == best else "")
    return table
