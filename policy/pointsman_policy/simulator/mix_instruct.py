"""Quality tables in the JSONL form of LLM-Blender's mix-instruct data, with the routing paper's predictions added."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pointsman_policy.errors import DocumentError
from pointsman_policy.simulator.tables import ScoreTable

_CHARACTERS_PER_TOKEN = 4
_FIELDS = ("score", "out_tokens", "predicted_score", "predicted_out_tokens")


def read_mix_instruct(path: Path) -> ScoreTable:
    """Read rows of `instruction`, `input` and `candidates`; BERTScore is the score.

    A candidate's length is its `output_tokens` if given, else a quarter of its text's characters; a prompt's length is
    a quarter of its characters. `pred_score` and `pred_output_tokens` become the table's predictions if every answer
    has one.

    Raises:
        DocumentError: Names the line and the key that is wrong.
    """
    source = str(path)
    ids: list[str] = []
    prompts: list[str] = []
    cells: list[dict[str, dict[str, float]]] = []
    models: dict[str, None] = {}
    for line, row in _rows(path):
        prompt_id = str(row.get("id", f"line-{line}"))
        answers = _answers(source, line, row)
        ids.append(prompt_id)
        prompts.append(_prompt(source, line, row))
        cells.append(answers)
        models.update(dict.fromkeys(answers))
    if not cells:
        raise DocumentError(source, "has no rows; it must hold at least one")
    repeated = (
        next((prompt_id for prompt_id in ids if ids.count(prompt_id) > 1), None) if len(set(ids)) < len(ids) else None
    )
    if repeated is not None:
        raise DocumentError(source, f"two rows have the id {repeated!r}; each needs its own")
    dense = _dense(cells, tuple(models))
    return ScoreTable(
        source,
        tuple(ids),
        tuple(models),
        score=dense["score"],
        out_tokens=dense["out_tokens"],
        prompts=tuple(prompts),
        prompt_tokens=np.array([_tokens(prompt) for prompt in prompts], np.int64),
        predicted_score=_complete(dense, "predicted_score"),
        predicted_out_tokens=_complete(dense, "predicted_out_tokens"),
    )


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    source = str(path)
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line, text in enumerate(file, 1):
                if not text.strip():
                    continue
                row = json.loads(text)
                if not isinstance(row, dict):
                    raise DocumentError(source, f"line {line}: must be a JSON object")
                yield line, row
    except json.JSONDecodeError as error:
        raise DocumentError(source, f"line {line}: is not JSON ({error.msg}); the file must be JSONL") from error
    except UnicodeDecodeError as error:
        raise DocumentError(source, f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise DocumentError(source, f"cannot be read ({error.strerror}); check the path and its permissions") from error


def _prompt(source: str, line: int, row: Mapping[str, Any]) -> str:
    parts = [row.get("instruction", ""), row.get("input", "")]
    if not all(isinstance(part, str) for part in parts) or not any(parts):
        raise DocumentError(source, f"line {line}: instruction and input must be text, and one of them not empty")
    return "\n".join(part for part in parts if part)


def _answers(source: str, line: int, row: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    candidates = row.get("candidates")
    if not isinstance(candidates, list) or not candidates:
        raise DocumentError(source, f"line {line}: candidates must be a list of at least one answer")
    predictions = {
        name: row.get(key)
        for name, key in (("predicted_score", "pred_score"), ("predicted_out_tokens", "pred_output_tokens"))
    }
    for name, values in predictions.items():
        if values is not None and (not isinstance(values, list) or len(values) != len(candidates)):
            raise DocumentError(
                source, f"line {line}: {name.replace('predicted', 'pred')} must have one value for each candidate"
            )
    answers: dict[str, dict[str, float]] = {}
    for index, candidate in enumerate(candidates):
        place = f"line {line}: candidates[{index}]"
        model = candidate.get("model") if isinstance(candidate, dict) else None
        if not isinstance(model, str) or not model:
            raise DocumentError(source, f"{place}: must be an object with a model")
        if model in answers:
            raise DocumentError(source, f"{place}: a second answer of {model!r}; keep one")
        answers[model] = _answer(source, place, candidate)
        for name, values in predictions.items():
            if values is not None:
                answers[model][name] = _number(
                    source, f"{place}: {name}", values[index], 1.0 if name == "predicted_score" else 1e9
                )
    return answers


def _answer(source: str, place: str, candidate: Mapping[str, Any]) -> dict[str, float]:
    scores = candidate.get("scores")
    score = scores.get("bertscore") if isinstance(scores, dict) else None
    tokens = candidate.get("output_tokens")
    text = candidate.get("text", "")
    if tokens is None and not isinstance(text, str):
        raise DocumentError(source, f"{place}: text must be text")
    return {
        "score": _number(source, f"{place}: scores.bertscore", score, 1.0),
        "out_tokens": float(_tokens(text))
        if tokens is None
        else _number(source, f"{place}: output_tokens", tokens, 1e9),
    }


def _number(source: str, place: str, value: object, maximum: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DocumentError(source, f"{place} must be a number")
    if not 0 <= value <= maximum:
        raise DocumentError(source, f"{place} is {value:.15g}, not from 0 to {maximum:.15g}")
    return float(value)


def _tokens(text: str) -> int:
    return max(1, round(len(text) / _CHARACTERS_PER_TOKEN))


def _dense(cells: list[dict[str, dict[str, float]]], models: tuple[str, ...]) -> dict[str, npt.NDArray[np.float32]]:
    dense = {field: np.full((len(cells), len(models)), np.nan, np.float32) for field in _FIELDS}
    column_of = {model: column for column, model in enumerate(models)}
    for row, answers in enumerate(cells):
        for model, values in answers.items():
            for field, value in values.items():
                dense[field][row, column_of[model]] = value
    return dense


def _complete(dense: dict[str, npt.NDArray[np.float32]], field: str) -> npt.NDArray[np.float32] | None:
    """Return predictions if every answer has one."""
    answered = ~np.isnan(dense["score"])
    return None if np.isnan(dense[field][answered]).any() else dense[field]
