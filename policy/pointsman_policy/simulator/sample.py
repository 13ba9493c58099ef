"""The small data set shipped with Pointsman, so that its demo and its tests need no download.

It is synthetic: the models are real architectures, whose speed can be estimated, but nobody asked them anything; scores
and lengths are drawn from the distributions below. ``python -m pointsman_policy.simulator.sample`` writes it anew.
"""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pointsman_policy.simulator.sample_prompts import KINDS, prompt_text

SEED = 20_110
MODELS = ("Llama-3.2-1B", "gemma-2-2b", "Llama-3.1-8B", "gemma-2-9b")
_PROMPTS = 400
_TRACE_SECONDS = 600.0


class _Task(NamedTuple):
    quality: tuple[float, float, float, float]
    """Typical score of each of MODELS."""
    output_tokens: float
    """Mean answer length."""


_TASKS = {
    "arithmetic": _Task((0.25, 0.45, 0.78, 0.82), 160),
    "code": _Task((0.20, 0.42, 0.74, 0.66), 260),
    "summary": _Task((0.52, 0.66, 0.72, 0.80), 110),
    "extraction": _Task((0.45, 0.70, 0.84, 0.86), 180),
    "translation": _Task((0.22, 0.48, 0.62, 0.78), 70),
    "advice": _Task((0.48, 0.62, 0.70, 0.72), 320),
    "classification": _Task((0.72, 0.84, 0.88, 0.90), 4),
}
_VERBOSITY = (0.9, 0.85, 1.15, 1.0)
"""Answer length of each of MODELS relative to the task's."""


def data_folder() -> Path:
    """Return the folder of the packaged data set."""
    return Path(str(files("pointsman_policy.simulator"))) / "data"


def prompts_path() -> Path:
    """Return the packaged prompts, CSV."""
    return data_folder() / "prompts.csv"


def scores_path() -> Path:
    """Return the packaged score table, CSV."""
    return data_folder() / "scores.csv"


def trace_path() -> Path:
    """Return the packaged trace, CSV."""
    return data_folder() / "trace.csv"


def scenario_paths() -> tuple[Path, ...]:
    """Return the packaged scenarios, YAML, by name."""
    return tuple(sorted(data_folder().with_name("scenarios").glob("*.yaml")))


def generate_sample(seed: int = SEED) -> dict[str, str]:
    """Return the data set's files, name to content; the same seed gives the same bytes."""
    prompt_rng, answer_rng, trace_rng = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(3))
    kinds = [KINDS[int(index)] for index in prompt_rng.integers(len(KINDS), size=_PROMPTS)]
    prompts = _distinct_prompts(kinds, prompt_rng)
    ids = [f"s{index:03}" for index in range(_PROMPTS)]
    prompt_rows = [
        (prompt_id, kind, math.ceil(len(prompt) / 4), prompt)
        for prompt_id, kind, prompt in zip(ids, kinds, prompts, strict=True)
    ]
    score_rows = [
        (prompt_id, *answer)
        for prompt_id, kind in zip(ids, kinds, strict=True)
        for answer in _answers(_TASKS[kind], answer_rng)
    ]
    return {
        "prompts.csv": _to_csv(("prompt_id", "dataset", "prompt_tokens", "prompt"), prompt_rows),
        "scores.csv": _to_csv(("prompt_id", "model", "score", "out_tokens"), score_rows),
        "trace.csv": _to_csv(("arrival_s", "prompt_tokens", "output_tokens"), _trace(trace_rng)),
    }


def _distinct_prompts(kinds: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Draw prompts until each text is there once: an emulated expert knows a prompt by its text."""
    prompts: dict[str, None] = {}
    for count, kind in enumerate(kinds, 1):
        while len(prompts) < count:
            prompts[prompt_text(kind, rng)] = None
    return list(prompts)


def _answers(task: _Task, rng: np.random.Generator) -> list[tuple[str, str, int]]:
    """Draw the answers to one prompt: a hard prompt is hard for all models, a long answer long from all of them."""
    ease = 0.9 * rng.standard_normal()
    extent = 0.35 * rng.standard_normal()
    answers = []
    for model, quality, verbosity in zip(MODELS, task.quality, _VERBOSITY, strict=True):
        logit = math.log(quality / (1 - quality)) + ease + 0.7 * rng.standard_normal()
        tokens = task.output_tokens * verbosity * math.exp(extent + 0.25 * rng.standard_normal())
        answers.append((model, f"{1 / (1 + math.exp(-logit)):.3f}", max(1, round(tokens))))
    return answers


def _trace(rng: np.random.Generator) -> list[tuple[str, int, int]]:
    """Draw ten minutes of arrivals that alternate between calm (3.5/s, 40 s on average) and bursts (16/s, 8 s)."""
    rows: list[tuple[str, int, int]] = []
    now, calm, change = 0.0, True, 40 * rng.standard_exponential()
    while True:
        now += rng.standard_exponential() / (3.5 if calm else 16.0)
        while now > change:
            calm = not calm
            change += (40 if calm else 8) * rng.standard_exponential()
        if now > _TRACE_SECONDS:
            return rows
        prompt_tokens, output_tokens = rng.lognormal((5.7, 4.6), (0.9, 0.7))
        rows.append((f"{now:.3f}", max(1, round(prompt_tokens)), max(1, round(output_tokens))))


def _to_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def write_sample(folder: Path) -> None:
    """Write the data set's files into an existing folder."""
    for name, content in generate_sample().items():
        (folder / name).write_text(content, "utf-8")


if __name__ == "__main__":
    write_sample(data_folder())
