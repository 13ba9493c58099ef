"""What each model would answer to each request, how good and how long, and what a predictor says of it beforehand."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.simulator.fitted_answers import fitted_answers
from pointsman_policy.simulator.lengths import Floats, LengthMoments, Rows, output_lengths
from pointsman_policy.simulator.scenario import Scenario


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Quality and length, true or predicted, of n requests on M models."""

    quality: Floats
    """[n, M], 0 to 1."""
    output_tokens: Floats
    """[n, M], at least 1."""


class QualityMoments(NamedTuple):
    """How quality is distributed over prompts, for M models."""

    mean: Floats
    """[M]"""
    variance: Floats
    """[M]"""


def split_prompts(scenario: Scenario) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the table's rows for fitting and for evaluation: the same for every seed and load, empty if no table."""
    if scenario.table is None:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    quality = scenario.document.quality
    return scenario.table.split(np.random.default_rng(quality.split_seed), quality.fit_percent / 100)


def quality_moments(scenario: Scenario, prompt_rows: Rows) -> QualityMoments:
    """Return the distribution of quality over these prompts of the table, or of all requests where there is none."""
    if scenario.table is not None:
        score = scenario.table.score[prompt_rows].astype(np.float64)
        return QualityMoments(score.mean(axis=0), score.var(axis=0))
    synthetic = scenario.document.quality.synthetic
    if synthetic is None:
        raise ValueError("a scenario needs a table or synthetic quality")
    mean = np.array([synthetic.mean_percent[model] for model in scenario.quality_models]) / 100
    return QualityMoments(mean, np.full(mean.shape, (synthetic.spread_percent / 100) ** 2))


def draw_answers(scenario: Scenario, rng: np.random.Generator, prompt_rows: Rows, trace_rows: Rows) -> Answers:
    """Return the true answers to n requests that carry these prompts of the table and requests of the trace."""
    output_tokens = output_lengths(scenario).draw(rng, prompt_rows, trace_rows)
    if scenario.table is not None:
        return Answers(scenario.table.score[prompt_rows], output_tokens)
    mean, variance = quality_moments(scenario, prompt_rows)
    concentration = mean * (1 - mean) / variance - 1
    quality = rng.beta(mean * concentration, (1 - mean) * concentration, output_tokens.shape)
    return Answers(quality, output_tokens)


def predict_answers(scenario: Scenario, rng: np.random.Generator, prompt_rows: Rows, truth: Answers) -> Answers:
    """Return what the scenario's predictor says of n requests before they are answered."""
    fit_rows = split_prompts(scenario)[0]
    quality = quality_moments(scenario, fit_rows)
    lengths = output_lengths(scenario).moments(fit_rows)
    match scenario.document.quality.predictor.kind:
        case "oracle":
            return truth
        case "fromTable":
            return _shipped_predictions(scenario, prompt_rows)
        case "noisy":
            return _noisy_predictions(scenario, rng, truth, quality, lengths)
        case "fitted":
            return _fitted_predictions(scenario, prompt_rows, lengths)
    shape = truth.quality.shape
    return Answers(np.broadcast_to(quality.mean, shape), np.broadcast_to(lengths.mean, shape))


def _shipped_predictions(scenario: Scenario, prompt_rows: Rows) -> Answers:
    table = scenario.table
    if table is None or table.predicted_score is None or table.predicted_out_tokens is None:
        raise ValueError("predictions from a table need a scenario whose table has them")
    return Answers(table.predicted_score[prompt_rows], np.maximum(table.predicted_out_tokens[prompt_rows], 1))


def _fitted_predictions(scenario: Scenario, prompt_rows: Rows, lengths: LengthMoments) -> Answers:
    if scenario.table is None:
        raise ValueError("fitted predictions need a scenario with a table")
    document = scenario.document.quality
    fitted = fitted_answers(scenario.table, document.split_seed, document.fit_percent)
    quality = fitted.quality[prompt_rows]
    if scenario.document.lengths.output.kind == "fromScores":
        return Answers(quality, fitted.output_tokens[prompt_rows])
    # Lengths that do not belong to the prompts cannot be told from them.
    return Answers(quality, np.broadcast_to(lengths.mean, quality.shape))


def _noisy_predictions(
    scenario: Scenario, rng: np.random.Generator, truth: Answers, quality: QualityMoments, lengths: LengthMoments
) -> Answers:
    """Return truth with noise, shrunk towards each model's mean m by the reliability r of what is seen.

    The prediction is m + r*(seen - m), where seen is quality plus normal noise, or length times lognormal noise of mean
    1. With r = variance of the truth / variance of the seen, this is the best linear prediction.
    """
    predictor = scenario.document.quality.predictor
    noise = predictor.noise_percent / 100
    seen = truth.quality + noise * rng.standard_normal(truth.quality.shape)
    reliability = _reliability(predictor.reliability_percent, quality.variance, noise**2)
    predicted_quality = np.clip(quality.mean + reliability * (seen - quality.mean), 0, 1)

    noise = predictor.length_noise_percent / 100
    logarithm_variance = np.log1p(noise**2)
    factor = rng.lognormal(-logarithm_variance / 2, np.sqrt(logarithm_variance), truth.output_tokens.shape)
    noise_variance = (lengths.variance + lengths.mean**2) * noise**2
    reliability = _reliability(predictor.reliability_percent, lengths.variance, noise_variance)
    predicted_tokens = lengths.mean + reliability * (truth.output_tokens * factor - lengths.mean)
    return Answers(predicted_quality, np.maximum(predicted_tokens, 1))


def _reliability(percent: int | None, variance: Floats, noise_variance: Floats | float) -> Floats:
    if percent is not None:
        return np.full(variance.shape, percent / 100)
    total = variance + noise_variance
    reliability: Floats = np.divide(variance, total, out=np.ones_like(total), where=total > 0)
    return reliability
