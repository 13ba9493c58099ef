"""`pointsman bench paper`: the paper's experiment, printed as tables and written as a report with figures."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pointsman_operator.cli.bench_sim import make_folder
from pointsman_policy.errors import DocumentError
from pointsman_policy.evaluation.bench import BenchRun, compare_runs, write_results, write_text
from pointsman_policy.evaluation.paper import PAPER, Margin, PaperAgent, PaperPlan, margins, run_paper, standings
from pointsman_policy.evaluation.paper_agents import draw_agents_curves, read_agents, train_agent, trainings
from pointsman_policy.evaluation.paper_figures import draw_standings
from pointsman_policy.evaluation.paper_sample import write_sample
from pointsman_policy.evaluation.paper_scenarios import PaperData, for_evaluation, paper_scenarios
from pointsman_policy.evaluation.report import comparison_report
from pointsman_policy.evaluation.table import number, percent
from pointsman_policy.learning.paper import Trial
from pointsman_policy.simulator.scenario import Scenario

SAMPLE = "synthetic-mix-instruct.jsonl"


@dataclass(frozen=True)
class PaperOptions:
    """What the command was asked for."""

    mix_instruct: Path | None
    scores: Path | None
    prompts: Path | None
    trace: Path | None
    profiles: Path | None
    agents: tuple[Path, ...]
    """Folders of trained agents."""
    train_minutes: float
    """Per agent, where none are given; 0 = compare the rules alone."""
    seeds: tuple[int, ...]
    """Of the workloads, and of the training where agents are trained here."""
    loads: tuple[float, ...]
    requests: int
    """In each run."""
    out: Path


def bench_paper(options: PaperOptions, console: Console) -> bool:
    """Run the experiment; print and write what came out.

    Stopping it (Ctrl-C) keeps the runs that are finished.

    Returns:
        False if it was stopped before its end.

    Raises:
        DocumentError: If an option or a file is wrong, or `out` cannot be written to; nothing has run then.
    """
    _check(options)
    make_folder(options.out)
    data = _data(options)
    scenarios = paper_scenarios(data, options.loads, options.requests)
    agents = _agents(options, scenarios, console)
    plan = PaperPlan(tuple(map(for_evaluation, scenarios)), agents, options.seeds)
    runs: list[BenchRun] = []
    complete = _collect(plan, runs, console)
    if not runs:
        console.print("stopped before the first run was finished; nothing is written")
        return complete
    _write(plan, runs, _notes(options, plan, complete), complete, options.out)
    for scenario in dict.fromkeys(run.scenario.name for run in runs):
        console.print(_standings_table(plan, runs, scenario))
    found = margins(plan, runs)
    if found:
        console.print(_margins_table(found))
    console.print(
        f"{len(runs)} of {len(plan)} runs: {options.out / 'report.html'}, {options.out / 'results.json'}",
        soft_wrap=True,
    )
    return complete


def _check(options: PaperOptions) -> None:
    if not options.seeds or min(options.seeds) < 0:
        raise DocumentError("--seeds", "must be one or more integers of at least 0, such as 1,2,3")
    if not options.loads or min(options.loads) <= 0:
        raise DocumentError("--loads", "must be one or more numbers above 0, such as 0.5,0.8,1.1")
    if options.agents and options.train_minutes > 0:
        raise DocumentError("--train-minutes", "does not go with --agent; give trained agents or train some here")


def _data(options: PaperOptions) -> PaperData:
    mix_instruct = options.mix_instruct
    if mix_instruct is None and options.scores is None:
        mix_instruct = options.out / SAMPLE
        write_sample(mix_instruct)
    return PaperData(mix_instruct, options.scores, options.prompts, options.trace, options.profiles)


def _agents(options: PaperOptions, scenarios: Sequence[Scenario], console: Console) -> tuple[PaperAgent, ...]:
    if options.agents:
        return read_agents(options.agents)
    if options.train_minutes <= 0:
        return ()
    return _train(options, scenarios, console)


def _train(options: PaperOptions, scenarios: Sequence[Scenario], console: Console) -> tuple[PaperAgent, ...]:
    agents, out = [], options.out / "agents"
    planned = trainings(scenarios, options.seeds)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("training", total=len(planned) * options.train_minutes)
        for training in planned:
            agents.append(train_agent(training, scenarios, out, _clock(options.train_minutes, progress, task)))
            progress.update(task, description=f"trained {training.name}")
    draw_agents_curves([out / training.folder for training in planned], options.out)
    return tuple(agents)


def _clock(minutes: float, progress: Progress, task: TaskID) -> Callable[[Trial], bool]:
    """Return what lets a training go on for some minutes and tells how it does."""
    before, started = progress.tasks[0].completed, time.monotonic()

    def goes_on(trial: Trial) -> bool:
        passed = min((time.monotonic() - started) / 60, minutes)
        line = f"training, mean QoS on validation situations {trial.best:.3f}"
        progress.update(task, completed=before + passed, description=line)
        return passed < minutes

    return goes_on


def _collect(plan: PaperPlan, runs: list[BenchRun], console: Console) -> bool:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("compiling the simulator", total=len(plan))
        try:
            for run in run_paper(plan):
                runs.append(run)
                where = f"{run.scenario.name}, load {run.load:g}, seed {run.rule.seed}"
                progress.update(task, advance=1, description=where)
        except KeyboardInterrupt:
            return False
    return True


def _notes(options: PaperOptions, plan: PaperPlan, complete: bool) -> list[str]:
    seeds = ", ".join(map(str, plan.seeds))
    origin = "a score table"
    if options.mix_instruct is not None:
        origin = "mix-instruct"
    elif options.scores is None:
        origin = "a synthetic set in the form of mix-instruct, made for want of the paper's"
    notes = [
        f"Simulated, not measured. Requests: {origin}; recorded arrivals: "
        f"{'the packaged, synthetic trace' if options.trace is None else options.trace.name}. Workload seeds {seeds}. "
        "A load of 1 is what the fleet just carries within 30 ms per token.",
    ]
    if not complete:
        notes.append("Stopped before its end: only workloads that every rule has finished are shown.")
    return notes


def _write(plan: PaperPlan, runs: Sequence[BenchRun], notes: Sequence[str], complete: bool, out: Path) -> None:
    write_results(out / "results.json", runs, complete)
    comparisons = compare_runs(runs)
    write_text(out / "report.html", comparison_report("Pointsman: the paper's experiment", notes, comparisons))
    draw_standings(out / "qos.png", plan, runs)


def _standings_table(plan: PaperPlan, runs: Sequence[BenchRun], scenario: str) -> Table:
    table = Table(title=Text(scenario), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    loads = sorted({run.load for run in runs if run.scenario.name == scenario})
    table.add_column("Rule", no_wrap=True)
    for heading in (*(f"load {load:g}" for load in loads), "Mean QoS", "of seeds", "QoS per busy s", "Dropped"):
        table.add_column(heading, justify="right")
    by_load = [{one.kind: one for one in standings(plan, runs, scenario, load)} for load in loads]
    for one in standings(plan, runs, scenario):
        spread = f"{number(one.least)} to {number(one.greatest)}" if one.agents > 1 else ""
        cells = (number(cell[one.kind].qos) if one.kind in cell else "" for cell in by_load)
        figures = (number(one.qos), spread, number(one.efficiency, 2), percent(one.drop_ratio))
        style = "bold green" if one.kind == PAPER else ""
        table.add_row(*map(Text, (one.kind, *cells, *figures)), style=style)
    return table


def _margins_table(found: Sequence[Margin]) -> Table:
    title = f"Mean QoS of the worst seed of the {PAPER} less that of the best seed of another"
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    others = list(dict.fromkeys(margin.other for margin in found))
    for heading in ("Scenario", "Load", *others):
        table.add_column(heading, justify="left" if heading == "Scenario" else "right")
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for margin in found:
        load = "all" if math.isnan(margin.load) else f"{margin.load:g}"
        rows.setdefault((margin.scenario, load), {})[margin.other] = margin.worst
    for (scenario, load), worst in rows.items():
        cells = [_signed(worst[other]) if other in worst else Text() for other in others]
        table.add_row(scenario, load, *cells, end_section=load == "all")
    return table


def _signed(value: float) -> Text:
    return Text(f"{value:+.3f}", style="green" if value > 0 else "bold red")
