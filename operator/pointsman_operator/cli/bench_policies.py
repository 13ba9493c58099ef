"""`pointsman bench policies`: all rules and policies on a suite of scenarios that tell them apart."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pointsman_operator.cli.bench_sim import make_folder
from pointsman_policy.errors import DocumentError
from pointsman_policy.evaluation.contestants import SUBJECTS, line_up
from pointsman_policy.evaluation.materials import measured, packaged
from pointsman_policy.evaluation.policies import SuitePlan, SuiteRun, default_processes, run_suite
from pointsman_policy.evaluation.preparation import prepare
from pointsman_policy.evaluation.standings import standings
from pointsman_policy.evaluation.suite import SuiteScenario, suite
from pointsman_policy.evaluation.suite_grids import DETAIL, Grid, suite_grids
from pointsman_policy.evaluation.suite_report import write_suite
from pointsman_policy.evaluation.targets import check_targets
from pointsman_policy.evaluation.tuning import TunedRules, read_tuned, tune_rules, write_tuned
from pointsman_policy.learning.scoring import scorer
from pointsman_policy.learning.search import SearchSettings
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.pickers.trained import load_picker
from pointsman_policy.simulator.randomisation import Distribution

_ROOM_FOR_DETAILS = 130
_STYLES = {"better": "green", "worse": "bold red", "": ""}


@dataclass(frozen=True)
class PoliciesOptions:
    """What the command was asked for."""

    data: Path | None
    """Folder of measured data; None = the packaged sample."""
    scenarios: tuple[str, ...]
    """Names or families to run; empty = all."""
    seeds: tuple[int, ...]
    requests: int
    """In each run."""
    tuned_peers: Path | None
    """File of tuned parameters."""
    trained: tuple[str, ...]
    """NAME=FOLDER of exported policies that run too."""
    tune_minutes: float
    """Time to tune each rule before the suite; 0 = do not."""
    processes: int
    """0 = one for each processor."""
    out: Path


def bench_policies(options: PoliciesOptions, console: Console) -> bool:
    """Run the suite; print and write what came out.

    Stopping it (Ctrl-C) keeps the workloads that are finished.

    Returns:
        False if it was stopped before its end.

    Raises:
        DocumentError: If an option or a file is wrong, or `out` cannot be written to; nothing has run then.
    """
    materials = packaged() if options.data is None else measured(options.data)
    scenarios = _chosen(suite(materials, options.requests), options.scenarios)
    _check_seeds(options.seeds)
    make_folder(options.out)
    trained = _trained(options.trained)
    processes = options.processes or default_processes()
    tuned = _tuned(options, processes, console)
    contestants = line_up(None if tuned is None else tuned.parameters, trained)
    with console.status("reading scenarios, fitting predictors"):
        prepared = prepare(scenarios, materials.folder)
    plan = SuitePlan(scenarios, prepared, contestants, tuple(dict.fromkeys(options.seeds)))
    runs: list[SuiteRun] = []
    complete = _collect(plan, runs, processes, console)
    if not runs:
        console.print("stopped before the first workload was finished; nothing is written")
        return complete
    found = standings(plan, runs)
    targets = check_targets(found)
    for grid in suite_grids(found, targets):
        if not grid.wide:
            console.print(_grid_table(grid, console.width))
    meta: dict[str, str | int | bool] = {"complete": complete, "requests": options.requests, "data": _data(options)}
    notes = _notes(options, plan, complete, tuned)
    write_suite(options.out, "Pointsman: bench policies", notes, found, targets, meta)
    files = ", ".join(str(options.out / name) for name in ("results.json", "report.html", "tables.md"))
    count = len(found.workloads())
    console.print(f"{count} of {len(plan.workloads())} workloads: {files}", soft_wrap=True)
    return complete


def _chosen(scenarios: Sequence[SuiteScenario], names: Sequence[str]) -> tuple[SuiteScenario, ...]:
    known = {one.name for one in scenarios} | {one.family for one in scenarios}
    for name in names:
        if name not in known:
            choice = ", ".join(dict.fromkeys([*(one.family for one in scenarios), *(one.name for one in scenarios)]))
            raise DocumentError("--scenario", f"the suite has no family or scenario {name!r}; choose from: {choice}")
    return tuple(one for one in scenarios if not names or one.name in names or one.family in names)


def _check_seeds(seeds: Sequence[int]) -> None:
    if not seeds or min(seeds) < 0:
        raise DocumentError("--seeds", "must be one or more integers of at least 0, such as 1,2,3")


def _trained(options: Sequence[str]) -> dict[str, Picker]:
    """Return the pickers of NAME=FOLDER options by name."""
    trained: dict[str, Picker] = {}
    taken = {one.name for one in line_up()} - set(SUBJECTS)
    for option in options:
        name, equals, folder = option.partition("=")
        if not (name and equals and folder):
            raise DocumentError("--trained-policy", f"must be NAME=FOLDER, not {option!r}")
        if name in taken or name in trained:
            raise DocumentError("--trained-policy", f"the name {name!r} is taken; choose another one")
        trained[name] = load_picker(Path(folder))
    return trained


def _tuned(options: PoliciesOptions, processes: int, console: Console) -> TunedRules | None:
    if options.tune_minutes > 0 and options.tuned_peers is not None:
        raise DocumentError("--tune-minutes", "tunes anew; leave it or --tuned-peers away")
    if options.tuned_peers is not None:
        return read_tuned(options.tuned_peers)
    if options.tune_minutes <= 0:
        return None
    with scorer(processes) as runner, console.status("tuning") as status:
        tuned = tune_rules(
            SearchSettings(),
            Distribution(),
            runner,
            options.tune_minutes,
            time.monotonic,
            lambda name: status.update(f"tuning {name} for {options.tune_minutes:g} minutes"),
        )
    write_tuned(options.out / "tuned-peers.json", tuned)
    console.print(f"tuned parameters: {options.out / 'tuned-peers.json'}", soft_wrap=True)
    return tuned


def _collect(plan: SuitePlan, runs: list[SuiteRun], processes: int, console: Console) -> bool:
    """Add every finished run to `runs`; tell whether all were."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("compiling the simulator", total=len(plan.workloads()))
        try:
            with closing(run_suite(plan, processes)) as results:
                for of_workload in results:
                    runs += of_workload
                    scenario, load, seed = of_workload[0].workload
                    progress.update(task, advance=1, description=f"{scenario}, load {load:g}, seed {seed}")
        except KeyboardInterrupt:
            return False
    return True


def _data(options: PoliciesOptions) -> str:
    return "packaged sample" if options.data is None else "measured data"


def _notes(options: PoliciesOptions, plan: SuitePlan, complete: bool, tuned: TunedRules | None) -> list[str]:
    seeds = ", ".join(map(str, plan.seeds))
    notes = [
        f"Simulated, on the {_data(options)}: {len(plan.scenarios)} scenarios, {options.requests:,} requests a run, "
        f"seeds {seeds}. All contestants met the same requests. A load of 1 is what the fleet just carries within its "
        "per-token objective. Ratios are of mean QoS over loads and seeds.",
        "Policies with true lengths, and clairvoyant ones, know what no router can; they show what is left to gain.",
    ]
    if tuned is not None:
        notes.append(
            f"Tuned rules: {tuned.minutes:g} minutes of search each, on made-up situations of seed {tuned.seed}, the "
            "same search that finds ImpactGreedy's own parameters."
        )
    if not complete:
        notes.append("Stopped before its end: only workloads that everybody has finished are shown.")
    return notes


def _grid_table(grid: Grid, width: int) -> Table:
    table = Table(title=Text(grid.title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    shown = [index for index, heading in enumerate(grid.headings) if heading != DETAIL or width >= _ROOM_FOR_DETAILS]
    for index in shown:
        table.add_column(grid.headings[index], justify="right" if index else "left")
    for row, mark in zip(grid.rows, grid.marks, strict=True):
        table.add_row(*(Text(row[index]) for index in shown), style=_STYLES[mark])
    return table
