"""A small scenario with prompts, and settings that use it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pointsman_operator.demo.settings import DemoSettings
from pointsman_operator.demo.workload import DemoWorkload, read_workload

PROMPTS = 40
MODELS = {"gemma-2-2b": 0.25, "Llama-3.1-8B": 0.75}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with prompts.jsonl, scores.jsonl and scenario.yaml."""
    prompts = [
        {"prompt_id": f"p{i}", "prompt": f"Line one\r\nof prompt {i} \u2603", "prompt_tokens": i + 5}
        for i in range(PROMPTS)
    ]
    scores = [
        {"prompt_id": f"p{i}", "model": model, "score": score, "out_tokens": 10 + i}
        for i in range(PROMPTS)
        for model, score in MODELS.items()
    ]
    for name, rows in (("prompts", prompts), ("scores", scores)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    document = {
        "name": "small",
        "experts": [
            {"name": "small", "model": "gemma-2-2b", "gpu": "L40S", "maximumRunning": 4},
            {"name": "large", "model": "Llama-3.1-8B", "gpu": "A100-SXM-80G", "maximumRunning": 4, "replicas": 2},
        ],
        "quality": {"scores": "scores.jsonl", "prompts": "prompts.jsonl"},
        "objectives": {"normalizedTimePerOutputTokenMilliseconds": 30, "timeToFirstTokenMilliseconds": 2000},
        "admission": {"mode": "ShedSheddable", "sheddablePercent": 50},
        "loadFactors": [0.5],
    }
    (tmp_path / "scenario.yaml").write_text(yaml.safe_dump(document))
    return tmp_path


@pytest.fixture
def change_scenario(files: Path) -> Callable[..., None]:
    """Put other values into scenario.yaml."""

    def change(**changes: Any) -> None:
        path = files / "scenario.yaml"
        document: Mapping[str, Any] = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({**document, **changes}))

    return change


@pytest.fixture
def settings(files: Path) -> DemoSettings:
    return DemoSettings(
        out=files / "out", scenario=files / "scenario.yaml", requests=30, pickers=("RoundRobin", "ImpactGreedy")
    )


@pytest.fixture
def workload(settings: DemoSettings) -> DemoWorkload:
    return read_workload(settings)
