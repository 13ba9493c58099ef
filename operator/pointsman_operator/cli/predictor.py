"""`pointsman predictor`: fit predictors of quality and output length, and tell what they are worth."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pointsman_operator.cli.extras import needs_extra

app = typer.Typer(help="Predict quality and output length from the prompt: fit, and report.", no_args_is_help=True)

_SEEDS = [1, 2, 3, 4, 5]

Scores = Annotated[Path, typer.Option(help="Score table, or outcomes in its columns: parquet, CSV or JSONL.")]
Prompts = Annotated[Path, typer.Option(help="Their prompts.")]


@app.command("fit")
def fit(
    scores: Scores,
    prompts: Prompts,
    out: Annotated[Path, typer.Option(help="Folder for manifest.json and weights.safetensors.")],
    seed: Annotated[int, typer.Option(min=0, help="Of folds, and of what is drawn where there is too much.")] = 0,
) -> None:
    """Fit a predictor on all of a score table, for `pointsman router --predictor`."""
    with needs_extra("policy"):
        from pointsman_operator.cli.predictor_report import fit_and_write
    fit_and_write(scores, prompts, out, seed, Console())


@app.command("report")
def report(
    scores: Scores,
    prompts: Prompts,
    expert: Annotated[
        list[str] | None,
        typer.Option(help="Model to simulate; may be repeated; default: three of the table's of up to 15B."),
    ] = None,
    gpu: Annotated[str, typer.Option(help="GPU of every simulated expert.")] = "A100-SXM-80G",
    profiles: Annotated[Path | None, typer.Option(help="Profiles file; default: estimates from data sheets.")] = None,
    fit_percent: Annotated[int, typer.Option(min=1, max=99, help="Share of prompts to fit on.")] = 50,
    split_seed: Annotated[int, typer.Option(min=0, help="Which prompts those are.")] = 0,
    requests: Annotated[int, typer.Option(min=1, help="Requests in one simulated run.")] = 6_000,
    seed: Annotated[list[int], typer.Option(min=0, help="Of a simulated run; may be repeated.")] = _SEEDS,
    out: Annotated[Path, typer.Option(help="Folder for report.json.")] = Path("out/predictor"),
) -> None:
    """Tell how good predictions of unseen prompts are, and what they are worth in mean QoS, against models' means."""
    with needs_extra("policy"):
        from pointsman_operator.cli.predictor_report import report_predictor
        from pointsman_policy.evaluation.predictor_worth import WorthPlan
    plan = WorthPlan(
        scores=scores,
        prompts=prompts,
        experts=tuple(expert or ()),
        gpu=gpu,
        profiles=profiles,
        requests=requests,
        fit_percent=fit_percent,
        split_seed=split_seed,
        seeds=tuple(dict.fromkeys(seed)),
    )
    report_predictor(plan, out, Console())
