"""`pointsman bench learning` and `training-load`: what continuous learning regains, and what it costs meanwhile."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pointsman_operator.cli.extras import needs_extra


def bench_learning(
    out: Annotated[Path, typer.Option(help="Folder for figures, plot, configuration and logs.")] = Path(
        "out/bench-learning"
    ),
    before_seconds: Annotated[float, typer.Option(min=5, help="Until the change.")] = 30.0,
    outcomes_seconds: Annotated[float, typer.Option(min=5, help="From the change to the training.")] = 180.0,
    rollout_seconds: Annotated[float, typer.Option(min=5, help="Most from training to promotion.")] = 240.0,
    after_seconds: Annotated[float, typer.Option(min=5, help="Measured after that, at least.")] = 180.0,
    load: Annotated[float, typer.Option(min=0.01, max=10, help="Arrival rate over the fleet's capacity.")] = 0.6,
    judged_percent: Annotated[int, typer.Option(min=0, max=100, help="Share of the answers that are judged.")] = 50,
    training_minutes: Annotated[float, typer.Option(min=0, help="Budget of the training's search.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of requests, answers and ties.")] = 1,
) -> None:
    """Change a fleet in the middle of a run, and measure what a policy that learns regains of the loss."""
    with needs_extra("demo"), needs_extra("policy"):
        from pointsman_operator.demo.learning import LearningSettings, run_learning
        from pointsman_operator.demo.learning_results import show
    settings = LearningSettings(
        out=out,
        before_seconds=before_seconds,
        outcomes_seconds=outcomes_seconds,
        rollout_seconds=rollout_seconds,
        after_seconds=after_seconds,
        load=load,
        judged_percent=judged_percent,
        training_minutes=training_minutes,
        seed=seed,
    )
    console = Console()
    show(asyncio.run(run_learning(settings, console)), console)


def bench_training_load(
    out: Annotated[Path, typer.Option(help="Folder for configuration and logs.")] = Path("out/bench-training-load"),
    rate: Annotated[float, typer.Option(min=1, max=1_000, help="Requests per second.")] = 100.0,
    seconds: Annotated[float, typer.Option(min=1, help="Of each measurement.")] = 20.0,
    repetitions: Annotated[int, typer.Option(min=1, help="Measurements without and with a training.")] = 3,
) -> None:
    """Measure how long decisions take while a policy is trained on the same machine."""
    with needs_extra("policy"):
        from pointsman_operator.demo.training_load import TrainingLoadSettings, run_training_load, show
    settings = TrainingLoadSettings(out=out, rate=rate, seconds=seconds, repetitions=repetitions)
    console = Console()
    show(asyncio.run(run_training_load(settings, console)), console)
