"""The document ``experts.yaml``: which experts there are, and what is believed about each before any telemetry.

The router reads it as its static endpoint list; ``pointsman expert-sim`` starts one emulated server for each entry.
What an emulated server really does may differ from the belief: that is the entry's ``simulation`` part, which the
router ignores.
"""

import ipaddress
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pointsman_policy.documents import Document, name_pattern, parse, read_yaml
from pointsman_policy.errors import DocumentError

Engine = Literal["vllm", "sglang", "tgi", "llamacpp", "triton"]


class IterationTime(Document):
    """Coefficients of the iteration-time model, in milliseconds (see ``pointsman_policy.latency``)."""

    base_milliseconds: float = Field(gt=0, le=10_000)
    """c0: an iteration with nothing in it."""
    per_sequence_milliseconds: float = Field(ge=0, le=1_000)
    """c_seq: each running sequence."""
    per_context_token_milliseconds: float = Field(ge=0, le=10)
    """c_ctx: each token of context held by running sequences."""
    per_prefill_token_milliseconds: float = Field(ge=0, le=100)
    """c_prefill: each prompt token admitted in the iteration."""


class Simulation(Document):
    """How an emulated expert differs from what is believed of it."""

    speed: float = Field(default=1.0, gt=0, le=1_000)
    """Iterations run this many times as fast as the coefficients say."""
    iteration_time: IterationTime | None = None
    """True coefficients; default: the believed ones."""


class Expert(Document):
    """One routable endpoint serving one model."""

    name: str = Field(pattern=name_pattern(63))
    """Unique; a pod's name in Kubernetes."""
    endpoint: str
    """"ip:port" of its OpenAI-compatible server (IPv6 in brackets)."""
    model: str = Field(min_length=1, max_length=253)
    """The model's name in profiles and quality tables."""
    served_model_names: tuple[str, ...] = ()
    """Names that its server accepts in "model", its own first; default: `model`."""
    gpu: str = ""
    """GPU type as in profiles, such as "L40S"; empty if unknown."""
    engine: Engine = "vllm"
    labels: dict[str, str] = Field(default_factory=dict)
    """Matched by a RouterPolicy's selector."""
    ready: bool = True
    """False takes the expert out of routing at once."""
    quality_prior_percent: int = Field(default=50, ge=0, le=100)
    """Expected quality of an answer, before the prompt is known."""
    output_tokens_prior: int = Field(default=256, ge=1, le=1_000_000)
    """Expected length of an answer, tokens."""
    context_length_tokens: int = Field(default=0, ge=0)
    """Prompt and answer together at most; 0 = not limited."""
    maximum_running: int = Field(default=256, ge=1, le=4_096)
    """Most sequences in one iteration (vLLM's --max-num-seqs)."""
    kv_capacity_tokens: int = Field(default=0, ge=0)
    """Tokens that fit in the KV cache; 0 = from the profile or estimated."""
    iteration_time: IterationTime | None = None
    """Believed coefficients; default: the profile of (model, gpu), else estimated from both."""
    simulation: Simulation = Simulation()

    @field_validator("endpoint")
    @classmethod
    def _is_address(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        try:
            ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        except ValueError:
            raise ValueError('must be "ip:port" with a literal IP address') from None
        if not colon or not port.isdigit() or not 0 < int(port) < 65_536:
            raise ValueError('must be "ip:port" with a port from 1 to 65535')
        return value

    @property
    def names(self) -> tuple[str, ...]:
        """Names that the server accepts in "model", its own first."""
        return self.served_model_names or (self.model,)


class ExpertList(Document):
    """The whole of ``experts.yaml``."""

    profiles: str | None = None
    """CSV of iteration-time fits, relative to this file (format: docs/file-formats.md)."""
    experts: tuple[Expert, ...] = Field(min_length=0, max_length=1_000)

    @model_validator(mode="after")
    def _unique(self) -> "ExpertList":
        for what in ("name", "endpoint"):
            values = [getattr(expert, what) for expert in self.experts]
            for value in values:
                if values.count(value) > 1:
                    raise ValueError(f"two experts have the {what} {value!r}; each needs its own")
        return self


def read_experts(path: Path) -> ExpertList:
    """Read and check an ``experts.yaml``.

    Raises:
        DocumentError: If it cannot be read or is wrong; the message names each wrong field.
    """
    documents = read_yaml(path)
    if len(documents) != 1:
        raise DocumentError(
            str(path), f"must hold exactly one YAML document with the key 'experts', found {len(documents)}"
        )
    return parse(ExpertList, documents[0], str(path))
