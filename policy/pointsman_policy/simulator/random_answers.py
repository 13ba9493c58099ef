"""Made-up answers: how long prompts and answers are and how good, by tasks, and what a predictor says of them."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_MOST_TASKS = 4
_LONGEST_PROMPT = 16_000
_LONGEST_ANSWER = 4_000
_BINARY_CHANCE = 0.4
_PRIOR_QUALITY_ERROR = 0.03
_PRIOR_LENGTH_ERROR = 0.08


class RandomAnswers(NamedTuple):
    """n requests on M models."""

    prompt_tokens: npt.NDArray[np.int64]
    """[n]."""
    output_tokens: npt.NDArray[np.int64]
    """[n, M]."""
    quality: Floats
    """[n, M], 0 to 1."""
    task: npt.NDArray[np.int64]
    """[n], 0 to K - 1."""


class RandomPredictions(NamedTuple):
    """What is said of n requests on M models before they are answered."""

    quality: Floats
    """[n, M], 0 to 1."""
    output_tokens: Floats
    """[n, M], at least 1."""


def draw_lengths_and_quality(rng: np.random.Generator, count: int, parameters: Floats) -> RandomAnswers:
    """Draw n requests of one to four tasks.

    Lengths are lognormal; the logarithms of the answers' lengths have a part that all models share, and each model is
    more or less verbose. Quality is the logistic function of the model's skill, which grows with its size, on the task,
    less the difficulty of the request, which all models share in part; with some chance it is a coin with that
    probability, as in tables of right and wrong answers.

    Args:
        rng: Gives everything.
        count: n.
        parameters: Sizes of the M models, [M].
    """
    models = len(parameters)
    tasks = int(rng.integers(1, _MOST_TASKS + 1))
    task = rng.choice(tasks, count, p=rng.dirichlet(np.full(tasks, 2.0)))
    prompt_mean = _log_uniform(rng, 50, 4_000) * rng.lognormal(0.0, 0.4, tasks)
    prompt = _lognormal(rng.standard_normal(count), prompt_mean[task], rng.uniform(0.3, 1.5))

    verbosity = rng.lognormal(0.0, rng.uniform(0.0, 0.4), models)
    output_mean = _log_uniform(rng, 30, 500) * rng.lognormal(0.0, 0.5, tasks)
    shared = rng.uniform(0.3, 1.0)
    normal = np.sqrt(shared) * rng.standard_normal((count, 1))
    normal = normal + np.sqrt(1.0 - shared) * rng.standard_normal((count, models))
    output = _lognormal(normal, output_mean[task][:, None] * verbosity, rng.uniform(0.3, 1.2))
    return RandomAnswers(
        prompt_tokens=_whole(prompt, _LONGEST_PROMPT),
        output_tokens=_whole(output, _LONGEST_ANSWER),
        quality=_draw_quality(rng, task, parameters),
        task=task.astype(np.int64),
    )


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _lognormal(normal: Floats, mean: Floats, coefficient_of_variation: float) -> Floats:
    variance = np.log1p(coefficient_of_variation**2)
    lengths: Floats = mean * np.exp(np.sqrt(variance) * normal - 0.5 * variance)
    return lengths


def _whole(tokens: Floats, most: int) -> npt.NDArray[np.int64]:
    return np.clip(np.round(tokens), 1, most).astype(np.int64)


def _draw_quality(rng: np.random.Generator, task: npt.NDArray[np.int64], parameters: Floats) -> Floats:
    tasks, models, count = int(task.max()) + 1, len(parameters), len(task)
    size = np.log(parameters)
    gain = rng.uniform(0.0, 0.9)
    skill = rng.uniform(-1.0, 1.5) + gain * (size - size.mean()) + rng.normal(0.0, rng.uniform(0.05, 0.5), models)
    on_task = skill + rng.normal(0.0, 0.6, (tasks, 1)) + rng.normal(0.0, rng.uniform(0.0, 0.5), (tasks, models))
    spread, shared = rng.uniform(0.3, 1.5), rng.uniform(0.2, 0.9)
    normal = np.sqrt(shared) * rng.standard_normal((count, 1))
    normal = normal + np.sqrt(1.0 - shared) * rng.standard_normal((count, models))
    chance: Floats = 1.0 / (1.0 + np.exp(-(on_task[task] + spread * normal)))
    if rng.random() < _BINARY_CHANCE:
        return (rng.random((count, models)) < chance).astype(np.float64)
    return chance


def predict(rng: np.random.Generator, answers: RandomAnswers) -> RandomPredictions:
    """Draw a predictor and return what it says.

    Of quality: each model's mean, its mean on the task, or the truth with noise shrunk towards the mean on the task by
    its reliability. Of lengths: the same, or the truth. Means are a little wrong, as fitted on other requests.
    """
    quality_kind = rng.choice(("model", "task", "noisy"), p=(0.5, 0.3, 0.2))
    length_kind = rng.choice(("model", "task", "noisy", "oracle"), p=(0.4, 0.25, 0.25, 0.1))
    models = answers.quality.shape[1]

    quality = _means(answers.quality, answers.task, quality_kind == "model")
    quality = quality + rng.normal(0.0, _PRIOR_QUALITY_ERROR, models)
    noise = rng.uniform(0.1, 0.6)
    seen = answers.quality + noise * rng.standard_normal(quality.shape)
    if quality_kind == "noisy":
        variance = (answers.quality - quality).var(axis=0)
        quality = quality + variance / (variance + noise**2) * (seen - quality)

    truth = answers.output_tokens.astype(np.float64)
    length = _means(truth, answers.task, length_kind == "model") * rng.lognormal(0.0, _PRIOR_LENGTH_ERROR, models)
    noise = rng.uniform(0.2, 1.0)
    seen = truth * rng.lognormal(0.0, noise, truth.shape)
    if length_kind == "noisy":
        residual = np.log(truth / length)
        variance = residual.var(axis=0)
        length = length * np.exp(variance / (variance + noise**2) * np.log(seen / length))
    if length_kind == "oracle":
        length = truth
    return RandomPredictions(np.clip(quality, 0.0, 1.0), np.maximum(length, 1.0))


def _means(values: Floats, task: npt.NDArray[np.int64], over_all: bool) -> Floats:
    """Return each model's mean, over all requests or over those of the same task, [n, M]."""
    if over_all:
        return np.broadcast_to(values.mean(axis=0), values.shape)
    means: Floats = np.array(
        [
            values[task == k].mean(axis=0) if (task == k).any() else values.mean(axis=0)
            for k in range(int(task.max()) + 1)
        ]
    )
    return means[task]
