"""Where the lengths of prompts and answers come from: a table of measured ones, a trace, or a distribution."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from pointsman_policy.simulator.scenario import Scenario
from pointsman_policy.simulator.traces import Trace

Floats = npt.NDArray[np.floating[Any]]
Rows = npt.NDArray[np.integer[Any]]


class LengthMoments(NamedTuple):
    """How the lengths of C columns (models, or one for prompts) are distributed."""

    mean: Floats
    """[C], tokens."""
    variance: Floats
    """[C], tokens squared."""


class LengthSource(Protocol):
    """Gives lengths of at least one token."""

    def draw(self, rng: np.random.Generator, prompt_rows: Rows, trace_rows: Rows) -> Floats:
        """Return lengths of n requests, [n, C], that carry these prompts of the table and requests of the trace."""

    def moments(self, prompt_rows: Rows) -> LengthMoments:
        """Return the distribution over these prompts of the table, or over all where prompts do not matter."""


@dataclass(frozen=True, slots=True, eq=False)
class TableLengths:
    """Lengths that belong to the prompts of the score table."""

    tokens: Floats
    """[P, C]"""

    def draw(self, rng: np.random.Generator, prompt_rows: Rows, trace_rows: Rows) -> Floats:
        """Return the lengths of the prompts."""
        return self.tokens[prompt_rows]

    def moments(self, prompt_rows: Rows) -> LengthMoments:
        """Return the distribution over these prompts."""
        return _sample_moments(self.tokens[prompt_rows])


@dataclass(frozen=True, slots=True, eq=False)
class TraceLengths:
    """Lengths that belong to the requests of a trace, the same in every column."""

    tokens: Floats
    """[T]"""
    columns: int

    def draw(self, rng: np.random.Generator, prompt_rows: Rows, trace_rows: Rows) -> Floats:
        """Return the lengths of the trace's requests."""
        return np.repeat(self.tokens[trace_rows, None], self.columns, axis=1)

    def moments(self, prompt_rows: Rows) -> LengthMoments:
        """Return the distribution over the whole trace."""
        return _sample_moments(np.repeat(self.tokens[:, None], self.columns, axis=1))


@dataclass(frozen=True, slots=True)
class LognormalLengths:
    """Independent lognormal lengths, rounded to whole tokens."""

    mean_tokens: float
    coefficient_of_variation: float
    columns: int

    def draw(self, rng: np.random.Generator, prompt_rows: Rows, trace_rows: Rows) -> Floats:
        """Return new lengths."""
        variance = math.log1p(self.coefficient_of_variation**2)  # of the logarithm
        location = math.log(self.mean_tokens) - variance / 2
        lengths = rng.lognormal(location, math.sqrt(variance), (len(prompt_rows), self.columns))
        return np.maximum(np.round(lengths), 1)

    def moments(self, prompt_rows: Rows) -> LengthMoments:
        """Return the distribution before rounding."""
        deviation = self.coefficient_of_variation * self.mean_tokens
        return LengthMoments(np.full(self.columns, self.mean_tokens), np.full(self.columns, deviation**2))


def prompt_lengths(scenario: Scenario) -> LengthSource:
    """Return where a scenario's prompt lengths come from; one column."""
    document = scenario.document.lengths.prompt
    if document.kind == "fromPrompts":
        return TableLengths(_at_least_one(_prompt_tokens(scenario))[:, None])
    if document.kind == "fromTrace":
        return TraceLengths(_at_least_one(_trace(scenario).prompt_tokens), 1)
    return LognormalLengths(document.mean_tokens, document.coefficient_of_variation, 1)


def output_lengths(scenario: Scenario) -> LengthSource:
    """Return where a scenario's answer lengths come from; a column for each quality model."""
    document = scenario.document.lengths.output
    if document.kind == "fromScores":
        return TableLengths(_at_least_one(_answer_tokens(scenario)))
    columns = len(scenario.quality_models)
    if document.kind == "fromTrace":
        return TraceLengths(_at_least_one(_trace(scenario).output_tokens), columns)
    return LognormalLengths(document.mean_tokens, document.coefficient_of_variation, columns)


def _prompt_tokens(scenario: Scenario) -> npt.NDArray[np.int64]:
    if scenario.table is None or scenario.table.prompt_tokens is None:
        raise ValueError("prompt lengths from prompts need a scenario with prompts")
    return scenario.table.prompt_tokens


def _answer_tokens(scenario: Scenario) -> npt.NDArray[np.float32]:
    if scenario.table is None:
        raise ValueError("answer lengths from scores need a scenario with scores")
    return scenario.table.out_tokens


def _trace(scenario: Scenario) -> Trace:
    if scenario.trace is None:
        raise ValueError("lengths from a trace need a scenario with one")
    return scenario.trace


def _at_least_one(tokens: npt.NDArray[Any]) -> Floats:
    return np.maximum(np.round(tokens.astype(np.float64)), 1)


def _sample_moments(tokens: Floats) -> LengthMoments:
    return LengthMoments(tokens.mean(axis=0), tokens.var(axis=0))
