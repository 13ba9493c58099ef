"""How long and how good an expert's answer to a prompt is: from a quality table, else drawn once and for all.

An emulated server and whoever judges its answers look them up here with the same arguments and get the same answer, so
that quality needs no place on the wire.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pointsman_policy.errors import DocumentError
from pointsman_policy.experts import Expert
from pointsman_policy.simulator.tables import ScoreTable, read_score_table

_BYTES_PER_TOKEN = 4
_LENGTH_VARIATION = 0.7
_SCORE_LOGIT_DEVIATION = 0.8


@dataclass(frozen=True, slots=True)
class Answer:
    """What one expert answers to one prompt when nothing cuts it short."""

    prompt_tokens: int
    output_tokens: int
    """At least 1."""
    score: float
    """Quality, 0 to 1."""


class AnswerBook:
    """All answers of all experts.

    Args:
        table: Answers by the exact text of a prompt and the expert's `model`; None = all are drawn.
        seed: Of the answers that are drawn.
    """

    def __init__(self, table: ScoreTable | None = None, seed: int = 0) -> None:
        self._table = table
        self._seed = seed
        self._row_of: dict[str, int] = {}
        self._column_of: dict[str, int | None] = {}
        if table is not None:
            for row, prompt in enumerate(table.prompts or ()):
                self._row_of.setdefault(prompt, row)

    def has_model(self, model: str) -> bool:
        """Tell whether a table holds answers of a model."""
        return self._column(model) is not None

    def lookup(self, expert: Expert, prompt: str) -> Answer:
        """Return the table's answer, and where it has none, one drawn from what is believed of the expert.

        Lengths are lognormal around `output_tokens_prior` (mean; coefficient of variation 0.7), scores logit-normal
        around `quality_prior_percent` (median). They depend on the seed, the expert's name and the prompt alone.
        """
        row = self._row_of.get(prompt)
        column = self._column(expert.model)
        prompt_tokens, tokens, score = estimate_prompt_tokens(prompt), math.nan, math.nan
        if self._table is not None and row is not None:
            if self._table.prompt_tokens is not None:
                prompt_tokens = max(int(self._table.prompt_tokens[row]), 1)
            if column is not None:
                tokens = float(self._table.out_tokens[row, column])
                score = float(self._table.score[row, column])
        if math.isnan(tokens) or math.isnan(score):
            drawn_tokens, drawn_score = self._draw(expert, prompt)
            tokens = drawn_tokens if math.isnan(tokens) else tokens
            score = drawn_score if math.isnan(score) else score
        return Answer(prompt_tokens, max(round(tokens), 1), score)

    def _column(self, model: str) -> int | None:
        if model not in self._column_of:
            name = self._table.find_model(model) if self._table is not None else None
            self._column_of[model] = self._table.models.index(name) if self._table is not None and name else None
        return self._column_of[model]

    def _draw(self, expert: Expert, prompt: str) -> tuple[float, float]:
        digest = hashlib.blake2b(f"{self._seed}\0{expert.name}\0{prompt}".encode(), digest_size=16).digest()
        rng = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "big")))
        variance = math.log1p(_LENGTH_VARIATION**2)
        tokens = rng.lognormal(math.log(expert.output_tokens_prior) - variance / 2, math.sqrt(variance))
        prior = min(max(expert.quality_prior_percent / 100, 0.01), 0.99)
        logit = math.log(prior / (1 - prior)) + _SCORE_LOGIT_DEVIATION * rng.standard_normal()
        return tokens, 1 / (1 + math.exp(-logit))


def estimate_prompt_tokens(prompt: str) -> int:
    """Estimate a text's tokens: one for every four bytes of UTF-8, rounded up, at least 1."""
    return max(-(-len(prompt.encode()) // _BYTES_PER_TOKEN), 1)


def read_answers(scores: Path | None, prompts: Path | None, seed: int) -> AnswerBook:
    """Read a quality table with the texts of its prompts; without files, all answers are drawn.

    Raises:
        DocumentError: If a file is unusable, or one is given without the other.
    """
    if scores is None and prompts is None:
        return AnswerBook(seed=seed)
    if scores is None or prompts is None:
        given, missing = ("scores", "prompts") if prompts is None else ("prompts", "scores")
        raise DocumentError(
            str(scores or prompts), f"{given} are of use only together with {missing}; give both files or neither"
        )
    return AnswerBook(read_score_table(scores, prompts), seed)
