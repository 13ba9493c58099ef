"""Quality tables: what each model answered to each prompt, how well and at what length.

Read from parquet, CSV or JSONL files (formats: docs/file-formats.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pointsman_policy.errors import DocumentError
from pointsman_policy.latency.datasheets import canonical_model
from pointsman_policy.simulator.columns import first_row, number_column, read_columns, text_column

_MOST_CELLS = 100_000_000


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTable:
    """P prompts answered by M models. NaN stands for an answer that is missing."""

    source: str
    prompt_ids: tuple[str, ...]
    models: tuple[str, ...]
    score: npt.NDArray[np.float32]
    """[P, M], 0 to 1."""
    out_tokens: npt.NDArray[np.float32]
    """[P, M], tokens."""
    prompts: tuple[str, ...] | None = None
    """[P]; None if only scores were read."""
    prompt_tokens: npt.NDArray[np.int64] | None = None
    """[P], tokens; None if only scores were read."""
    predicted_score: npt.NDArray[np.float32] | None = None
    """[P, M], as shipped with the data; None if it has no predictions."""
    predicted_out_tokens: npt.NDArray[np.float32] | None = None
    """[P, M], tokens."""

    def __len__(self) -> int:
        return len(self.prompt_ids)

    def find_model(self, name: str) -> str | None:
        """Return the table's name of a model: the same name, else the only one of the same architecture."""
        if name in self.models:
            return name
        alike = [model for model in self.models if canonical_model(model) == canonical_model(name)]
        return alike[0] if len(alike) == 1 else None

    def take(self, rows: npt.NDArray[np.intp]) -> "ScoreTable":
        """Return the table with these prompts only, in this order."""
        return replace(
            self,
            prompt_ids=tuple(self.prompt_ids[row] for row in rows),
            score=self.score[rows],
            out_tokens=self.out_tokens[rows],
            prompts=None if self.prompts is None else tuple(self.prompts[row] for row in rows),
            prompt_tokens=None if self.prompt_tokens is None else self.prompt_tokens[rows],
            predicted_score=None if self.predicted_score is None else self.predicted_score[rows],
            predicted_out_tokens=None if self.predicted_out_tokens is None else self.predicted_out_tokens[rows],
        )

    def select(self, models: Sequence[str], *, with_lengths: bool) -> "ScoreTable":
        """Return the table of these models and of the prompts that all of them answered.

        Args:
            models: Names as in the table, each once.
            with_lengths: Whether an answer without a length counts as missing.

        Raises:
            DocumentError: If a model is not in the table, or no prompt was answered by all.
        """
        unknown = [name for name in models if name not in self.models]
        if unknown:
            shown = ", ".join(self.models)[:300]
            raise DocumentError(self.source, f"has no model {unknown[0]!r}; it has {shown}")
        columns = [self.models.index(name) for name in models]
        if with_lengths and np.isnan(self.out_tokens[:, columns]).all():
            raise DocumentError(
                self.source,
                f"has no out_tokens for {', '.join(models)}; add them, or take answer lengths from elsewhere",
            )
        complete = ~np.isnan(self.score[:, columns]).any(axis=1)
        if with_lengths:
            complete &= ~np.isnan(self.out_tokens[:, columns]).any(axis=1)
        if not complete.any():
            what = "score and out_tokens" if with_lengths else "score"
            raise DocumentError(
                self.source, f"no prompt has {what} of all of {', '.join(models)}; choose models that share prompts"
            )
        kept = self.take(np.flatnonzero(complete))
        return replace(
            kept,
            models=tuple(models),
            score=kept.score[:, columns],
            out_tokens=kept.out_tokens[:, columns],
            predicted_score=None if kept.predicted_score is None else kept.predicted_score[:, columns],
            predicted_out_tokens=None if kept.predicted_out_tokens is None else kept.predicted_out_tokens[:, columns],
        )

    def split(self, rng: np.random.Generator, fraction: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return the rows of two disjoint sets of prompts: `fraction` of them to fit on, the rest to evaluate on.

        Each has at least one prompt if there are two; a single prompt is in both.
        """
        order = rng.permutation(len(self))
        if len(order) == 1:
            return order, order
        count = min(max(round(fraction * len(order)), 1), len(order) - 1)
        return np.sort(order[:count]), np.sort(order[count:])


def read_score_table(scores: Path, prompts: Path | None = None) -> ScoreTable:
    """Read scores, and join the prompts to them; prompts without scores, and scores without a prompt, are left out.

    Raises:
        DocumentError: If a file is unusable, or the two share no prompt_id.
    """
    table = _read_scores(scores)
    if prompts is None:
        return table
    ids, texts, tokens = _read_prompts(prompts)
    row_of = {prompt_id: row for row, prompt_id in enumerate(ids)}
    rows = np.array([row for row, prompt_id in enumerate(table.prompt_ids) if prompt_id in row_of], np.intp)
    if not rows.size:
        raise DocumentError(
            str(prompts),
            f"no prompt_id is also in {scores} (such as {ids[0]!r} here, {table.prompt_ids[0]!r} there); "
            "give the prompts of these scores",
        )
    table = table.take(rows)
    joined = [row_of[prompt_id] for prompt_id in table.prompt_ids]
    return replace(table, prompts=tuple(texts[row] for row in joined), prompt_tokens=tokens[joined])


def _read_scores(path: Path) -> ScoreTable:
    columns = read_columns(path, required=("prompt_id", "model", "score"), optional=("out_tokens",))
    source = str(path)
    prompt_ids, prompt_codes = _encode(text_column(source, columns, "prompt_id"))
    models, model_codes = _encode(text_column(source, columns, "model"))
    shape = (len(prompt_ids), len(models))
    if shape[0] * shape[1] > _MOST_CELLS:
        raise DocumentError(source, f"has {shape[0]} prompts times {shape[1]} models; at most {_MOST_CELLS} pairs fit")
    keys = prompt_codes * shape[1] + model_codes
    _, counts = np.unique(keys, return_counts=True)
    if (counts > 1).any():
        order = np.argsort(keys, kind="stable")
        row = int(order[1:][keys[order][1:] == keys[order][:-1]].min())
        pair = f"prompt_id {prompt_ids[prompt_codes[row]]!r} and model {models[model_codes[row]]!r}"
        raise DocumentError(source, f"row {row + 1}: a second row for {pair}; keep one answer for each pair")
    score = number_column(source, columns, "score", 0, 1, "rescale scores to 0..1")
    out_tokens = np.full(len(keys), np.nan)
    if "out_tokens" in columns.column_names:
        out_tokens = number_column(source, columns, "out_tokens", 0, 1e9, "give a count of tokens")
    dense = np.full((2, shape[0] * shape[1]), np.nan, np.float32)
    dense[:, keys] = score, out_tokens
    if np.isnan(dense[0]).all():
        raise DocumentError(source, "has no score at all; fill the column score")
    return ScoreTable(source, prompt_ids, models, dense[0].reshape(shape), dense[1].reshape(shape))


def _read_prompts(path: Path) -> tuple[tuple[str, ...], list[str], npt.NDArray[np.int64]]:
    columns = read_columns(path, required=("prompt_id", ("prompt", "question"), "prompt_tokens"))
    source = str(path)
    ids = text_column(source, columns, "prompt_id")
    unique, codes = _encode(ids)
    if len(unique) < len(codes):
        first = np.unique(codes, return_index=True)[1]
        row = int(np.setdiff1d(np.arange(len(codes)), first)[0])
        raise DocumentError(source, f"row {row + 1}: a second row for prompt_id {unique[codes[row]]!r}; keep one")
    tokens = number_column(source, columns, "prompt_tokens", 0, 1e9, "give a count of tokens")
    missing = first_row(np.isnan(tokens))
    if missing is not None:
        raise DocumentError(source, f"row {missing + 1}: prompt_tokens is missing; give a count of tokens")
    return unique, text_column(source, columns, "prompt").to_pylist(), tokens.astype(np.int64)


def _encode(column: pa.Array) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Return the distinct values in their order of appearance, and each row's index into them."""
    encoded = pc.dictionary_encode(column)
    return tuple(encoded.dictionary.to_pylist()), encoded.indices.to_numpy().astype(np.int64)
