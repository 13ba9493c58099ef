"""`pointsman predictor fit` and `report`: fitting, tables for the terminal, and the report's file."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pointsman_operator.cli.bench_sim import make_folder
from pointsman_policy.errors import DocumentError
from pointsman_policy.evaluation.bench import write_text
from pointsman_policy.evaluation.predictor_skill import ModelSkill, mean_skill, measure_skill
from pointsman_policy.evaluation.predictor_worth import (
    ADMISSIONS,
    CONSTANTS,
    LOADS,
    PICKER,
    VARIANTS,
    Worth,
    WorthPlan,
    WorthRun,
    default_experts,
    run_worth,
    summarise,
    worth_run_count,
    worth_scenario,
)
from pointsman_policy.evaluation.table import MISSING, number, percent
from pointsman_policy.prediction.fitted import Fit, FittedPredictor
from pointsman_policy.prediction.fitting import fit_predictor
from pointsman_policy.prediction.hashed_ngrams import HashedNgrams
from pointsman_policy.prediction.stored import write_predictor
from pointsman_policy.simulator.tables import ScoreTable, read_score_table


def fit_and_write(scores: Path, prompts: Path, out: Path, seed: int, console: Console) -> None:
    """Fit on every prompt of a table, write the predictor and show what each model's predictions rest on.

    Raises:
        DocumentError: If a file is unusable, or `out` cannot be written to.
    """
    table = read_score_table(scores, prompts)
    predictor = _fit(table, seed)
    training = {
        "scores": scores.name,
        "prompts": prompts.name,
        "command": f"pointsman predictor fit --scores {scores.name} --prompts {prompts.name} --seed {seed}",
    }
    write_predictor(out, predictor, training)
    console.print(_fits_table(predictor))
    console.print(f"Written: {out}", markup=False, highlight=False, soft_wrap=True)


def report_predictor(plan: WorthPlan, out: Path, console: Console) -> None:
    """Fit on part of a table; measure on the rest, and simulate; print tables and write `report.json`.

    Args:
        plan: Without experts, the defaults are taken.
        out: Folder; made if needed.
        console: Where to print.

    Raises:
        DocumentError: If a file, a model or an option is wrong, or `out` cannot be written to.
    """
    make_folder(out)
    table = read_score_table(plan.scores, plan.prompts)
    if not plan.experts:
        plan = replace(plan, experts=default_experts(table))
    with_lengths = not np.isnan(table.out_tokens).all()
    scenario = worth_scenario(plan, with_lengths)
    rng = np.random.default_rng(plan.split_seed)
    fit_rows, unseen_rows = table.split(rng, plan.fit_percent / 100)
    fitted, unseen = table.take(fit_rows), table.take(unseen_rows)
    skills = measure_skill(_fit(fitted, plan.split_seed), fitted, unseen)
    console.print(f"Fitted on {len(fitted)} prompts; what follows is of {len(unseen)} others.", highlight=False)
    console.print(_quality_table(skills))
    if with_lengths:
        console.print(_lengths_table(skills))

    runs = _collect(run_worth(scenario, plan.seeds), worth_run_count(plan.seeds), console)
    worths = summarise(runs)
    for admission in ADMISSIONS:
        console.print(_worth_table(admission, [one for one in worths if one.admission == admission], plan))
    if not with_lengths:
        console.print("The table has no lengths: log-normal ones of mean 200, unrelated to the prompt, were taken.")
    write_text(out / "report.json", json.dumps(_document(plan, skills, worths), indent=1) + "\n")
    console.print(f"Written: {out / 'report.json'}", markup=False, highlight=False, soft_wrap=True)


def _fit(table: ScoreTable, seed: int) -> FittedPredictor:
    if table.prompts is None:
        raise DocumentError(table.source, "has no prompts to predict from; give them with --prompts")
    rng = np.random.default_rng(seed)
    encoder = HashedNgrams()
    return fit_predictor(table.models, table.prompts, table.score, table.out_tokens, encoder, rng).predictor


def _collect(runs: Iterator[WorthRun], count: int, console: Console) -> list[WorthRun]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        return list(progress.track(runs, total=count, description="simulating"))


def _table(title: str, first: str, columns: Sequence[str]) -> Table:
    table = Table(
        title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column(first, min_width=22, no_wrap=True, overflow="ellipsis")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _fits_table(predictor: FittedPredictor) -> Table:
    columns = ("Answers", "Quality", "Mean", "Explained", "Lengths", "Length", "Mean", "Explained")
    table = _table("What predictions rest on (explained: of the variance over unseen prompts)", "Model", columns)
    for fit in predictor.fits:
        table.add_row(Text(fit.model), *_fit_cells(fit.quality, 2), *_fit_cells(fit.length, 0))
    return table


def _fit_cells(fit: Fit, digits: int) -> tuple[str, ...]:
    explained = percent(fit.explained, 0) if fit.status == "fitted" else MISSING
    return str(fit.rows), fit.status, number(fit.mean, digits), explained


def _quality_table(skills: Sequence[ModelSkill]) -> Table:
    names = ("rank_correlation", "auc", "calibration_error", "slope", "error", "absolute_error", "mean_absolute_error")
    columns = ("Rank corr.", "AUC", "ECE", "Slope", "MSE ratio", "MAE", "mean's")
    return _skill_table("Quality", columns, names, [(one.model, one.quality) for one in skills])


def _lengths_table(skills: Sequence[ModelSkill]) -> Table:
    names = ("rank_correlation", "log_error", "mean_log_error", "bias", "error")
    columns = ("Rank corr.", "Log error", "mean's", "Bias", "MSE ratio")
    return _skill_table("Output length", columns, names, [(one.model, one.length) for one in skills])


def _skill_table(title: str, columns: Sequence[str], names: Sequence[str], rows: Sequence[tuple[str, Any]]) -> Table:
    table = _table(
        f"{title} on unseen prompts (mean's, ratio: against the model's mean)", "Model", ("Answers", *columns)
    )
    known = [(model, skill) for model, skill in rows if skill is not None]
    for model, skill in known:
        table.add_row(Text(model), str(skill.rows), *(number(getattr(skill, name)) for name in names))
    means = (number(mean_skill([skill for _, skill in known], name)) for name in names)
    table.add_row("mean of models", "", *means, style="bold")
    return table


def _worth_table(admission: str, worths: Sequence[Worth], plan: WorthPlan) -> Table:
    title = f"Admission {admission}: mean QoS of {PICKER} on {', '.join(plan.experts)}, against {CONSTANTS}"
    table = _table(title, "What it is told", [f"load {load:g}" for load in LOADS])
    for variant in VARIANTS:
        of_variant = {one.load: one for one in worths if one.variant == variant}
        table.add_row(variant, *(_worth_cell(of_variant[load]) for load in LOADS))
    return table


def _worth_cell(worth: Worth) -> str:
    if worth.difference is None:
        return number(worth.qos.mean)
    interval = worth.difference.interval
    scale = worth.difference.relative / interval.mean if interval.mean else 0.0
    reach = f" ± {100 * scale * (interval.high - interval.mean):.1f}" if math.isfinite(interval.high) else ""
    return f"{100 * worth.difference.relative:+.1f}{reach} %"


def _document(plan: WorthPlan, skills: Sequence[ModelSkill], worths: Sequence[Worth]) -> dict[str, Any]:
    return {
        "meta": {
            "schema": 1,
            "scores": plan.scores.name,
            "prompts": plan.prompts.name,
            "experts": plan.experts,
            "gpu": plan.gpu,
            "requests": plan.requests,
            "fit_percent": plan.fit_percent,
            "split_seed": plan.split_seed,
            "seeds": plan.seeds,
            "picker": PICKER,
        },
        "skill": [_finite(asdict(one)) for one in skills],
        "worth": [_finite(asdict(one)) for one in worths],
    }


def _finite(value: Any) -> Any:
    """Return a value for JSON: what is not known becomes null."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
