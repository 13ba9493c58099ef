"""A scenario made ready: its files read, its experts' coefficients looked up, every cross-reference checked."""

from dataclasses import dataclass, replace
from pathlib import Path

from pointsman_policy.documents import parse, read_yaml
from pointsman_policy.errors import DocumentError
from pointsman_policy.latency.profiles import (
    IterationTimeCoefficients,
    ProfileSource,
    ProfileTable,
    read_profiles,
    resolve_profile,
)
from pointsman_policy.simulator.mix_instruct import read_mix_instruct
from pointsman_policy.simulator.scenario_document import Quality, ScenarioDocument, ScenarioExpert
from pointsman_policy.simulator.tables import ScoreTable, read_score_table
from pointsman_policy.simulator.traces import RateSeries, Trace, read_rates, read_trace


@dataclass(frozen=True, slots=True)
class SimulatedExpert:
    """One expert of the fleet: what it does and what is believed of it."""

    name: str
    model: str
    quality_model: str
    """Its column in the score table, or its key in `synthetic`."""
    gpu: str
    coefficients: IterationTimeCoefficients
    """True ones, speed included."""
    believed: IterationTimeCoefficients
    """What pickers go by."""
    kv_capacity_tokens: int
    maximum_running: int
    source: ProfileSource
    """Where the coefficients come from."""


@dataclass(frozen=True, slots=True, eq=False)
class Scenario:
    """A document with all that it refers to."""

    source: str
    document: ScenarioDocument
    experts: tuple[SimulatedExpert, ...]
    """[E], replicas one by one."""
    quality_models: tuple[str, ...]
    """The experts' distinct quality models, in order of appearance."""
    table: ScoreTable | None
    """Exactly those models; None if quality is synthetic."""
    trace: Trace | None
    rates: RateSeries | None = None
    """None = the made-up day, where arrivals are diurnal."""

    @property
    def name(self) -> str:
        """The scenario's name in reports."""
        return self.document.name

    @property
    def token_seconds_objective(self) -> float:
        """The tightest of the NTPOT and TPOT targets, seconds per token; 0 = none."""
        objectives = self.document.objectives
        targets = (
            objectives.normalized_time_per_output_token_milliseconds,
            objectives.time_per_output_token_milliseconds,
        )
        return min((target for target in targets if target > 0), default=0) * 1e-3


def read_scenario(path: Path) -> Scenario:
    """Read and check a scenario file and every file that it names.

    Raises:
        DocumentError: If any of them cannot be read or is wrong, or they do not fit together.
    """
    documents = read_yaml(path)
    if len(documents) != 1:
        raise DocumentError(str(path), f"must hold exactly one YAML document, found {len(documents)}")
    return resolve_scenario(parse(ScenarioDocument, documents[0], str(path)), path.parent, str(path))


def resolve_scenario(document: ScenarioDocument, folder: Path, source: str) -> Scenario:
    """Read what a scenario document names, relative to a folder.

    Raises:
        DocumentError: As `read_scenario`.
    """
    profiles = read_profiles(folder / document.profiles) if document.profiles is not None else None
    table = _read_table(document.quality, folder)
    experts = tuple(
        expert
        for index, entry in enumerate(document.experts)
        for expert in _resolve_expert(document, index, entry, profiles, table, source)
    )
    quality_models = tuple(dict.fromkeys(expert.quality_model for expert in experts))
    if table is not None:
        table = table.select(quality_models, with_lengths=document.lengths.output.kind == "fromScores")
    trace = read_trace(folder / document.arrivals.trace) if document.arrivals.trace is not None else None
    rates_file = document.arrivals.rates
    rates = read_rates(folder / rates_file, document.arrivals.rates_column) if rates_file is not None else None
    _check_predictions(document, table)
    return Scenario(source, document, experts, quality_models, table, trace, rates)


def _read_table(quality: Quality, folder: Path) -> ScoreTable | None:
    if quality.mix_instruct is not None:
        return read_mix_instruct(folder / quality.mix_instruct)
    if quality.scores is not None:
        return read_score_table(folder / quality.scores, folder / quality.prompts if quality.prompts else None)
    return None


def _resolve_expert(
    document: ScenarioDocument,
    index: int,
    entry: ScenarioExpert,
    profiles: ProfileTable | None,
    table: ScoreTable | None,
    source: str,
) -> list[SimulatedExpert]:
    profile = resolve_profile(entry.model, entry.gpu, entry.iteration_time, entry.kv_capacity_tokens, profiles)
    coefficients = profile.coefficients.scaled(1 / entry.speed)
    expert = SimulatedExpert(
        name=entry.name,
        model=entry.model,
        quality_model=_find_quality_model(document, index, entry, table, source),
        gpu=entry.gpu,
        coefficients=coefficients,
        believed=coefficients.scaled(document.belief_scale_percent / 100),
        kv_capacity_tokens=profile.kv_capacity_tokens,
        maximum_running=entry.maximum_running,
        source=profile.source,
    )
    return [replace(expert, name=name) for name in entry.replica_names()]


def _find_quality_model(
    document: ScenarioDocument, index: int, entry: ScenarioExpert, table: ScoreTable | None, source: str
) -> str:
    wanted = entry.quality_model or entry.model
    synthetic = document.quality.synthetic
    known = table.models if table is not None else tuple(synthetic.mean_percent if synthetic is not None else ())
    found = table.find_model(wanted) if table is not None else wanted if wanted in known else None
    if found is None:
        place = table.source if table is not None else "quality.synthetic.meanPercent"
        raise DocumentError(
            source,
            f"experts[{index}]: {place} has no model {wanted!r}; set qualityModel to one of "
            f"{', '.join(known[:40])}{' ...' if len(known) > 40 else ''}",
        )
    return found


def _check_predictions(document: ScenarioDocument, table: ScoreTable | None) -> None:
    if document.quality.predictor.kind != "fromTable" or table is None:
        return
    if table.predicted_score is None or table.predicted_out_tokens is None:
        raise DocumentError(
            table.source,
            "predictor.kind fromTable needs pred_score and pred_output_tokens for every answer; "
            "use another predictor or add them",
        )
