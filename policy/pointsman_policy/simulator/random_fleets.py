"""Made-up fleets: models of 0.5B to 34B on unlike GPUs, and what is believed of them."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.latency.datasheets import GPUS, find_model, sized
from pointsman_policy.latency.profiles import Profile, estimate_profile

Floats = npt.NDArray[np.float64]

_BATCHES = (4, 8, 16, 32, 64, 128, 256)
_COEFFICIENT_NOISE = 0.2
"""Standard deviation of the logarithm of each coefficient around its estimate from data sheets."""
_FITTING_SHARE = 0.75
"""Of a GPU's memory, that weights may take."""
_FASTEST_BASE_SECONDS = 0.003
_SLOWEST_BASE_SECONDS = 0.1
_ALIKE_CHANCE = 0.3
_REPLICA_CHANCE = 0.3
_UNLIMITED_CHANCE = 0.3
_BELIEF_JITTER = 0.1


class RandomFleet(NamedTuple):
    """E experts before anything is known of the requests."""

    parameters: Floats
    """Size of the model of each, [E]; replicas have the same."""
    model: npt.NDArray[np.int64]
    """Which of the M models each serves, 0 to M - 1, [E]."""
    coefficients: Floats
    """(c0, c_seq, c_ctx, c_prefill), seconds, [E, 4]."""
    kv_capacity: Floats
    """Tokens, 0 = unlimited, [E]."""
    maximum_running: npt.NDArray[np.int64]
    """[E]."""


def draw_fleet(rng: np.random.Generator, experts: int, most_running: int) -> RandomFleet:
    """Draw a fleet: all on one kind of GPU, or on any; a model may have several replicas, on unlike GPUs too.

    Args:
        rng: Gives everything.
        experts: E.
        most_running: Bound of the batch, so that a run can be many times as long as a request.
    """
    gpus = [str(rng.choice([gpu.name for gpu in GPUS]))] * experts
    if rng.random() >= _ALIKE_CHANCE:
        gpus = [str(rng.choice([gpu.name for gpu in GPUS])) for _ in range(experts)]
    sizes: list[float] = []
    profiles: list[Profile] = []
    for gpu in gpus:
        profile, size = _draw_profile(rng, gpu, sizes)
        profiles.append(profile)
        sizes.append(size)
    distinct = sorted(set(sizes))
    estimated = np.array([_row(profile) for profile in profiles])
    noise = rng.lognormal(0.0, _COEFFICIENT_NOISE, estimated.shape)
    batches = np.minimum(rng.choice(_BATCHES, experts), max(most_running, 1))
    if rng.random() < _ALIKE_CHANCE:
        batches[:] = batches[0]
    return RandomFleet(
        parameters=np.array(sizes),
        model=np.array([distinct.index(size) for size in sizes], np.int64),
        coefficients=estimated * noise,
        kv_capacity=_draw_kv_capacity(rng, np.array([profile.kv_capacity_tokens for profile in profiles], np.float64)),
        maximum_running=batches.astype(np.int64),
    )


def _row(profile: Profile) -> tuple[float, float, float, float]:
    one = profile.coefficients
    return (
        one.base_seconds,
        one.per_sequence_seconds,
        one.per_context_token_seconds,
        one.per_prefill_token_seconds,
    )


def _draw_profile(rng: np.random.Generator, gpu: str, others: list[float]) -> tuple[Profile, float]:
    """Return a model that a GPU can hold and serve at a tolerable speed, with its size; often one already there."""
    memory = next(one.memory_bytes for one in GPUS if one.name == gpu)
    for attempt in range(40):
        size = round(float(np.exp(rng.uniform(np.log(0.5), np.log(34.0)))), 2)
        if attempt == 0 and others and rng.random() < _REPLICA_CHANCE:
            size = float(rng.choice(others))
        name = f"model-{size:.2f}b"
        weights = (find_model(name) or sized(size * 1e9)).weight_bytes
        profile = estimate_profile(name, gpu)
        tolerable = _FASTEST_BASE_SECONDS < profile.coefficients.base_seconds < _SLOWEST_BASE_SECONDS
        if tolerable and weights < _FITTING_SHARE * memory:
            return profile, size
    return estimate_profile("model-0.50b", gpu), 0.5


def _draw_kv_capacity(rng: np.random.Generator, estimated: Floats) -> Floats:
    """Return KV capacities: unlimited, as estimated, or a small part of that (memory shared with others)."""
    if rng.random() < _UNLIMITED_CHANCE:
        return np.zeros(len(estimated))
    share = np.exp(rng.uniform(np.log(0.03), 0.0)) * rng.lognormal(0.0, 0.3, len(estimated))
    return np.asarray(np.round(estimated * np.minimum(share, 1.0)))


def draw_beliefs(rng: np.random.Generator, coefficients: Floats, factors: tuple[float, float] | None) -> Floats:
    """Return believed coefficients, [E, 4]: times a common factor between these two, and a jitter; None = exact."""
    if factors is None:
        return coefficients.copy()
    common = np.exp(rng.uniform(np.log(factors[0]), np.log(factors[1])))
    believed: Floats = coefficients * common * rng.lognormal(0.0, _BELIEF_JITTER, (len(coefficients), 1))
    return believed
