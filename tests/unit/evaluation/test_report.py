import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from pointsman_policy.evaluation.comparison import Comparison, Objectives, RuleRun, compare
from pointsman_policy.evaluation.metrics import Figures
from pointsman_policy.evaluation.report import comparison_report, demo_report, finding, qos_over_time
from pointsman_policy.simulator.outcomes import Outcomes

_VOID = {"meta"}


class _Page(HTMLParser):
    """Collects a page's elements, its text, and whether every element is closed where it should be."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.shown: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.shown.append(data)


def _drawings(page: str) -> list[ElementTree.Element]:
    starts = [index for index in range(len(page)) if page.startswith("<svg", index)]
    return [ElementTree.fromstring(page[start : page.index("</svg>", start) + 6]) for start in starts]  # noqa: S314


def test_the_report_is_one_page_that_needs_nothing_else(comparison: Comparison) -> None:
    page = comparison_report("Benchmark", ["How it was made."], [comparison])

    parsed = _Page(page)
    assert not {"script", "link", "img", "iframe", "object"} & set(parsed.tags)
    assert not [value for name, value in parsed.attributes if name in ("src", "href")]
    assert "url(" not in page
    assert "@import" not in page
    assert parsed.tags.count("svg") == 6  # QoS, the key of the shares, the shares, TTFT, TPOT, NTPOT
    assert {"How it was made.", "A title", "What it is"} <= set(parsed.shown)


def test_every_drawing_is_well_formed_and_named(comparison: Comparison) -> None:
    for drawing in _drawings(comparison_report("Benchmark", [], [comparison])):
        assert drawing[0].tag == "title"
        assert drawing[0].text
        _, _, width, height = map(float, drawing.attrib["viewBox"].split())
        for mark in drawing.iter("line"):
            assert 0 <= float(mark.attrib["x1"]) <= width
            assert 0 <= float(mark.attrib["y2"]) <= height


def test_users_text_never_becomes_markup(comparison: Comparison) -> None:
    evil = "<script>alert('1')</script>&lt;"
    renamed = replace(comparison, title=evil, description=evil)

    page = comparison_report(evil, [evil], [renamed])

    assert "script" not in _Page(page).tags
    assert _Page(page).shown.count(evil) == 5  # twice the title, the note, and the comparison's two


def test_the_finding_names_the_best_rule_and_by_how_much(comparison: Comparison) -> None:
    sentence = finding(comparison)

    assert sentence.startswith("Good has the highest mean QoS over all loads. It is ahead of Middling")
    assert f"{comparison.overall['Middling'].interval.mean:+.3f}" in sentence


def test_the_finding_admits_what_it_does_not_know(cells: dict[str, list[RuleRun]]) -> None:
    twins = {"load 1": [replace(run, picker=name) for name in "AB" for run in cells["load 0.5"] if run.picker == "Bad"]}
    result = compare("", "", Objectives(), twins)

    assert result is not None
    assert "does not tell them apart" in finding(result)


def test_a_rule_alone_is_reported_without_differences(cells: dict[str, list[RuleRun]]) -> None:
    result = compare("", "", Objectives(), {"load 1": [run for run in cells["load 0.5"] if run.picker == "Bad"]})

    assert result is not None
    assert "nothing to compare" in finding(result)
    assert "Ahead of" not in comparison_report("Benchmark", [], [result])


def test_figures_that_are_not_known_leave_a_report(comparison: Comparison) -> None:
    def unknown(figures: Figures) -> Figures:
        for name in Figures.__dataclass_fields__:
            if "second" in name or name == "mean_quality_served":
                figures = replace(figures, **{name: math.nan})  # type: ignore[arg-type]
        return figures

    cells = tuple(
        replace(
            cell,
            results=tuple(replace(result, figures=unknown(result.figures)) for result in cell.results),
        )
        for cell in comparison.cells
    )

    page = comparison_report("Benchmark", [], [replace(comparison, cells=cells)])

    _Page(page)
    assert "nan" not in page


def test_the_demo_report_shows_qos_over_time(comparison: Comparison, measure: Callable[[float, int], Outcomes]) -> None:
    outcomes = {"Good": measure(0.8, 1), "Bad": measure(0.2, 1)}

    page = demo_report("Demo", [], comparison, outcomes)

    paths = [path for drawing in _drawings(page) for path in drawing.iter("path")]
    assert len(paths) == 2
    assert "QoS over time" in _Page(page).shown


def test_qos_over_time_is_the_mean_of_each_slice(measure: Callable[[float, int], Outcomes]) -> None:
    outcomes = measure(0.8, 1)

    points = qos_over_time(outcomes, slices=4)

    span = float(outcomes.arrival_at.max() - outcomes.arrival_at.min())
    assert [x for x, _ in points] == pytest.approx([span * share for share in (0.125, 0.375, 0.625, 0.875)])
    early = outcomes.arrival_at < outcomes.arrival_at.min() + span / 4
    assert points[0][1] == pytest.approx(outcomes.qos()[early].mean())


def test_slices_without_arrivals_interrupt_the_line(measure: Callable[[float, int], Outcomes]) -> None:
    outcomes = measure(0.8, 1)
    gap = outcomes.arrival_at.copy()
    gap[150:] += 1_000

    points = qos_over_time(replace(outcomes, arrival_at=gap), slices=10)

    assert any(math.isnan(qos) for _, qos in points)


def test_a_single_request_has_a_series(measure: Callable[[float, int], Outcomes]) -> None:
    outcomes = measure(0.8, 1)
    one = Outcomes(**{name: getattr(outcomes, name)[:1] for name in Outcomes.__dataclass_fields__})

    assert sum(not math.isnan(qos) for _, qos in qos_over_time(one)) == 1
