"""Makes the suite's scenarios ready once, for all processes: files read, predictors fitted."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from pointsman_policy.evaluation.suite import SuiteScenario
from pointsman_policy.simulator.answers import Answers, predict_answers
from pointsman_policy.simulator.scenario import Scenario, resolve_scenario
from pointsman_policy.simulator.scenario_document import PredictorDocument
from pointsman_policy.simulator.tables import ScoreTable

_Shared = dict[object, object]
_T = TypeVar("_T")


def prepare(scenarios: Sequence[SuiteScenario], folder: Path) -> dict[str, Scenario]:
    """Return scenarios by name, ready to be sent to other processes.

    Equal tables, traces and rates become the same objects, so they are sent once; predictors are fitted here, and the
    scenarios then carry what these say of each prompt.

    Args:
        scenarios: Of the suite.
        folder: Paths in their documents are relative to it.

    Raises:
        DocumentError: If a file cannot be read or is wrong, or a predictor cannot be fitted.
    """
    shared: _Shared = {}
    return {entry.name: _prepared(entry, folder, shared) for entry in scenarios}


def _prepared(entry: SuiteScenario, folder: Path, shared: _Shared) -> Scenario:
    scenario = resolve_scenario(entry.document, folder, entry.name)
    table, trace, rates = scenario.table, scenario.trace, scenario.rates
    scenario = dataclasses.replace(
        scenario,
        table=None if table is None else _same(shared, (table.source, table.models, len(table)), table),
        trace=None if trace is None else _same(shared, trace.source, trace),
        rates=None if rates is None else _same(shared, rates.source, rates),
    )
    document = entry.document
    if scenario.table is None or document.quality.predictor.kind != "fitted":
        return scenario
    key = (id(scenario.table), document.quality, document.lengths)
    table = _same(shared, key, scenario.table if key in shared else _with_predictions(scenario, scenario.table))
    quality = document.quality.model_copy(update={"predictor": PredictorDocument(kind="fromTable")})
    return dataclasses.replace(scenario, table=table, document=document.model_copy(update={"quality": quality}))


def _same(shared: _Shared, key: object, value: _T) -> _T:
    """Return the value that is shared under a key: the first one."""
    return shared.setdefault(key, value)  # type: ignore[return-value]


def _with_predictions(scenario: Scenario, table: ScoreTable) -> ScoreTable:
    """Return a table with what the scenario's predictor says of each prompt, in place of the prompts."""
    rows = np.arange(len(table))
    answers = predict_answers(scenario, np.random.default_rng(0), rows, Answers(table.score, table.out_tokens))
    return dataclasses.replace(
        table,
        prompts=None,
        predicted_score=np.asarray(answers.quality, np.float32),
        predicted_out_tokens=np.asarray(answers.output_tokens, np.float32),
    )
