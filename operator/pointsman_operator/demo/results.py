"""What the demo found: figures, comparison, files, and whether to believe them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from pointsman_operator.demo.health import Health
from pointsman_operator.demo.scoreboard import Scoreboard
from pointsman_operator.demo.settings import DemoSettings
from pointsman_policy.evaluation.bench import BenchRun, compare_runs, write_results, write_text
from pointsman_policy.evaluation.comparison import Comparison, RuleRun
from pointsman_policy.evaluation.metrics import figures
from pointsman_policy.evaluation.paired import batches, paired_difference
from pointsman_policy.evaluation.report import demo_report, finding
from pointsman_policy.evaluation.table import MISSING, difference, milliseconds, number, percent
from pointsman_policy.simulator.outcomes import Outcomes

REFERENCE = "HanActor"
"""The rule that the others are compared with, if it runs."""
_LEAST_COMPARED_QOS = 0.05
"""A share of less than this says nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class DemoResult:
    """Everything that a run found."""

    out: Path
    comparison: Comparison
    runs: Mapping[str, RuleRun]
    outcomes: Mapping[str, Outcomes]
    problems: Mapping[str, Counter[str]]
    """Why requests failed, by rule."""
    health: Health
    explanation: str

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.out / "report.html"

    @property
    def results(self) -> Path:
        """The figures as JSON."""
        return self.out / "results.json"


def choose_decision(scoreboard: Scoreboard) -> str | None:
    """Return the id of a decision worth explaining: one of the reference rule that did not take the best model.

    The first of the last quarter is taken, so that the router still knows it; None if there is none at all.
    """
    tally = scoreboard.tallies.get(REFERENCE) or next(reversed(scoreboard.tallies.values()))
    quality = scoreboard.workload.requests.quality.mean(axis=0)
    columns = scoreboard.workload.expert_of()
    best = max(columns, key=lambda model: float(quality[columns[model]]))
    answered = [report for report in tally.reports if report.decision_id and report.first_token_at is not None]
    recent = answered[len(answered) * 3 // 4 :]
    elsewhere = [report for report in recent if report.model != best]
    return next((report.decision_id for report in [*elsewhere, *recent]), None)


def summarise(
    out: Path,
    scoreboard: Scoreboard,
    settings: DemoSettings,
    health: Health,
    busy_seconds: Mapping[str, float | None],
    explanation: str,
) -> DemoResult:
    """Compute the figures, and write `report.html` and `results.json`.

    Args:
        out: Folder for them.
        scoreboard: What became of the requests, at least one.
        settings: Has the seed.
        health: How the run went.
        busy_seconds: Of each rule's experts; None = not known.
        explanation: Of one decision.

    Raises:
        OSError: If a file cannot be written.
    """
    workload = scoreboard.workload
    outcomes, runs = {}, {}
    for picker, tally in scoreboard.tallies.items():
        ended = tally.outcomes()
        if ended is None or len(ended) != len(workload.requests):
            raise ValueError("a finished run has an end for each request")
        outcomes[picker] = ended
        runs[picker] = RuleRun(picker, settings.seed, figures(ended, busy_seconds[picker]), batches(ended.qos()))
    bench_runs = [BenchRun(workload.scenario, workload.load, run) for run in runs.values()]
    comparison = compare_runs(bench_runs)[0]
    problems = {picker: tally.problems for picker, tally in scoreboard.tallies.items()}
    result = DemoResult(out, comparison, runs, outcomes, problems, health, explanation)
    write_results(result.results, bench_runs, complete=True)
    write_text(result.report, demo_report("Pointsman: demo", _notes(result), comparison, outcomes))
    return result


def _notes(result: DemoResult) -> list[str]:
    telemetry = "read by the router itself"
    if result.health.prometheus_queries is not None:
        telemetry = f"through Prometheus ({result.health.prometheus_queries} queries answered)"
    return [
        "Measured at the clients: real requests through a real Envoy, which asks the router, to emulated experts that "
        "stream tokens at the speed of their profiles. All rules ran at the same time on the same requests, each with "
        f"a fleet of its own. Load of the experts: {telemetry}.",
        result.health.verdict(),
    ]


def show(result: DemoResult, console: Console) -> None:
    """Print the result."""
    comparison = result.comparison
    console.print(f"\n[bold]{comparison.title}[/], {comparison.cells[0].title}", highlight=False)
    console.print(quality_table(result))
    console.print(latency_table(result))
    if len(result.runs) > 1:
        console.print(differences_table(result))
    console.print(finding(comparison), markup=False, highlight=False)
    for picker, reasons in result.problems.items():
        for reason, count in reasons.most_common(3):
            console.print(f"{picker}: {count} requests failed: {reason}", markup=False, highlight=False, style="dim")
    if result.explanation:
        console.print("\n[bold]Why one request went where it did[/] (pointsman explain)")
        console.print(result.explanation, markup=False, highlight=False, soft_wrap=True)
    shares = ", ".join(f"{name} {share:.0%}" for name, share in result.health.cpu_shares.items())
    console.print(f"\nCPU, of one core: {shares}", highlight=False, style="dim")
    if result.health.fallback_picks:
        console.print(f"{result.health.fallback_picks} picks were made by a fallback picker, see the router's log.")
    problems = any(result.health.problems())
    console.print(result.health.verdict(), highlight=False, style="bold red" if problems else "green")
    console.print(f"Report: {result.report}\nFigures: {result.results}", highlight=False, soft_wrap=True)


def quality_table(result: DemoResult) -> Table:
    """Return the figures that say how good the service was."""
    table = _table("rule", "mean QoS", "SLO met", "quality", "dropped", "failed", "QoS per\nbusy s")
    for one in result.comparison.cells[0].results:
        figures = one.figures
        table.add_row(
            one.picker,
            number(figures.mean_qos),
            percent(figures.slo_attainment_ratio),
            number(figures.mean_quality_served),
            percent(figures.drop_ratio),
            percent(figures.failure_ratio),
            number(figures.qos_per_busy_second, 2),
            style=_style(result, one.picker),
        )
    return table


def latency_table(result: DemoResult) -> Table:
    """Return the latencies of the answered requests, milliseconds."""
    table = _table("p50 / p99, ms", "TTFT", "TPOT", "NTPOT")
    for one in result.comparison.cells[0].results:
        figures = one.figures
        pairs = (
            (figures.ttft_seconds_p50, figures.ttft_seconds_p99),
            (figures.tpot_seconds_p50, figures.tpot_seconds_p99),
            (figures.ntpot_seconds_p50, figures.ntpot_seconds_p99),
        )
        texts = (f"{milliseconds(p50)} / {milliseconds(p99)}" for p50, p99 in pairs)
        table.add_row(one.picker, *texts, style=_style(result, one.picker))
    return table


def differences_table(result: DemoResult) -> Table:
    """Return the mean QoS of the reference rule less that of each other one, paired."""
    reference = REFERENCE if REFERENCE in result.runs else result.comparison.best
    of_reference = result.runs[reference]
    table = _table(f"{reference} less", "mean QoS (95 %)", "relative")
    for picker in result.comparison.ranking:
        if picker != reference:
            paired = paired_difference([(of_reference.seed, of_reference.qos, result.runs[picker].qos)])
            known = result.runs[picker].figures.mean_qos >= _LEAST_COMPARED_QOS
            table.add_row(picker, difference(paired), percent(paired.relative) if known else MISSING)
    return table


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index else "left", no_wrap=True)
    return table


def _style(result: DemoResult, picker: str) -> str:
    return "bold green" if picker == result.comparison.best else ""
