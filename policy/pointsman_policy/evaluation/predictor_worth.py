"""What predictions are worth in mean QoS: the same requests in the simulator, with one or the other in view."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pointsman_policy.documents import parse
from pointsman_policy.errors import DocumentError
from pointsman_policy.evaluation.paired import (
    Batches,
    Interval,
    PairedDifference,
    batches,
    mean_interval,
    paired_difference,
)
from pointsman_policy.latency.datasheets import find_model
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.simulator.scenario import Scenario, resolve_scenario
from pointsman_policy.simulator.scenario_document import PredictorDocument, ScenarioDocument
from pointsman_policy.simulator.situation import Situation, run_situation, situation_from_scenario, situation_outcomes
from pointsman_policy.simulator.tables import ScoreTable

CONSTANTS = "per-model means"
VARIANTS = (
    CONSTANTS,
    "fitted",
    "fitted lengths only",
    "fitted quality only",
    "fitted quality, true lengths",
    "true quality and lengths",
)
"""What the picker is told."""
PICKER = "ImpactGreedy"
ADMISSIONS = ("ShedHopeless", "Never")
LOADS = (0.5, 0.9, 1.3)

_MOST_PARAMETERS = 15e9
_TIES = 1


@dataclass(frozen=True)
class WorthPlan:
    """What to simulate."""

    scores: Path
    prompts: Path
    experts: tuple[str, ...]
    """Models of the table."""
    gpu: str
    """Of all experts."""
    profiles: Path | None
    requests: int
    fit_percent: int
    split_seed: int
    seeds: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class WorthRun:
    """One run."""

    admission: str
    load: float
    seed: int
    variant: str
    qos: Batches


@dataclass(frozen=True)
class Worth:
    """One variant in one cell."""

    admission: str
    load: float
    variant: str
    qos: Interval
    """Of mean QoS."""
    difference: PairedDifference | None
    """From per-model means; None for these themselves."""


def default_experts(table: ScoreTable) -> tuple[str, ...]:
    """Return the table's smallest, middle and largest model of those known to have at most 15B parameters.

    Raises:
        DocumentError: If no model's size is known.
    """
    sizes = {model: find_model(model) for model in table.models}
    known = sorted(
        (size.parameters, model) for model, size in sizes.items() if size and size.parameters <= _MOST_PARAMETERS
    )
    if not known:
        raise DocumentError(table.source, "has no model of known size of up to 15B; choose experts with --expert")
    chosen = (known[0], known[len(known) // 2], known[-1])
    return tuple(dict.fromkeys(model for _, model in chosen))


def worth_scenario(plan: WorthPlan, with_lengths: bool) -> Scenario:
    """Return the scenario whose requests are simulated.

    Args:
        plan: What to simulate.
        with_lengths: Whether the table has output lengths; if not, they are drawn, unrelated to the prompt.

    Raises:
        DocumentError: If a file, a model or an option is wrong.
    """
    output = {} if with_lengths else {"output": {"kind": "lognormal", "meanTokens": 200, "coefficientOfVariation": 1}}
    document = {
        "name": "worth",
        "profiles": str(plan.profiles.resolve()) if plan.profiles is not None else None,
        "experts": [
            {"name": f"expert-{index}", "model": model, "gpu": plan.gpu} for index, model in enumerate(plan.experts)
        ],
        "requests": plan.requests,
        "lengths": output,
        "quality": {
            "scores": str(plan.scores.resolve()),
            "prompts": str(plan.prompts.resolve()),
            "fitPercent": plan.fit_percent,
            "splitSeed": plan.split_seed,
            "predictor": {"kind": "fitted"},
        },
    }
    source = "the report's scenario"
    return resolve_scenario(parse(ScenarioDocument, document, source), Path(), source)


def run_worth(scenario: Scenario, seeds: Sequence[int]) -> Iterator[WorthRun]:
    """Simulate every load and seed, with and without permission to drop, with each variant in view."""
    picker = PICKERS[PICKER]
    for load in LOADS:
        for seed in seeds:
            told = _variants(scenario, load, seed)
            for admission in ADMISSIONS:
                for variant, situation in told.items():
                    situation = replace(situation, admission=admission)
                    run = run_situation(situation, picker, np.random.default_rng((seed, _TIES)))
                    qos = situation_outcomes(situation, run).qos()
                    yield WorthRun(admission, load, seed, variant, batches(qos))


def worth_run_count(seeds: Sequence[int]) -> int:
    """Return how many runs `run_worth` makes."""
    return len(LOADS) * len(seeds) * len(ADMISSIONS) * len(VARIANTS)


def _variants(scenario: Scenario, load: float, seed: int) -> Mapping[str, Situation]:
    quality = scenario.document.quality
    means = quality.model_copy(update={"predictor": PredictorDocument(kind="modelMean")})
    fitted = situation_from_scenario(scenario, load, seed)
    constant = situation_from_scenario(
        replace(scenario, document=scenario.document.model_copy(update={"quality": means})), load, seed
    )
    mean_quality, mean_tokens = constant.requests.predicted_quality, constant.requests.predicted_output_tokens
    quality_of, tokens_of = fitted.requests.predicted_quality, fitted.requests.predicted_output_tokens
    true_quality, true_tokens = fitted.quality.astype(np.float32), fitted.requests.output_tokens.astype(np.float32)
    told = (
        (mean_quality, mean_tokens),
        (quality_of, tokens_of),
        (mean_quality, tokens_of),
        (quality_of, mean_tokens),
        (quality_of, true_tokens),
        (true_quality, true_tokens),
    )
    return {name: _told(fitted, *values) for name, values in zip(VARIANTS, told, strict=True)}


def _told(situation: Situation, quality: npt.NDArray[np.float32], tokens: npt.NDArray[np.float32]) -> Situation:
    requests = situation.requests._replace(predicted_quality=quality, predicted_output_tokens=tokens)
    return replace(situation, requests=requests)


def summarise(runs: Sequence[WorthRun]) -> list[Worth]:
    """Return every variant's mean QoS by admission and load, and its paired difference from per-model means."""
    cells: dict[tuple[str, float], dict[str, list[WorthRun]]] = {}
    for run in sorted(runs, key=lambda run: (ADMISSIONS.index(run.admission), run.load)):
        cells.setdefault((run.admission, run.load), {}).setdefault(run.variant, []).append(run)
    return [
        Worth(
            *cell,
            variant,
            mean_interval([(run.seed, run.qos) for run in of_variant]),
            None if variant == CONSTANTS else _difference(of_variant, by_variant[CONSTANTS]),
        )
        for cell, by_variant in cells.items()
        for variant, of_variant in by_variant.items()
    ]


def _difference(runs: Sequence[WorthRun], constants: Sequence[WorthRun]) -> PairedDifference:
    return paired_difference([(run.seed, run.qos, other.qos) for run, other in zip(runs, constants, strict=True)])
