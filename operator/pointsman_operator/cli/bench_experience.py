"""`pointsman bench experience`: the store of outcomes under a year's worth of them."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pointsman_operator.cli.extras import needs_extra


def experience(
    rows: Annotated[int, typer.Option(min=1_000, max=1_000_000_000, help="Outcomes, spread over a year.")] = 10_000_000,
    root: Annotated[Path | None, typer.Option(help="Empty folder for them; default: a temporary one.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 1,
) -> None:
    """Write a year of outcomes, apply retention, and load a training set: time, bytes, memory."""
    with needs_extra("policy"):
        from pointsman_policy.evaluation.experience_bench import measure, table
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="pointsman-experience-") as made:
        steps, size = measure(root or Path(made), rows, seed, lambda what: console.print(f"{what} ...", style="dim"))
    console.print(table(steps, size))
