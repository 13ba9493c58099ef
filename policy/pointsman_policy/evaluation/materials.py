"""What the suite is made of: measured data from a folder, or the packaged sample."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointsman_policy.errors import DocumentError
from pointsman_policy.simulator.sample import data_folder

Experts = tuple[Mapping[str, Any], ...]
"""`experts` of a scenario document."""


@dataclass(frozen=True)
class Materials:
    """The files and fleets that the suite is made of; paths are relative to the folder."""

    folder: Path
    profiles: str | None
    scores: Mapping[str, str]
    """`quality.scores` and `quality.prompts` of most scenarios."""
    chat_scores: Mapping[str, str]
    """The same of the chat scenario."""
    conversation: str
    """Trace of arrivals and lengths."""
    code: str
    """Trace of arrivals only: its answers are too short for per-token objectives."""
    rates: Mapping[str, str]
    """`arrivals.rates` and `ratesColumn`; empty = the made-up day."""
    trio: Experts
    six: Experts
    unlike: Experts
    """Different GPUs, partly under the same model."""
    chat: Experts


def measured(folder: Path) -> Materials:
    """Return the materials of a data folder.

    Raises:
        DocumentError: If one of its files is missing.
    """
    materials = Materials(
        folder=folder,
        profiles="profiles/iteration_time_fits.csv",
        scores={"scores": "quality/zeroeval_scores.parquet", "prompts": "quality/zeroeval_prompts.parquet"},
        chat_scores={"scores": "quality/llmrouter9_scores.parquet", "prompts": "quality/llmrouter9_prompts.parquet"},
        conversation="traces/azure_conv_2023_first_half.csv",
        code="traces/azure_code_2023_first_half.csv",
        rates={"rates": "traces/servegen_rate_10min.csv", "ratesColumn": "m-large_rps"},
        trio=(
            {"name": "small", "model": "gemma-2-2b", "gpu": "L40S"},
            {"name": "middle", "model": "Llama-3.1-8B", "gpu": "A100-SXM-80G"},
            {"name": "large", "model": "gemma-2-9b", "gpu": "A100-SXM-80G"},
        ),
        six=(
            {"name": "tiny", "model": "gemma-2-2b", "gpu": "L40S"},
            {"name": "small", "model": "Phi-3.5-mini", "gpu": "L40S", "qualityModel": "Phi-3.5-mini-instruct"},
            {"name": "seven", "model": "Qwen2.5-7B", "gpu": "A100-SXM-80G", "qualityModel": "Qwen2-7B-Instruct"},
            {"name": "eight", "model": "Llama-3.1-8B", "gpu": "RTX4090"},
            {"name": "fast-eight", "model": "Llama-3.1-8B", "gpu": "A100-SXM-80G"},
            {"name": "large", "model": "gemma-2-9b", "gpu": "A100-SXM-80G"},
        ),
        unlike=(
            {"name": "small", "model": "gemma-2-2b", "gpu": "L40S"},
            {"name": "desktop", "model": "Llama-3.1-8B", "gpu": "RTX4090"},
            {"name": "server", "model": "Llama-3.1-8B", "gpu": "L40S"},
            {"name": "large", "model": "gemma-2-9b", "gpu": "A100-SXM-80G"},
        ),
        chat=(
            {"name": "seven", "model": "Qwen2.5-7B", "gpu": "L40S", "qualityModel": "qwen2.5-7b-instruct"},
            {"name": "eight", "model": "Llama-3.1-8B", "gpu": "A100-SXM-80G", "qualityModel": "llama-3.1-8b-instruct"},
            {"name": "large", "model": "gemma-2-9b", "gpu": "A100-SXM-80G"},
        ),
    )
    needed = (materials.conversation, materials.code, materials.rates["rates"], materials.profiles or "")
    for name in (*needed, *materials.scores.values(), *materials.chat_scores.values()):
        if not (folder / name).is_file():
            raise DocumentError("--data", f"{folder} has no {name}; docs/benchmarks.md lists the files it must hold")
    return materials


def packaged() -> Materials:
    """Return the synthetic sample's materials."""
    folder = data_folder()
    scores = {"scores": "scores.csv", "prompts": "prompts.csv"}
    small = {"name": "small", "model": "gemma-2-2b", "gpu": "A10"}
    middle = {"name": "middle", "model": "Llama-3.1-8B", "gpu": "L40S"}
    large = {"name": "large", "model": "gemma-2-9b", "gpu": "A100-SXM-80G"}
    tiny = {"name": "tiny", "model": "Llama-3.2-1B", "gpu": "T4"}
    fast = {"name": "fast", "model": "Llama-3.1-8B", "gpu": "A100-SXM-80G"}
    desktop = {"name": "desktop", "model": "Llama-3.1-8B", "gpu": "RTX4090"}
    return Materials(
        folder=folder,
        profiles=None,
        scores=scores,
        chat_scores=scores,
        conversation="trace.csv",
        code="trace.csv",
        rates={},
        trio=(small, middle, large),
        six=(tiny, small, middle, fast, desktop, large),
        unlike=(tiny, desktop, middle, large),
        chat=(tiny, fast, large),
    )
