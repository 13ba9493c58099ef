"""`pointsman demo`: all rules side by side on real parts."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pointsman_operator.cli.extras import needs_extra
from pointsman_operator.demo.settings import DemoSettings

_DEFAULTS = DemoSettings(out=Path("out/demo"))
_PICKERS = list(_DEFAULTS.pickers)


def demo(
    scenario: Annotated[Path | None, typer.Option(help="Scenario document; default: the packaged one.")] = None,
    trace: Annotated[Path | None, typer.Option(help="Take the arrivals from this trace (CSV).")] = None,
    scores: Annotated[Path | None, typer.Option(help="Take quality and answer lengths from this table.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="The prompts of --scores.")] = None,
    load: Annotated[
        float | None, typer.Option(min=0.01, max=100, help="Arrival rate over the fleet's capacity.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="Length of the arrivals.")] = _DEFAULTS.seconds,
    requests: Annotated[int | None, typer.Option(min=1, help="Requests to each rule, instead of --seconds.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of requests, answers and tie-breaking.")] = _DEFAULTS.seed,
    picker: Annotated[list[str], typer.Option(help="A rule to compare; may be given several times.")] = _PICKERS,
    out: Annotated[Path, typer.Option(help="Folder for report, figures, configuration and logs.")] = _DEFAULTS.out,
    scrape: Annotated[bool, typer.Option("--scrape", help="Do without Prometheus.")] = False,
) -> None:
    """Send real requests through a real Envoy to emulated experts under several rules, and compare them."""
    with needs_extra("demo"):
        from pointsman_operator.demo.results import show
        from pointsman_operator.demo.run import run_until_stopped
    console = Console()
    settings = DemoSettings(
        out=out,
        pickers=tuple(dict.fromkeys(picker)),
        scenario=scenario,
        trace=trace,
        scores=scores,
        prompts=prompts,
        load=load,
        seconds=seconds,
        requests=requests,
        seed=seed,
        scrape=scrape,
    )
    result = run_until_stopped(settings, console)
    if result is None:
        console.print("Stopped; all parts have ended.")
        raise typer.Exit(130)
    show(result, console)
