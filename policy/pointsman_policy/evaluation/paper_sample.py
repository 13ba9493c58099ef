"""A synthetic stand-in for the paper's data set: mix-instruct rows for its six models, drawn from a seed.

Nobody asked the models anything. Scores and lengths follow the distributions below, which are like those of small
instruction-tuned models under BERTScore: close to each other on average, apart from prompt to prompt. Predictions are
the truth with noise, shrunk towards each model's mean as a fitted predictor's would be.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from pointsman_policy.simulator.sample_prompts import KINDS, prompt_text

SEED = 2_508
PROMPTS = 1_200
MODELS = {
    # name as in mix-instruct: (skill, length relative to the task's)
    "alpaca-native": (0.74, 0.8),
    "chatglm-6b": (0.72, 1.2),
    "mpt-7b-instruct": (0.66, 1.0),
    "koala-7B-HF": (0.70, 1.1),
    "llama-7b-hf-baize-lora-bf16": (0.68, 1.15),
    "mpt-7b": (0.55, 1.3),
}
_TASK_TOKENS = {
    "arithmetic": 110,
    "code": 180,
    "summary": 90,
    "extraction": 120,
    "translation": 60,
    "advice": 200,
    "classification": 12,
}
_SKILL_BY_TASK = 0.35
_SKILL_BY_PROMPT = 0.5
_RELIABILITY = 0.5
"""Share of a prediction that comes from the prompt; the rest is the model's mean."""


def write_sample(path: Path, prompts: int = PROMPTS, seed: int = SEED) -> None:
    """Write the rows as JSONL; the same arguments give the same bytes.

    Args:
        path: The file; its folder must exist.
        prompts: Rows.
        seed: Any non-negative integer.
    """
    rng = np.random.default_rng(seed)
    by_task = {kind: rng.normal(0.0, _SKILL_BY_TASK, len(MODELS)) for kind in KINDS}
    rows = [_row(index, by_task, rng) for index in range(prompts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def _row(index: int, by_task: dict[str, np.ndarray[Any, Any]], rng: np.random.Generator) -> dict[str, Any]:
    kind = KINDS[int(rng.integers(len(KINDS)))]
    ease, extent = 0.5 * rng.standard_normal(), 0.35 * rng.standard_normal()
    candidates, scores, lengths = [], [], []
    for model, (name, (skill, verbosity)) in enumerate(MODELS.items()):
        logit = math.log(skill / (1 - skill)) + by_task[kind][model]
        score = _logistic(logit + ease + _SKILL_BY_PROMPT * rng.standard_normal())
        mean_tokens = _TASK_TOKENS[kind] * verbosity
        tokens = max(1, round(mean_tokens * math.exp(extent + 0.25 * rng.standard_normal())))
        candidates.append({"model": name, "scores": {"bertscore": round(score, 4)}, "output_tokens": tokens})
        scores.append(round(_RELIABILITY * score + (1 - _RELIABILITY) * _logistic(logit), 4))
        lengths.append(round(mean_tokens * (tokens / mean_tokens) ** _RELIABILITY, 1))
    return {
        "id": f"p{index:05}",
        "instruction": prompt_text(kind, rng),
        "input": "",
        "candidates": candidates,
        "pred_score": scores,
        "pred_output_tokens": lengths,
    }


def _logistic(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-logit))
