"""`pointsman train`: train a policy in the simulator and export it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from pointsman_operator.cli.extras import needs_extra


def train(
    agent: Annotated[
        str,
        typer.Option(
            help="What to train: impact-greedy, han (also han-without-graph, han-without-estimates) or paper."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the exported policy, checkpoints, logs and curves.")],
    scenario: Annotated[
        list[Path] | None,
        typer.Option(help="Scenario file to mix in, half and half with made-up situations; may be repeated."),
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop after so much work; default 10.")] = None,
    rounds: Annotated[
        int | None,
        typer.Option(min=0, help="Stop after so many rounds: then the same seed gives the same policy."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything drawn by chance.")] = 0,
    processes: Annotated[
        int | None, typer.Option(min=1, help="That work at once; default one a core. The result is the same.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that the folder holds.")] = False,
) -> None:
    """Train a policy in the simulator and export it; a run that was stopped goes on with --resume."""
    with needs_extra("policy"):
        from pointsman_operator.cli.bench_sim import make_folder
        from pointsman_policy.learning.agents import find_agent
        from pointsman_policy.learning.training import TrainingPlan, TrainingRun
    console = Console(highlight=False)
    if minutes is None and rounds is None:
        minutes = 10.0
    trainee = find_agent(agent)
    plan = TrainingPlan(agent, out, seed, minutes, rounds, tuple(scenario or ()), processes)
    plan.check_scenarios()
    make_folder(out)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[line]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(agent, total=1.0, line="starting")

        def show(share: float, line: str) -> None:
            bar.update(task, completed=share, line=line)

        try:
            with TrainingRun(plan, resume=resume, progress=show) as run:
                folder = trainee.train(run)
        except KeyboardInterrupt:
            bar.stop()
            console.print(f"stopped; go on with the same command and --resume (checkpoint in {out})", soft_wrap=True)
            raise typer.Exit(130) from None
    console.print(f"policy: {folder}", soft_wrap=True)
