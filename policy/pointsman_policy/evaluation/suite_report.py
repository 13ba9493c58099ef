"""What `pointsman bench policies` writes: a page, tables for documents, a file of all figures, and drawings."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pointsman_policy.evaluation.bench import RESULT_FIGURES, json_number, objective_seconds, write_text
from pointsman_policy.evaluation.comparison import Comparison, RuleRun, compare
from pointsman_policy.evaluation.html import Html, element, figure, join, table, text
from pointsman_policy.evaluation.policies import SuiteRun
from pointsman_policy.evaluation.report import comparison_section, report_page
from pointsman_policy.evaluation.standings import Standings
from pointsman_policy.evaluation.suite_grids import Grid, suite_grids
from pointsman_policy.evaluation.suite_plots import ratios_plot, standalone
from pointsman_policy.evaluation.targets import Target

_COMPARED = ("subject", "peer", "constant", "other")


def write_suite(
    folder: Path,
    title: str,
    notes: Sequence[str],
    standings: Standings,
    targets: Sequence[Target],
    meta: Mapping[str, str | int | bool],
) -> None:
    """Write `results.json`, `report.html`, `tables.md` and `figures/*.svg`.

    Args:
        folder: Exists.
        title: Of the page.
        notes: Paragraphs on how the figures were made.
        standings: At least one workload is finished.
        targets: From `check_targets`.
        meta: What else `results.json` is to say of the run.

    Raises:
        OSError: If a file cannot be written.
    """
    grids = suite_grids(standings, targets)
    write_text(folder / "results.json", json.dumps(_document(standings, targets, meta), indent=1) + "\n")
    write_text(folder / "tables.md", "\n".join(grid.markdown() for grid in grids))
    drawings = _drawings(standings)
    for name, drawing in drawings.items():
        (folder / "figures").mkdir(exist_ok=True)
        write_text(folder / "figures" / f"ratios-{name}.svg", standalone(drawing))
    write_text(folder / "report.html", report_page(title, notes, _sections(standings, grids, drawings)))


def _document(standings: Standings, targets: Sequence[Target], meta: Mapping[str, str | int | bool]) -> dict[str, Any]:
    plan = standings.plan
    contestants = {one.name: one for one in plan.contestants}
    families = {scenario.name: scenario for scenario in plan.scenarios}
    runs = [run for of_one in standings.runs.values() for run in of_one.values()]
    return {
        "meta": {"schema": 1, **meta, "seeds": list(plan.seeds)},
        "contestants": [
            {
                "name": one.name,
                "picker": one.picker.name,
                "role": one.role,
                "of": one.of,
                "knowledge": one.knowledge,
                "version": one.picker.version,
                "parameters": len(one.picker.parameters),
            }
            for one in contestants.values()
        ],
        "targets": [
            {
                "policy": target.subject,
                "name": target.name,
                "least": target.least,
                "figure": json_number(target.figure),
                "passed": target.passed,
                "detail": target.detail,
            }
            for target in targets
        ],
        "rows": [_row(run, families[run.workload.scenario].family) for run in runs],
    }


def _row(run: SuiteRun, family: str) -> dict[str, Any]:
    figures = {name: json_number(getattr(run.rule.figures, name)) for name in RESULT_FIGURES}
    scenario, load, seed = run.workload
    return {"family": family, "scenario": scenario, "load": load, "seed": seed, "picker": run.rule.picker} | figures


def _drawings(standings: Standings) -> dict[str, Html]:
    if not standings.contestants("peer"):
        return {}
    return {one.name: ratios_plot(standings, one.name) for one in standings.contestants("subject")}


def _sections(standings: Standings, grids: Sequence[Grid], drawings: Mapping[str, Html]) -> list[Html]:
    sections = [_grid_table(grid) for grid in grids]
    for name, drawing in drawings.items():
        explanation = "Diamonds: mean QoS over loads over that of the best peer; lines: 95 % intervals; red: as good."
        sections.append(figure(f"{name} against its best peer", explanation, drawing))
    sections.append(element("h2", text("Scenario by scenario")))
    for comparison in suite_comparisons(standings):
        summary = element("summary", text(comparison.title))
        sections.append(element("details", join((summary, comparison_section(comparison)))))
    return sections


def _grid_table(grid: Grid) -> Html:
    classes = [[""] + [mark] * (len(grid.headings) - 1) for mark in grid.marks]
    return table(grid.title, grid.headings, grid.rows, classes=classes)


def suite_comparisons(standings: Standings) -> list[Comparison]:
    """Compare who knows no more than a router can, scenario by scenario, load by load."""
    names = [one.name for one in standings.plan.contestants if one.role in _COMPARED]
    comparisons = []
    for scenario in standings.plan.scenarios:
        cells: dict[str, list[RuleRun]] = {}
        for name in names:
            for workload, run in standings.runs[name].items():
                if workload.scenario == scenario.name:
                    cells.setdefault(f"load {workload.load:g}", []).append(run.rule)
        document = scenario.document
        comparisons.append(compare(scenario.name, document.description, objective_seconds(document.objectives), cells))
    return [comparison for comparison in comparisons if comparison is not None]
