"""Public figures of GPUs and models: enough to estimate how fast one serves the other before anything is measured.

GPU figures are the makers' data sheets: memory bandwidth, dense FP16 tensor throughput (without sparsity) and memory.
For Jetson modules, which share their memory with the CPU, throughput is a quarter of the GPU's part of the advertised
sparse INT8 figure. Model figures are parameters and the KV-cache bytes of one token at 16 bits: 2 * layers * KV heads *
head size * 2.
"""

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """What a data sheet says of one GPU."""

    name: str
    bandwidth_bytes_per_second: float
    flops: float
    """Dense FP16, operations per second."""
    memory_bytes: float


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What decides a model's speed on a given GPU."""

    parameters: float
    kv_bytes_per_token: float
    weight_bytes: float


def _gpu(name: str, gigabytes_per_second: float, teraflops: float, gigabytes: float) -> Gpu:
    return Gpu(name, gigabytes_per_second * 1e9, teraflops * 1e12, gigabytes * 1e9)


GPUS = (
    _gpu("H200", 4800, 989, 141),
    _gpu("H100-SXM-80G", 3350, 989, 80),
    _gpu("H100-PCIE-80G", 2000, 756, 80),
    _gpu("A100-SXM-80G", 2039, 312, 80),
    _gpu("A100-PCIE-80G", 1935, 312, 80),
    _gpu("A100-40G", 1555, 312, 40),
    _gpu("A40", 696, 149.7, 48),
    _gpu("A30", 933, 165, 24),
    _gpu("A10", 600, 125, 24),
    _gpu("A10G", 600, 70, 24),
    _gpu("A2", 200, 18, 16),
    _gpu("L40S", 864, 362, 48),
    _gpu("L40", 864, 181, 48),
    _gpu("L4", 300, 121, 24),
    _gpu("V100-32G", 900, 125, 32),
    _gpu("T4", 320, 65, 16),
    _gpu("RTX4090", 1008, 165.2, 24),
    _gpu("RTX3090", 936, 71, 24),
    _gpu("RTX6000-Ada", 960, 364.2, 48),
    _gpu("RTXA6000", 768, 154.8, 48),
    _gpu("Jetson-AGX-Orin-64G", 204.8, 42.5, 64),
    _gpu("Jetson-AGX-Orin-32G", 204.8, 27, 32),
    _gpu("Jetson-Orin-NX-16G", 102.4, 17.5, 16),
    _gpu("Jetson-Orin-Nano-8G", 68, 10, 8),
)
DEFAULT_GPU = _gpu("unknown", 300, 65, 24)
"""Stands in for a GPU that is not listed: a small server card. Too slow a belief costs less than one too fast."""

_GPU_ALIASES = {
    # as the device plugin labels nodes: name in GPUS
    "a100pcie40g": "A100-40G",
    "a100sxm40g": "A100-40G",
    "h10080g": "H100-SXM-80G",
    "orin": "Jetson-AGX-Orin-32G",
}
_GPU_DECORATIONS = re.compile(r"nvidia|geforce|tesla|hbm[23]e?|[^a-z0-9]|(?<=sxm)[2-6](?=-?\d)|(?<=\dg)b")

_MODELS = {
    # name: (billions of parameters, KiB of KV cache per token)
    "alpaca-native": (6.74, 512),
    "baize-7b": (6.74, 512),
    "chatglm-6b": (6.17, 448),
    "gemma-2-27b": (27.2, 368),
    "gemma-2-2b": (2.61, 104),
    "gemma-2-9b": (9.24, 336),
    "koala-7b": (6.74, 512),
    "llama-3.1-70b": (70.6, 320),
    "llama-3.1-8b": (8.03, 128),
    "llama-3.2-1b": (1.24, 32),
    "llama-3.2-3b": (3.21, 112),
    "mistral-7b": (7.25, 128),
    "mistral-nemo-12b": (12.25, 160),
    "mpt-7b": (6.65, 512),
    "phi-3.5-mini": (3.82, 384),
    "phi-4": (14.7, 200),
    "qwen2.5-0.5b": (0.494, 12),
    "qwen2.5-1.5b": (1.54, 28),
    "qwen2.5-14b": (14.0, 192),
    "qwen2.5-32b": (32.0, 256),
    "qwen2.5-3b": (3.09, 36),
    "qwen2.5-7b": (7.62, 56),
    "qwen3-0.6b": (0.6, 112),
    "qwen3-1.7b": (1.72, 112),
    "qwen3-14b": (14.8, 160),
    "qwen3-4b": (4.02, 144),
    "qwen3-8b": (8.19, 144),
    "yi-1.5-34b": (34.4, 240),
}
DEFAULT_PARAMETERS = 7e9
"""Stands in where a model is not listed and its name tells no size."""

_SIZE = re.compile(r"(?<![a-z0-9.])(?:(\d{1,3})x)?(\d{1,4}(?:\.\d{1,3})?)([bm])(?![a-z0-9])")
_FOUR_BIT = re.compile(r"[-_.](awq|gptq|int4|4bit|w4a16|q4\w*)(?=$|[-_.])")
_EIGHT_BIT = re.compile(r"[-_.](fp8|int8|8bit|w8a8|q8\w*)(?=$|[-_.])")
_TUNING = re.compile(r"[-_](instruct|it|chat|hf)(?=$|[-_])")


def canonical_model(name: str) -> str:
    """Return a model's name without owner, letter case and the marks of instruction tuning.

    "meta-llama/Meta-Llama-3.1-8B-Instruct" and "Llama-3.1-8B" are the same architecture, and equally fast.
    """
    return _TUNING.sub("", name.rpartition("/")[2].lower().removeprefix("meta-"))


def canonical_gpu(name: str) -> str:
    """Return a GPU's name without maker, letter case and punctuation: "NVIDIA-A100-SXM4-80GB" becomes "a100sxm80g"."""
    return _GPU_DECORATIONS.sub("", name.lower())


def find_gpu(name: str) -> Gpu | None:
    """Return the data sheet of a GPU.

    A longer name ("NVIDIA-L40S-48GB") finds the one that it starts with; of several that a short name fits ("A100"),
    the one with the least bandwidth is returned.
    """
    wanted = canonical_gpu(_GPU_ALIASES.get(canonical_gpu(name), name))
    by_name = {canonical_gpu(gpu.name): gpu for gpu in GPUS}
    if wanted in by_name:
        return by_name[wanted]
    shorter = [known for known in by_name if wanted.startswith(known) and not wanted[len(known)].isdigit()]
    if shorter:
        return by_name[max(shorter, key=len)]
    longer = [gpu for known, gpu in by_name.items() if len(wanted) >= 2 and known.startswith(wanted)]
    return min(longer, key=lambda gpu: gpu.bandwidth_bytes_per_second, default=None)


def find_model(name: str) -> ModelSize | None:
    """Return a model's size from the table, or from a size in its name ("...-13b", "...-8x7b", "...-350m").

    An unlisted model's KV cache is taken as 48 KiB * sqrt(billions of parameters) per token, which fits models with
    grouped-query attention. Names that say AWQ, GPTQ, FP8 and the like have smaller weights.
    """
    canonical = canonical_model(name)
    listed = _MODELS.get(_EIGHT_BIT.sub("", _FOUR_BIT.sub("", canonical)))
    if listed is not None:
        return _size(listed[0] * 1e9, listed[1] * 1024.0, canonical)
    match = _SIZE.search(canonical)
    if match is None:
        return None
    parameters = float(match[2]) * (1e9 if match[3] == "b" else 1e6) * int(match[1] or 1)
    return sized(parameters, canonical) if parameters > 0 else None


def sized(parameters: float, name: str = "") -> ModelSize:
    """Return the figures of a model of which only the number of parameters is known."""
    return _size(parameters, 48 * 1024 * math.sqrt(parameters / 1e9), name)


def _size(parameters: float, kv_bytes_per_token: float, canonical: str) -> ModelSize:
    bytes_per_parameter = 2.0
    if _FOUR_BIT.search(canonical):
        bytes_per_parameter = 0.56  # group scales included
    elif _EIGHT_BIT.search(canonical):
        bytes_per_parameter = 1.0
    return ModelSize(parameters, kv_bytes_per_token, parameters * bytes_per_parameter)
