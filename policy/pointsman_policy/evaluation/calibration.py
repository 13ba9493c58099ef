"""How well calibration works: ``python -m pointsman_policy.evaluation.calibration`` prints a table.

Experts whose coefficients all differ by up to 30 % from the declared ones, or one of which is throttled on the way,
serve in the simulator. From what they served they are calibrated, as the policy service does it. Then fresh requests
come, and the router's own estimates of TTFT, TPOT and NTPOT are set against what happens: with declared, calibrated and
true coefficients. The last shows what no calibration can know: who comes later, and how far an iteration is. Between
trainings the router follows each expert's pace, one common factor of its coefficients; the first row is without that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from pointsman_policy.evaluation.table import percent
from pointsman_policy.latency.estimator import estimates
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.pickers.trained import load_picker
from pointsman_policy.runtime.exported import ARTEFACTS
from pointsman_policy.simulator.engine import COEFFICIENTS
from pointsman_policy.simulator.sample import data_folder
from pointsman_policy.simulator.scenario import resolve_scenario
from pointsman_policy.simulator.scenario_document import ScenarioDocument
from pointsman_policy.simulator.simulation import UNFORCED, Change, Run, record
from pointsman_policy.simulator.situation import (
    Situation,
    run_situation,
    situation_from_scenario,
    situation_outcomes,
)
from pointsman_policy.state import RoutingState
from pointsman_policy.twin.fitting import fit_expert
from pointsman_policy.twin.served import Served

Floats = npt.NDArray[np.float64]

BELIEFS = ("declared, pace not followed", "declared", "calibrated", "true")
_CALIBRATED = BELIEFS.index("calibrated")
TIMES = ("TTFT", "TPOT", "NTPOT")
_OFF = 0.3
_THROTTLED, _THROTTLED_PACE = 0, 1.6
_CHANGE_AT_OUTCOMES = 100
_QUALITY_PERCENT = {"gemma-2-2b": 55, "Llama-3.1-8B": 60, "gemma-2-9b": 62}
_SAMPLED_SHARE = 0.3


@dataclass(frozen=True)
class Case:
    """What is wrong with the declared coefficients, and how much there is to do."""

    name: str
    off: float
    """Each coefficient is declared wrong by up to so much, relative."""
    throttled: bool
    """One expert becomes slower on the way."""
    load: float


CASES = tuple(
    Case(name, off, throttled, load)
    for name, off, throttled in (
        ("each coefficient off by up to 30 %", _OFF, False),
        ("one expert becomes 1.6 times slower", 0.0, True),
        ("both", _OFF, True),
    )
    for load in (0.5, 0.8)
)


@dataclass(frozen=True)
class Errors:
    """Median relative errors of predictions, [beliefs, times], and on how many outcomes calibration rests."""

    case: Case
    error: Floats
    bias: Floats
    """Median of predicted over measured less 1, [beliefs, times]."""
    outcomes: tuple[int, ...]
    """Of each expert."""


def measure(case: Case, seeds: Sequence[int], outcomes: int = 300, requests: int = 4_500) -> Errors:
    """Calibrate and predict, for several seeds.

    Args:
        case: What is wrong.
        seeds: Of traffic and of what is declared; at least one.
        outcomes: Of each expert that calibration rests on: since it was throttled, for the one that was.
        requests: In all, enough for that; as many fresh ones are predicted.
    """
    picker = load_picker(ARTEFACTS / "impact-greedy")
    ratios: list[list[Floats]] = [[] for _ in BELIEFS]
    counts: tuple[int, ...] = ()
    for seed in seeds:
        before, after = _situations(case, seed, requests, picker)
        run = run_situation(before, picker, np.random.default_rng(seed))
        fitted, counts = _calibrated(before, run, case, outcomes)
        declared = before.fleet.believed_coefficients
        for place, believed in enumerate((declared, declared, fitted, after.fleet.coefficients)):
            fleet = replace(after.fleet, believed_coefficients=believed)
            ratios[place].append(_predicted_over_measured(replace(after, fleet=fleet), picker, seed, place > 0))
    joined = [np.concatenate(parts) for parts in ratios]
    return Errors(
        case=case,
        error=np.array([np.nanmedian(np.abs(part - 1.0), axis=0) for part in joined]),
        bias=np.array([np.nanmedian(part, axis=0) - 1.0 for part in joined]),
        outcomes=counts,
    )


def _situations(case: Case, seed: int, requests: int, picker: Picker) -> tuple[Situation, Situation]:
    """Return what experts are calibrated on, and what comes after it."""
    document = ScenarioDocument.model_validate(
        {
            "name": "calibration",
            "experts": [
                {"name": "small", "model": "gemma-2-2b", "gpu": "A10"},
                {"name": "middle", "model": "Llama-3.1-8B", "gpu": "L40S"},
                {"name": "large", "model": "gemma-2-9b", "gpu": "A100-SXM-80G"},
            ],
            "requests": requests,
            "quality": {"synthetic": {"meanPercent": _QUALITY_PERCENT, "spreadPercent": 20}},
            "lengths": {"prompt": {"kind": "lognormal"}, "output": {"kind": "lognormal"}},
            "loadFactors": [case.load],
        }
    )
    scenario = resolve_scenario(document, data_folder(), "calibration")
    first = situation_from_scenario(scenario, case.load, 2 * seed)
    second = situation_from_scenario(scenario, case.load, 2 * seed + 1)
    true = first.fleet.coefficients
    rng = np.random.default_rng(seed)
    declared = true / rng.uniform(1.0 - case.off, 1.0 + case.off, true.shape)
    first = replace(first, fleet=replace(first.fleet, believed_coefficients=declared))
    if not case.throttled:
        return first, second
    run = run_situation(first, picker, np.random.default_rng(seed))
    ends = np.sort(run.finished_at[(run.expert == _THROTTLED) & ~np.isnan(run.finished_at)])
    change = Change(float(ends[_CHANGE_AT_OUTCOMES]), _THROTTLED, "pace", _THROTTLED_PACE)
    slower = np.where(np.arange(len(true)) == _THROTTLED, _THROTTLED_PACE, 1.0)[:, None]
    fleet = replace(second.fleet, coefficients=true * slower)
    return replace(first, changes=(change,)), replace(second, fleet=fleet)


def _calibrated(situation: Situation, run: Run, case: Case, outcomes: int) -> tuple[Floats, tuple[int, ...]]:
    """Return the coefficients of each expert after so many of its outcomes, and how many there were."""
    declared = situation.fleet.believed_coefficients
    fitted, counts = declared.copy(), []
    for expert in range(len(declared)):
        wanted = outcomes
        if case.throttled and expert == _THROTTLED:
            wanted += _CHANGE_AT_OUTCOMES
        served = _served(situation, run, expert, wanted)
        fit = fit_expert(served, declared[expert])
        if fit is not None:
            fitted[expert] = fit.coefficients
        counts.append(len(served))
    return fitted, tuple(counts)


def _served(situation: Situation, run: Run, expert: int, outcomes: int) -> Served:
    """Return what an expert had served by its so-manieth outcome."""
    rows = np.flatnonzero((run.expert == expert) & ~np.isnan(run.finished_at))
    rows = rows[np.argsort(run.finished_at[rows], kind="stable")][:outcomes]
    rows = np.sort(rows)
    requests = situation.requests
    return Served(
        requests.arrival_at[rows],
        run.first_token_at[rows],
        run.finished_at[rows],
        requests.prompt_tokens[rows].astype(np.float64),
        requests.output_tokens[rows, expert].astype(np.float64),
        np.ones(len(rows), np.bool_),
    )


def _predicted_over_measured(situation: Situation, picker: Picker, seed: int, paced: bool) -> Floats:
    """Return what was predicted of requests on the experts that served them over what happened, [rows, times].

    Args:
        situation: What to predict.
        picker: Routes.
        seed: Chooses the requests.
        paced: With the pace that the router observes, as it does; otherwise as if it did not.
    """
    rng = np.random.default_rng(seed)
    sampled = rng.random(len(situation)) < _SAMPLED_SHARE
    recording = record(
        situation.fleet,
        situation.requests,
        picker,
        rng,
        situation.visibility,
        situation.admission,
        situation.changes,
        sampled,
        np.full(len(situation), UNFORCED),
    )
    happened = situation_outcomes(situation, recording.run)
    measured = np.stack([happened.ttft_seconds(), happened.tpot_seconds(), happened.ntpot_seconds()], axis=1)
    expert = recording.run.expert[recording.rows]
    if not paced:
        for name in COEFFICIENTS:
            recording.states.expert[name] /= recording.states.expert["pace_ratio"]
    predicted = np.empty((len(expert), len(TIMES)))
    for row, chosen in enumerate(expert):
        one = estimates(RoutingState(*(array[row] for array in recording.states)))[chosen]
        predicted[row] = one["ttft_seconds"], one["tpot_seconds"], one["ntpot_seconds"]
    return np.asarray(predicted / measured[recording.rows])


def calibration_table(results: Sequence[Errors]) -> Table:
    """Return measured errors as a table."""
    table = Table(title="Predicted against measured, median relative error (bias), on fresh requests")
    for heading in ("What is wrong", "Load", "Beliefs", *TIMES, "Outcomes"):
        table.add_column(heading, justify="left" if heading in ("What is wrong", "Beliefs") else "right")
    for result in results:
        for place, belief in enumerate(BELIEFS):
            cells = [
                f"{percent(result.error[place, time])} ({result.bias[place, time]:+.0%})" for time in range(len(TIMES))
            ]
            counts = " ".join(map(str, result.outcomes)) if place == _CALIBRATED else ""
            first = (result.case.name, f"{result.case.load:g}") if place == 0 else ("", "")
            table.add_row(*first, belief, *cells, counts, end_section=place == len(BELIEFS) - 1)
    return table


def print_calibration(console: Console) -> None:
    """Measure every case and print the table."""
    results = [measure(case, seeds=(1, 2)) for case in CASES]
    console.print(calibration_table(results))
    for column, time in enumerate(TIMES):
        worst = max(float(result.error[_CALIBRATED, column]) for result in results)
        more = max(float(result.error[_CALIBRATED, column] - result.error[-1, column]) for result in results)
        console.print(f"{time}: at most {percent(worst)}, at most {percent(more)} more than with the truth")


if __name__ == "__main__":
    print_calibration(Console(width=120))
