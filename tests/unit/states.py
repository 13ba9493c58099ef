"""Routing states by chance, for what takes any state."""

import numpy as np

from pointsman_policy.state import RoutingState, empty_state


def draw_state(rng: np.random.Generator, experts: int, *, allowed: float = 1.0, slots: int = 10) -> RoutingState:
    """Return a plausible state of some experts with more or fewer requests on each."""
    state = empty_state(experts, slots, slots)
    _draw_experts(rng, state)
    for rows, mask in ((state.running, state.running_mask), (state.waiting, state.waiting_mask)):
        mask[:] = np.arange(slots) < rng.integers(0, slots + 1, (experts, 1)) * (rng.random((experts, 1)) < 0.7)
        _draw_slots(rng, rows)
        rows[~mask] = 0
    state.candidate["predicted_quality"] = rng.uniform(0.1, 0.9, experts)
    state.candidate["predicted_output_tokens"] = rng.integers(5, 600, experts)
    state.request["prompt_tokens"] = rng.integers(1, 4_000)
    state.request["ntpot_objective_seconds"] = rng.choice([0.0, 0.02, 0.03])
    state.request["tpot_objective_seconds"] = rng.choice([0.0, 0.03])
    state.request["ttft_objective_seconds"] = rng.choice([0.0, 2.0])
    state.request["may_drop"] = rng.integers(0, 2)
    state.request["load_ratio"] = rng.uniform(0, 2)
    state.request["mean_work_seconds"] = rng.uniform(0.05, 2)
    state.allowed[:] = rng.random(experts) < allowed
    state.allowed[rng.integers(experts)] = True
    return state


def _draw_experts(rng: np.random.Generator, state: RoutingState) -> None:
    experts = len(state.expert)
    for name, low, high in (
        ("running_request_count", 0, 20),
        ("waiting_request_count", 0, 12),
        ("in_flight_count", 0, 20),
        ("kv_cache_utilization_ratio", 0, 1),
        ("running_context_tokens", 0, 20_000),
        ("running_remaining_tokens", 0, 5_000),
        ("waiting_prompt_tokens", 0, 4_000),
        ("waiting_output_tokens", 0, 4_000),
        ("prefill_tokens_per_second", 0, 4_000),
        ("telemetry_age_seconds", 0, 20),
        ("pace_ratio", 0.5, 2.0),
        ("pace_seconds", 0, 30),
        ("base_seconds", 0.004, 0.03),
        ("per_sequence_seconds", 1e-5, 2e-4),
        ("per_context_token_seconds", 1e-8, 5e-7),
        ("per_prefill_token_seconds", 1e-5, 1e-4),
        ("kv_capacity_tokens", 20_000, 200_000),
        ("quality_prior", 0.2, 0.8),
    ):
        state.expert[name] = rng.uniform(low, high, experts)
    state.expert["maximum_running_count"] = 256
    state.expert["kv_cache_utilization_ratio"][rng.random(experts) < 0.2] = np.nan
    state.expert["kv_capacity_tokens"][rng.random(experts) < 0.2] = 0
    state.expert["telemetry_age_seconds"][rng.random(experts) < 0.1] = np.inf


def _draw_slots(rng: np.random.Generator, rows: np.ndarray[tuple[int, ...], np.dtype[np.void]]) -> None:
    for name, low, high in (
        ("prompt_tokens", 1, 3_000),
        ("predicted_quality", 0, 1),
        ("predicted_output_tokens", 10, 600),
        ("kv_share", 0, 0.1),
        ("age_seconds", 0.1, 20),
        ("decode_age_seconds", 0.0, 10),
        ("ntpot_objective_seconds", 0.0, 0.05),
    ):
        rows[name] = rng.uniform(low, high, rows.shape)
    rows["generated_tokens"] = rng.uniform(0, 0.9, rows.shape) * rows["predicted_output_tokens"]
    rows["ntpot_seconds"] = rows["age_seconds"] / np.maximum(rows["generated_tokens"], 1)


def stacked(states: list[RoutingState]) -> RoutingState:
    """Return states of the same sizes as one with a leading axis on every array."""
    parts = {name: np.stack([getattr(state, name) for state in states]) for name in RoutingState._fields}
    return RoutingState(**parts)
