"""Reports of comparisons: one HTML file that needs nothing else, for `bench sim` and for the demo."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from pointsman_policy.evaluation.comparison import Comparison, RuleResult
from pointsman_policy.evaluation.html import (
    Html,
    definitions,
    element,
    figure,
    join,
    page,
    paragraph,
    table,
    text,
)
from pointsman_policy.evaluation.paired import BATCH_REQUESTS, PairedDifference
from pointsman_policy.evaluation.plots import Bars, Shares, Spans, legend, lines_plot, rows_plot
from pointsman_policy.evaluation.table import difference, figures_grid, percent
from pointsman_policy.simulator.outcomes import Outcomes

_SHARES = (("within objectives", "good"), ("answered too late", "late"), ("dropped", "drop"), ("failed", "bad"))
_DEFINITIONS = (
    ("QoS", "A request's quality, 0 to 1, if every objective set for it is met; 0 if not, or if dropped or failed."),
    ("Mean QoS", "Over all requests that arrived, the dropped ones included."),
    ("SLO met", "Share of all requests that arrived which were answered within all their objectives."),
    ("Quality", "Mean quality of the answers given, late or not."),
    ("TTFT", "Arrival to first token."),
    ("TPOT", "(End - first token) / (tokens - 1)."),
    ("NTPOT", "(End - arrival) / tokens: queueing and prefill included."),
    ("QoS per busy s", "Sum of QoS over the experts' summed busy seconds: what the hardware's time was used for."),
    ("p50 / p99", "Percentiles over answered requests; with several seeds, the mean of each run's percentile."),
    (
        "Intervals",
        "95 % confidence. Over seeds where there are at least three, else over batches of at least "
        f"{BATCH_REQUESTS} successive requests of the runs, which says nothing of other draws of requests. Differences "
        "are paired: both rules met the same requests. The best rule is chosen on the same runs.",
    ),
)


def comparison_report(title: str, notes: Sequence[str], comparisons: Sequence[Comparison]) -> str:
    """Return a whole page.

    Args:
        title: Of the page.
        notes: Paragraphs on how the figures were made.
        comparisons: Shown one after the other.
    """
    return report_page(title, notes, [comparison_section(comparison) for comparison in comparisons])


def comparison_section(comparison: Comparison) -> Html:
    """Return a comparison's plots and tables."""
    return join(_comparison(comparison))


def demo_report(title: str, notes: Sequence[str], comparison: Comparison, outcomes: Mapping[str, Outcomes]) -> str:
    """Return the page of measured runs that were sent the same requests.

    Args:
        title: Of the page.
        notes: Paragraphs on how the figures were made.
        comparison: Of the rules.
        outcomes: What became of the requests under each rule, for the plot over time.
    """
    series = [(picker, qos_over_time(outcomes[picker])) for picker in comparison.ranking if picker in outcomes]
    plot = figure(
        "QoS over time",
        "Mean QoS of the requests that arrived in each slice of time.",
        lines_plot("Lines of mean QoS over time, one for each rule", "seconds since the first arrival", series),
    )
    return report_page(title, notes, [*_comparison(comparison), plot])


def qos_over_time(outcomes: Outcomes, slices: int = 40) -> list[tuple[float, float]]:
    """Return (seconds since the first arrival, mean QoS) in the middle of equal slices of time; NaN = no arrivals."""
    since = outcomes.arrival_at - outcomes.arrival_at.min()
    edges = np.linspace(0.0, float(since.max()) or 1.0, slices + 1)
    within = np.clip(np.searchsorted(edges, since, side="right") - 1, 0, slices - 1)
    count = np.bincount(within, minlength=slices)
    total = np.bincount(within, weights=outcomes.qos(), minlength=slices)
    mean = np.divide(total, count, out=np.full(slices, np.nan), where=count > 0)
    return list(zip(((edges[1:] + edges[:-1]) / 2).tolist(), mean.tolist(), strict=True))


def report_page(title: str, notes: Sequence[str], sections: Sequence[Html]) -> str:
    """Return a whole page: notes, sections, and what the figures mean."""
    body = [element("h1", text(title)), *(paragraph(note, "soft") for note in notes), *sections]
    body += [element("h2", text("What the figures mean")), definitions(_DEFINITIONS)]
    return page(title, body)


def _comparison(comparison: Comparison) -> list[Html]:
    parts = [element("h2", text(comparison.title))]
    if comparison.description:
        parts.append(paragraph(comparison.description, "soft"))
    parts.append(paragraph(finding(comparison), "finding"))
    parts += [_qos_plot(comparison), _shares_plot(comparison), _latency_plot(comparison)]
    parts += [
        table(
            f"Figures: {cell.title}",
            *figures_grid((result.picker, result.figures) for result in cell.results),
            best=comparison.best,
        )
        for cell in comparison.cells
    ]
    if len(comparison.ranking) > 1:
        parts.append(_differences_table(comparison))
    return parts


def finding(comparison: Comparison) -> str:
    """Return the result in two sentences."""
    if len(comparison.ranking) < 2:
        return f"{comparison.best} ran alone; there is nothing to compare it with."
    second = comparison.ranking[1]
    paired = comparison.overall[second]
    sure = {"better": "", "worse": "", "undecided": " The interval holds 0, so this does not tell them apart."}
    over = " over all loads" if len(comparison.cells) > 1 else ""
    relative = f", {percent(paired.relative)} more" if math.isfinite(paired.relative) else ""
    return (
        f"{comparison.best} has the highest mean QoS{over}. It is ahead of {second}, the next best, by "
        f"{difference(paired)}{relative}.{sure[paired.interval.verdict]}"
    )


def _qos_plot(comparison: Comparison) -> Html:
    best = comparison.ranking.index(comparison.best)
    ends = [max(result.qos.mean, _finite(result.qos.high)) for cell in comparison.cells for result in cell.results]
    high = min(max(*ends, 0.05) * 1.02, 1.0)
    panels = [
        Bars(cell.title, [(result.qos.mean, result.qos.low, result.qos.high) for result in cell.results], high, best)
        for cell in comparison.cells
    ]
    drawing = rows_plot("Bars of mean QoS with confidence intervals, by rule", comparison.ranking, panels)
    return figure("Mean QoS", "Higher is better. Whiskers are 95 % confidence intervals of each rule alone.", drawing)


def _shares_plot(comparison: Comparison) -> Html:
    colours = [colour for _, colour in _SHARES]
    panels = [
        Shares(
            cell.title,
            [_shares(result) for result in cell.results],
            [result.figures.mean_quality_served for result in cell.results],
            colours,
        )
        for cell in comparison.cells
    ]
    drawing = rows_plot("Shares of requests by what became of them, by rule", comparison.ranking, panels)
    key = legend(_SHARES, "mean quality of the answers given")
    return figure(
        "What became of the requests",
        "Mean QoS is high where many keep their objectives and answers are good.",
        join((key, drawing)),
    )


def _shares(result: RuleResult) -> tuple[float, float, float, float]:
    figures = result.figures
    late = 1.0 - figures.slo_attainment_ratio - figures.drop_ratio - figures.failure_ratio
    return figures.slo_attainment_ratio, max(late, 0.0), figures.drop_ratio, figures.failure_ratio


def _latency_plot(comparison: Comparison) -> Html:
    panels = [
        _spans(comparison, name, objective)
        for name, objective in zip(("TTFT", "TPOT", "NTPOT"), comparison.objectives, strict=True)
    ]
    if len(comparison.cells) == 1:
        panels = [[panel for of_name in panels for panel in of_name]]
    drawings = [rows_plot("Latency percentiles by rule", comparison.ranking, row) for row in panels if row]
    explanation = (
        "Lower is better; dot = p50, line to p99, logarithmic scale, answered requests only; red = the objective."
    )
    return figure("Latency", explanation, join(drawings))


def _spans(comparison: Comparison, name: str, objective: float) -> list[Spans]:
    """Return a panel for each cell on one common scale; none if nothing was answered."""
    values = [[_percentiles(result, name) for result in cell.results] for cell in comparison.cells]
    known = [value for of_cell in values for pair in of_cell for value in pair if value > 0]
    if not known:
        return []
    if objective > 0:
        known.append(objective)
    limits = (0.8 * min(known), 1.25 * max(known))
    best = comparison.ranking.index(comparison.best)
    return [
        Spans(f"{name}, {cell.title}", rows, limits, objective, best)
        for cell, rows in zip(comparison.cells, values, strict=True)
    ]


def _percentiles(result: RuleResult, name: str) -> tuple[float, float]:
    field = f"{name.lower()}_seconds"
    return getattr(result.figures, f"{field}_p50"), getattr(result.figures, f"{field}_p99")


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _differences_table(comparison: Comparison) -> Html:
    columns = [cell.differences for cell in comparison.cells]
    headings = ["Ahead of", *(cell.title for cell in comparison.cells)]
    if len(comparison.cells) > 1:
        columns.append(comparison.overall)
        headings.append("all")
    rows, classes = [], []
    for other in comparison.ranking[1:]:
        rows.append([other, *(_difference_cell(column[other]) for column in columns)])
        classes.append(["", *(column[other].interval.verdict for column in columns)])
    over = comparison.overall[comparison.ranking[1]].interval.over
    caption = f"Mean QoS of {comparison.best} less that of each other rule, paired, with 95 % intervals over {over}"
    return table(caption, headings, rows, classes=classes)


def _difference_cell(paired: PairedDifference) -> str:
    relative = f" ({100 * paired.relative:+.0f}\N{NO-BREAK SPACE}%)" if math.isfinite(paired.relative) else ""
    return difference(paired) + relative
