"""How fast an expert is believed to be: measured profiles per (GPU, model), and an estimate where there is none.

An iteration of a continuously batching server that runs B sequences holding C tokens of context, and takes in P prompt
tokens, lasts ``c0 + c_seq*B + c_ctx*C + c_prefill*P`` seconds. These four coefficients and the KV-cache capacity are
all that the latency model, the pickers and the simulator know of an expert's hardware.
"""

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pointsman_policy.errors import DocumentError
from pointsman_policy.experts import Expert, IterationTime
from pointsman_policy.latency.datasheets import (
    DEFAULT_GPU,
    DEFAULT_PARAMETERS,
    canonical_gpu,
    canonical_model,
    find_gpu,
    find_model,
    sized,
)
from pointsman_policy.tabular import Row, read_rows

_LAUNCH_SECONDS = 0.8e-3
_WEIGHTS_EFFICIENCY = 0.90
_CONTEXT_EFFICIENCY = 0.74
_PREFILL_EFFICIENCY = 0.80
_SEQUENCE_SHARE = 0.70
_MEMORY_SHARE = 0.90
_OVERHEAD_BYTES = 1.5e9
_LEAST_KV_TOKENS = 4_096


@dataclass(frozen=True, slots=True)
class IterationTimeCoefficients:
    """Coefficients of the iteration-time model, seconds."""

    base_seconds: float
    """c0: an iteration with nothing in it."""
    per_sequence_seconds: float
    """c_seq: each running sequence."""
    per_context_token_seconds: float
    """c_ctx: each token of context held by running sequences."""
    per_prefill_token_seconds: float
    """c_prefill: each prompt token taken in."""

    def scaled(self, factor: float) -> "IterationTimeCoefficients":
        """Return these coefficients with every iteration `factor` times as long."""
        return IterationTimeCoefficients(
            self.base_seconds * factor,
            self.per_sequence_seconds * factor,
            self.per_context_token_seconds * factor,
            self.per_prefill_token_seconds * factor,
        )

    @classmethod
    def from_document(cls, value: IterationTime) -> "IterationTimeCoefficients":
        """Return what a user's document says in milliseconds."""
        return cls(
            value.base_milliseconds * 1e-3,
            value.per_sequence_milliseconds * 1e-3,
            value.per_context_token_milliseconds * 1e-3,
            value.per_prefill_token_milliseconds * 1e-3,
        )


class ProfileSource(enum.Enum):
    """Where a profile's coefficients come from, most trusted first."""

    EXPERT = "expert"
    """The expert's own document."""
    PROFILE = "profile"
    """A row of a profiles file."""
    PRIOR = "prior"
    """Estimated from the data sheets of its GPU and model."""
    DEFAULT = "default"
    """Estimated with a stand-in for an unknown GPU or an unknown size of model."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One model on one GPU."""

    gpu: str
    model: str
    coefficients: IterationTimeCoefficients
    kv_capacity_tokens: int
    source: ProfileSource = ProfileSource.PROFILE


class ProfileTable:
    """The profiles of a file, found by model and GPU whatever their letter case, owner prefix or maker's name.

    Args:
        profiles: Any; of two that are the same to a look-up, the first one counts.
    """

    def __init__(self, profiles: Iterable[Profile]) -> None:
        self._by_model: dict[str, dict[str, Profile]] = {}
        for profile in profiles:
            self._by_model.setdefault(canonical_model(profile.model), {}).setdefault(
                canonical_gpu(profile.gpu), profile
            )

    def __len__(self) -> int:
        return sum(map(len, self._by_model.values()))

    def __iter__(self) -> Iterator[Profile]:
        for by_gpu in self._by_model.values():
            yield from by_gpu.values()

    def find(self, model: str, gpu: str) -> Profile | None:
        """Return the profile of a model on a GPU; a GPU's short name ("A100") serves if it fits only one of them."""
        by_gpu = self._by_model.get(canonical_model(model), {})
        wanted = canonical_gpu(gpu)
        if not wanted:
            return None
        if wanted in by_gpu:
            return by_gpu[wanted]
        started = [profile for name, profile in by_gpu.items() if name.startswith(wanted)]
        return started[0] if len(started) == 1 else None


_MILLISECOND_COLUMNS = ("L4_c0_ms", "L4_c_seq_ms", "L4_c_ctx_ms", "L4_c_prefill_ms")


def read_profiles(path: Path) -> ProfileTable:
    """Read a CSV of iteration-time fits (format: docs/file-formats.md).

    Raises:
        DocumentError: Names the line and column of the first wrong value.
    """
    profiles: dict[tuple[str, str], Profile] = {}
    for row in read_rows(path, ("gpu", "model", "kv_capacity_tokens", *_MILLISECOND_COLUMNS)):
        profile = _profile(row)
        key = (canonical_gpu(profile.gpu), canonical_model(profile.model))
        if key in profiles:
            raise row.error("model", f"a second row for {profile.model} on {profile.gpu}; keep one")
        profiles[key] = profile
    if not profiles:
        raise DocumentError(str(path), "holds no profiles; add a row for each GPU and model, or leave the file out")
    return ProfileTable(profiles.values())


def _profile(row: Row) -> Profile:
    base, *others = _MILLISECOND_COLUMNS
    if row.number(base, 0, 10_000) == 0:
        raise row.error(base, "must be above 0; an iteration always takes time")
    return Profile(
        gpu=row.text("gpu"),
        model=row.text("model"),
        coefficients=IterationTimeCoefficients(
            row.number(base) * 1e-3, *(row.number(column, 0, 10_000) * 1e-3 for column in others)
        ),
        kv_capacity_tokens=row.integer("kv_capacity_tokens", 1),
    )


def estimate_profile(model: str, gpu: str) -> Profile:
    """Estimate a profile from data sheets by the roofline: decoding is bound by memory, prefill by arithmetic.

    With W bytes of weights, N parameters, K bytes of KV cache per token, bandwidth M, throughput F and memory G::

        c0        = 0.8 ms + W / (0.90 M)       launch overhead, then every weight is read once
        c_ctx     = K / (0.74 M)                each token of context is read once
        c_prefill = 2 N / (0.80 F)              a multiplication and an addition per parameter
        c_seq     = 0.70 c_prefill              one sequence decodes one token
        KV tokens = (0.90 G - W - 1.5 GB) / K   at least 4,096

    The constants are chosen on measured profiles of A100, L40S and RTX 4090 with models of 0.5B to 32B (median absolute
    error there: c0 5 %, c_ctx 3 %, c_prefill 16 %). An unknown GPU counts as `DEFAULT_GPU`, a model of unknown size as
    `DEFAULT_PARAMETERS`; the source is then DEFAULT.
    """
    found_gpu, found_model = find_gpu(gpu), find_model(model)
    card = found_gpu or DEFAULT_GPU
    size = found_model or sized(DEFAULT_PARAMETERS)
    per_prefill_token = 2 * size.parameters / (_PREFILL_EFFICIENCY * card.flops)
    free_bytes = _MEMORY_SHARE * card.memory_bytes - size.weight_bytes - _OVERHEAD_BYTES
    return Profile(
        gpu=gpu,
        model=model,
        coefficients=IterationTimeCoefficients(
            base_seconds=_LAUNCH_SECONDS + size.weight_bytes / (_WEIGHTS_EFFICIENCY * card.bandwidth_bytes_per_second),
            per_sequence_seconds=_SEQUENCE_SHARE * per_prefill_token,
            per_context_token_seconds=size.kv_bytes_per_token / (_CONTEXT_EFFICIENCY * card.bandwidth_bytes_per_second),
            per_prefill_token_seconds=per_prefill_token,
        ),
        kv_capacity_tokens=max(_LEAST_KV_TOKENS, int(free_bytes / size.kv_bytes_per_token)),
        source=ProfileSource.PRIOR if found_gpu and found_model else ProfileSource.DEFAULT,
    )


def beliefs(expert: Expert, profiles: ProfileTable | None) -> Profile:
    """Return what is believed of an expert: its own document first, then its profile, then the estimate.

    `source` tells where the coefficients come from; the KV capacity may come from another place.
    """
    return resolve_profile(expert.model, expert.gpu, expert.iteration_time, expert.kv_capacity_tokens, profiles)


def resolve_profile(
    model: str,
    gpu: str,
    iteration_time: IterationTime | None,
    kv_capacity_tokens: int,
    profiles: ProfileTable | None,
) -> Profile:
    """Return the profile of a model on a GPU, overruled by what a document states itself (None and 0 = not stated)."""
    found = profiles.find(model, gpu) if profiles is not None else None
    profile = found or estimate_profile(model, gpu)
    if iteration_time is not None:
        profile = replace(
            profile,
            coefficients=IterationTimeCoefficients.from_document(iteration_time),
            source=ProfileSource.EXPERT,
        )
    return replace(profile, gpu=gpu, model=model, kv_capacity_tokens=kv_capacity_tokens or profile.kv_capacity_tokens)


def capacity_requests_per_second(
    coefficients: IterationTimeCoefficients,
    *,
    prompt_tokens: float,
    output_tokens: float,
    token_seconds: float,
    maximum_running: int,
    kv_capacity_tokens: int,
) -> float:
    """Return the rate of like requests that an expert carries in the steady state within a per-token limit.

    With B sequences running, each of p prompt and D output tokens, a sequence's context is p + D/2 tokens on average,
    and B/D sequences end, and so are replaced, in each iteration. An iteration therefore lasts c0 + B*s, where s =
    c_seq + c_ctx*(p + D/2) + c_prefill*p/D. A running request gets one token an iteration, so the limit L bounds the
    batch to B* = (L - c0)/s, clipped to at least 1 and at most what the server runs or its KV cache holds. A request
    lasts D iterations: the rate is B*/(D*(c0 + B* s)).

    Args:
        coefficients: The expert's.
        prompt_tokens: Mean prompt length p, tokens.
        output_tokens: Mean answer length D, tokens, above 0.
        token_seconds: The limit L, seconds per output token; 0 = none.
        maximum_running: Most sequences in one iteration.
        kv_capacity_tokens: Tokens that fit in the KV cache; 0 = not limited.
    """
    per_sequence = (
        coefficients.per_sequence_seconds
        + coefficients.per_context_token_seconds * (prompt_tokens + output_tokens / 2)
        + coefficients.per_prefill_token_seconds * prompt_tokens / output_tokens
    )
    running = float(maximum_running)
    if kv_capacity_tokens > 0:
        running = min(running, kv_capacity_tokens / (prompt_tokens + output_tokens))
    if token_seconds > 0 and per_sequence > 0:
        running = min(running, (token_seconds - coefficients.base_seconds) / per_sequence)
    running = max(running, 1.0)
    return running / (output_tokens * (coefficients.base_seconds + running * per_sequence))
