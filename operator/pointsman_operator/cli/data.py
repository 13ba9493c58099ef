"""`pointsman data`: outcomes into a policy service's volume, out of it, and how many there are."""

import datetime
import time
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pointsman_operator.cli.extras import needs_extra

app = typer.Typer(help="Outcomes on a policy service's volume: import, export, count.", no_args_is_help=True)

Root = Annotated[Path, typer.Option(help="The --root of `pointsman policy`.")]
Policy = Annotated[str, typer.Argument(help='The RouterPolicy, "namespace/name".')]


@app.command("stats")
def stats(root: Root) -> None:
    """Show how many outcomes of each policy are in the store's parts, by version and arm."""
    with needs_extra("policy"):
        from pointsman_policy.experience.location import outcomes_catalogue, read_location
        from pointsman_policy.experience.stats import count_rows
    catalogue = outcomes_catalogue(read_location(root))
    problems = catalogue.find()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("Policy", "Version", "Arm"):
        table.add_column(heading, overflow="fold")
    for heading in ("Outcomes", "MiB", "Parts", "First", "Last"):
        table.add_column(heading, justify="right")
    for policy, one in count_rows(catalogue.listed()).items():
        span = (_day(one.first_at), _day(one.last_at))
        table.add_row(policy, "", "", f"{one.rows:,}", f"{one.bytes / 2**20:,.1f}", str(one.parts), *span)
        for (version, arm), rows in sorted(one.arms.items()):
            table.add_row("", version or "packaged", arm, f"{rows:,}")
    console = Console(highlight=False)
    console.print(table)
    _print_problems(console, problems)


@app.command("export")
def export(
    policy: Policy,
    out: Annotated[Path, typer.Argument(help="File to write, .parquet or .jsonl.")],
    root: Root,
) -> None:
    """Write a policy's outcomes into one file; the service may run meanwhile."""
    with needs_extra("policy"):
        from pointsman_policy.experience.exchange import export_outcomes
    count, problems = export_outcomes(root, policy, out)
    console = Console(highlight=False)
    console.print(f"{count:,} outcomes of {policy}: {out}", soft_wrap=True)
    _print_problems(console, problems)


@app.command("import")
def import_(
    policy: Policy,
    file: Annotated[
        Path, typer.Argument(help="File to read, .parquet or .jsonl, as `pointsman data export` writes it.")
    ],
    root: Root,
) -> None:
    """Take a file's outcomes into the store of a service that does not run; those known already are left out."""
    with needs_extra("policy"):
        from pointsman_policy.experience.exchange import import_outcomes
        from pointsman_policy.experience.location import read_location
        from pointsman_policy.experience.retention import Retention
        from pointsman_policy.experience.store import OutcomeStore
    for_ever = Retention(days=100 * 366, bytes=float("inf"))
    store = OutcomeStore(read_location(root), for_ever, time.time)
    try:
        new, total = import_outcomes(store, policy, file)
    finally:
        store.close()
    Console(highlight=False).print(f"{new:,} of {total:,} outcomes are new to {policy}")


def _print_problems(console: Console, problems: list[str]) -> None:
    for problem in problems:
        console.print(f"[red]left out:[/] {escape(problem)}", soft_wrap=True)


def _day(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d")
