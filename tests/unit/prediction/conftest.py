"""Made-up answers of three models to prompts of two kinds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from pointsman_policy.prediction.fitting import PredictorFit, fit_predictor
from pointsman_policy.prediction.hashed_ngrams import HashedNgrams

MODELS = ("weak", "even", "coder")
CHANCE = {"sum": (0.3, 0.6, 0.5), "code": (0.1, 0.4, 0.9)}
TOKENS = {"sum": (50, 60, 80), "code": (200, 150, 400)}
_WORDS = ("apple", "river", "stone", "cloud", "winter", "paper", "silver", "garden", "market", "engine", "window")


class Answers(NamedTuple):
    prompts: list[str]
    kinds: list[str]
    score: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.float64]

    def chances(self) -> npt.NDArray[np.float64]:
        return np.array([CHANCE[kind] for kind in self.kinds])

    def mean_tokens(self) -> npt.NDArray[np.float64]:
        return np.array([TOKENS[kind] for kind in self.kinds], np.float64)


def draw(count: int, seed: int) -> Answers:
    rng = np.random.default_rng(seed)
    kinds = [("sum", "code")[int(rng.random() < 0.5)] for _ in range(count)]
    prompts = [_prompt(rng, kind) for kind in kinds]
    chance = np.array([CHANCE[kind] for kind in kinds])
    mean = np.array([TOKENS[kind] for kind in kinds])
    score = (rng.random(chance.shape) < chance).astype(np.float64)
    return Answers(prompts, kinds, score, np.round(mean * rng.lognormal(-0.08, 0.4, mean.shape)) + 1)


def _prompt(rng: np.random.Generator, kind: str) -> str:
    words = " ".join(rng.choice(_WORDS, 12))
    if kind == "sum":
        return f"Add {rng.integers(100)} to {rng.integers(100)}, then tell of {words}."
    return f"def f(x):\n    return {rng.integers(100)}  # {words}\nWhat does f({rng.integers(9)}) return?"


def fit(answers: Answers, models: Sequence[str] = MODELS) -> PredictorFit:
    return fit_predictor(
        models, answers.prompts, answers.score, answers.tokens, HashedNgrams(), np.random.default_rng(0)
    )


@pytest.fixture(scope="session")
def fitted() -> PredictorFit:
    return fit(draw(600, 1))
