"""The paper's experiment as scenarios: 3 and 6 experts, Poisson arrivals at several rates, and a recorded trace.

As in the paper a request may be dropped, and counts if its latency per token (NTPOT) is at most 30 ms. Unlike there,
the router sees load samples that are up to 1.1 s old, as routers do. One set of scenarios is for training and one for
evaluation: they share neither prompts nor the trace's requests.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pointsman_policy.documents import parse
from pointsman_policy.errors import DocumentError
from pointsman_policy.latency.datasheets import find_model
from pointsman_policy.simulator.answers import split_prompts
from pointsman_policy.simulator.mix_instruct import read_mix_instruct
from pointsman_policy.simulator.sample import trace_path
from pointsman_policy.simulator.scenario import Scenario, resolve_scenario
from pointsman_policy.simulator.scenario_document import ScenarioDocument
from pointsman_policy.simulator.tables import ScoreTable, read_score_table
from pointsman_policy.simulator.traces import Trace

EXPERTS = (3, 6)
LOADS = (0.5, 0.8, 1.1, 1.4)
REQUESTS = 5_000
"""Of an episode, as in the paper."""
_LATENCY_MILLISECONDS = 30
_LARGEST_MODEL = 15e9
_SMALL_MODEL = 5e9
_PAPER_MODELS = (
    # part of the name in mix-instruct, model in the data sheets, base milliseconds, factor of k1 and k2
    ("alpaca", "alpaca-native", 14.0, 1.0),
    ("chatglm", "chatglm-6b", 12.0, 0.85),
    ("mpt-7b-instruct", "mpt-7b", 16.0, 1.15),
    ("koala", "koala-7b", 15.0, 1.05),
    ("baize", "baize-7b", 13.0, 0.95),
    ("mpt-7b", "mpt-7b", 17.0, 1.2),
)
_PREFILL_MILLISECONDS = 0.072
"""The paper's k1, per prompt token."""
_CONTEXT_MILLISECONDS = 0.025
"""The paper's k2, per context token and iteration."""
_PAPER_GPU = "RTX4090"
"""Decides the KV cache's size only."""


@dataclass(frozen=True)
class PaperData:
    """Files of the experiment; either `mix_instruct` or `scores`."""

    mix_instruct: Path | None = None
    """The paper's data set, JSONL."""
    scores: Path | None = None
    """Score table."""
    prompts: Path | None = None
    """The prompts of `scores`."""
    trace: Path | None = None
    """Recorded arrivals; default: the packaged, synthetic trace."""
    profiles: Path | None = None
    """Fitted iteration times; default: estimated from data sheets."""

    def __post_init__(self) -> None:
        if (self.mix_instruct is None) == (self.scores is None):
            raise DocumentError("--mix-instruct", "give either a mix-instruct file or --scores, not both")
        if self.prompts is not None and self.scores is None:
            raise DocumentError("--prompts", "belong to --scores; give both or none")


def paper_scenarios(
    data: PaperData, loads: Sequence[float] = LOADS, requests: int = REQUESTS, experts: Sequence[int] = EXPERTS
) -> tuple[Scenario, ...]:
    """Return a scenario for each number of experts and kind of arrivals.

    Args:
        data: The files.
        loads: Mean arrival rates over the fleet's capacity.
        requests: In one run.
        experts: Numbers of experts.

    Raises:
        DocumentError: If a file is wrong, or has too few models.
    """
    table = _read_table(data)
    scenarios = []
    for count in experts:
        fleet = _paper_fleet(table, count) if data.mix_instruct is not None else _fleet(table, count)
        for arrivals in ("Poisson", "trace"):
            document = _document(data, table, fleet, arrivals, loads, requests)
            scenarios.append(resolve_scenario(document, Path.cwd(), document.name))
    return tuple(scenarios)


def for_training(scenario: Scenario) -> Scenario:
    """Return a scenario of the prompts and trace requests that `for_evaluation` leaves out."""
    table = scenario.table and scenario.table.take(split_prompts(scenario)[0])
    trace = scenario.trace and _part(scenario.trace, 0.0, 0.5)
    return dataclasses.replace(scenario, table=table, trace=trace)


def for_evaluation(scenario: Scenario) -> Scenario:
    """Return a scenario whose trace is the second half; requests carry the prompts set aside for evaluation anyway."""
    return dataclasses.replace(scenario, trace=scenario.trace and _part(scenario.trace, 0.5, 1.0))


def _part(trace: Trace, start: float, end: float) -> Trace:
    rows = slice(int(start * len(trace)), int(end * len(trace)))
    seconds = trace.arrival_seconds[rows]
    return dataclasses.replace(
        trace,
        arrival_seconds=seconds - seconds[0],
        prompt_tokens=trace.prompt_tokens[rows],
        output_tokens=trace.output_tokens[rows],
    )


def _read_table(data: PaperData) -> ScoreTable:
    if data.mix_instruct is not None:
        return read_mix_instruct(data.mix_instruct)
    if data.scores is None:
        raise ValueError("PaperData has a table by construction")
    return read_score_table(data.scores, data.prompts)


def _paper_fleet(table: ScoreTable, count: int) -> list[dict[str, Any]]:
    """Return the paper's models with its k1 and k2; models that the table lacks are replaced by others."""
    fleet: list[dict[str, Any]] = []
    for part, model, base, factor in _PAPER_MODELS[:count]:
        taken = {expert["qualityModel"] for expert in fleet}
        left = [name for name in table.models if name not in taken]
        alike = [name for name in left if part in name.lower()] or left
        if not alike:
            raise DocumentError(table.source, f"has {len(table.models)} models; the experiment needs {count}")
        iteration_time = {
            "baseMilliseconds": base,
            "perSequenceMilliseconds": 0.0,
            "perContextTokenMilliseconds": _CONTEXT_MILLISECONDS * factor,
            "perPrefillTokenMilliseconds": _PREFILL_MILLISECONDS * factor,
        }
        expert = {"name": f"{part}-{len(fleet)}", "model": model, "gpu": _PAPER_GPU, "iterationTime": iteration_time}
        fleet.append({**expert, "qualityModel": alike[0]})
    return fleet


def _fleet(table: ScoreTable, count: int) -> list[dict[str, Any]]:
    """Return models of up to 15B parameters spread over the sizes that the table has, the larger ones on an A100."""
    sizes = {name: size.parameters for name in table.models if (size := find_model(name)) is not None}
    fitting = sorted((size, name) for name, size in sizes.items() if size <= _LARGEST_MODEL)
    distinct = sorted({size: (size, name) for size, name in fitting}.values())
    if len(distinct) < count:
        distinct = fitting
    if len(distinct) < count:
        raise DocumentError(
            table.source, f"has {len(distinct)} models of a known size of up to 15B; the experiment needs {count}"
        )
    chosen = [distinct[round(place)] for place in np.linspace(0, len(distinct) - 1, count)]
    return [
        {
            "name": f"expert-{index}",
            "model": name,
            "gpu": "L40S" if size < _SMALL_MODEL else "A100-SXM-80G",
            "qualityModel": name,
        }
        for index, (size, name) in enumerate(chosen)
    ]


def _document(
    data: PaperData,
    table: ScoreTable,
    fleet: list[dict[str, Any]],
    arrivals: str,
    loads: Sequence[float],
    requests: int,
) -> ScenarioDocument:
    trace = str((data.trace or trace_path()).resolve())
    models = [expert["qualityModel"] for expert in fleet]
    known = bool(np.isfinite(table.out_tokens[:, [table.models.index(name) for name in models]]).any())
    from_prompts = table.prompt_tokens is not None and (data.mix_instruct is not None or arrivals == "Poisson")
    quality: dict[str, Any] = {"predictor": {"kind": "modelMean"}}
    if data.mix_instruct is not None:
        quality["mixInstruct"] = str(data.mix_instruct.resolve())
        if table.predicted_score is not None and table.predicted_out_tokens is not None:
            quality["predictor"] = {"kind": "fromTable"}
    elif data.scores is not None:
        quality["scores"] = str(data.scores.resolve())
        if data.prompts is not None:
            quality["prompts"] = str(data.prompts.resolve())
    name = f"N = {len(fleet)}, {arrivals}"
    document = {
        "name": name,
        "description": f"{', '.join(models)}; {_LATENCY_MILLISECONDS} ms per token (NTPOT); may drop.",
        "profiles": None if data.profiles is None else str(data.profiles.resolve()),
        "experts": fleet,
        "arrivals": {"kind": "trace" if arrivals == "trace" else "poisson", "trace": trace},
        "requests": requests,
        "lengths": {
            "prompt": {"kind": "fromPrompts" if from_prompts else "fromTrace"},
            "output": {"kind": "fromScores" if known else "fromTrace"},
        },
        "quality": quality,
        "objectives": {"normalizedTimePerOutputTokenMilliseconds": _LATENCY_MILLISECONDS},
        "admission": {"mode": "ShedHopeless"},
        "telemetry": {"intervalMilliseconds": 1_000, "delayMilliseconds": 100},
        "loadFactors": list(loads),
    }
    return parse(ScenarioDocument, document, name)
