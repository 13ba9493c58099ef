"""`pointsman bench sim`: compare rules offline, in the simulator, and report."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pointsman_policy.errors import DocumentError
from pointsman_policy.evaluation.bench import (
    BenchPlan,
    BenchRun,
    compare_runs,
    find_pickers,
    run_bench,
    write_results,
    write_text,
)
from pointsman_policy.evaluation.comparison import Comparison
from pointsman_policy.evaluation.report import comparison_report, finding
from pointsman_policy.evaluation.table import figures_table
from pointsman_policy.pickers.registry import PICKERS, with_trained
from pointsman_policy.simulator.scenario import read_scenario


def bench_sim(
    scenarios: list[Path],
    pickers: list[str],
    seeds: list[int],
    out: Path,
    console: Console,
    trained: Sequence[Path] = (),
) -> bool:
    """Run every scenario at its loads with every seed under every rule; print and write what came out.

    Stopping it (Ctrl-C) keeps the runs that are finished.

    Args:
        scenarios: Scenario files, at least one.
        pickers: Names, at least one.
        seeds: Non-negative, each counts once; three or more give the better intervals.
        out: Folder for `results.json` and `report.html`; made if needed.
        console: Where to print.
        trained: Folders of exported policies, which are compared too, in place of the packaged pickers of their names.

    Returns:
        False if it was stopped before its end.

    Raises:
        DocumentError: If a scenario, a name or a seed is wrong, or `out` cannot be written to; nothing has run then.
    """
    plan = _plan(scenarios, pickers, seeds, trained)
    make_folder(out)
    runs: list[BenchRun] = []
    complete = _collect(plan, runs, console)
    write_results(out / "results.json", runs, complete)
    comparisons = compare_runs(runs)
    write_text(out / "report.html", comparison_report("Pointsman: bench sim", _notes(plan, complete), comparisons))
    _show(comparisons, console)
    console.print(f"{len(runs)} of {len(plan)} runs: {out / 'results.json'}, {out / 'report.html'}", soft_wrap=True)
    return complete


def _plan(scenarios: Sequence[Path], names: Sequence[str], seeds: Sequence[int], trained: Sequence[Path]) -> BenchPlan:
    if not scenarios:
        raise DocumentError("--scenario", "no scenario is given; name at least one scenario file")
    if not seeds or min(seeds) < 0:
        raise DocumentError("--seeds", "must be one or more integers of at least 0, such as 1,2,3")
    pickers = with_trained(trained)
    compared = [*names, *(name for name, picker in pickers.items() if picker is not PICKERS[name])]
    return BenchPlan(
        scenarios=tuple(map(read_scenario, scenarios)),
        pickers=find_pickers(compared, pickers),
        seeds=tuple(dict.fromkeys(seeds)),
    )


def make_folder(out: Path) -> None:
    """Make the folder for a benchmark's files.

    Raises:
        DocumentError: If it cannot be made or written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise DocumentError(
            str(out), f"cannot be written to ({error.strerror}); choose another folder with --out"
        ) from error


def _collect(plan: BenchPlan, runs: list[BenchRun], console: Console) -> bool:
    """Add every finished run to `runs`; tell whether all were."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("compiling the simulator", total=len(plan))
        try:
            for run in run_bench(plan):
                runs.append(run)
                where = f"{run.scenario.name}, load {run.load:g}, seed {run.rule.seed}"
                progress.update(task, advance=1, description=where.replace("[", r"\["))
        except KeyboardInterrupt:
            return False
    return True


def _notes(plan: BenchPlan, complete: bool) -> list[str]:
    seeds = ", ".join(map(str, plan.seeds))
    notes = [
        f"Simulated, not measured. Every rule met the same requests: {len(plan.scenarios)} scenario(s), each load with "
        f"seed(s) {seeds}. A load of 1 is what the fleet just carries within its per-token objective."
    ]
    if not complete:
        notes.append("Stopped before its end: only workloads that every rule has finished are shown.")
    return notes


def _show(comparisons: Sequence[Comparison], console: Console) -> None:
    for comparison in comparisons:
        for cell in comparison.cells:
            results = [(result.picker, result.figures) for result in cell.results]
            title = f"{comparison.title}, {cell.title}"
            console.print(figures_table(title, results, comparison.best, cell.differences))
        console.print(finding(comparison), markup=False, highlight=False)
        console.print()
