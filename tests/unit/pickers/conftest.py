from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pytest

from pointsman_policy.pickers.picker import Picker
from pointsman_policy.state import RoutingState, empty_state

Column: TypeAlias = float | Sequence[float]
MakeState: TypeAlias = Callable[..., RoutingState]
Choices: TypeAlias = Callable[[Picker, RoutingState], list[int]]


@pytest.fixture
def make_state() -> MakeState:
    """Return a function that makes a state of idle experts, all allowed, with the given columns set."""

    def make(
        experts: int = 3,
        expert: Mapping[str, Column] | None = None,
        candidate: Mapping[str, Column] | None = None,
        request: Mapping[str, float] | None = None,
        allowed: Sequence[bool] | None = None,
    ) -> RoutingState:
        state = empty_state(experts)
        columns = {
            "base_seconds": 0.01,
            "per_sequence_seconds": 1e-4,
            "per_context_token_seconds": 1e-7,
            "per_prefill_token_seconds": 1e-5,
            "maximum_running_count": 8,
            "kv_cache_utilization_ratio": np.nan,
        }
        for name, value in {**columns, **(expert or {})}.items():
            state.expert[name] = value
        for name, value in {"predicted_quality": 0.5, "predicted_output_tokens": 100, **(candidate or {})}.items():
            state.candidate[name] = value
        for name, value in {"prompt_tokens": 100, "mean_work_seconds": 1.0, **(request or {})}.items():
            state.request[name] = value
        state.allowed[:] = True if allowed is None else allowed
        return state

    return make


@pytest.fixture
def choices() -> Choices:
    """Return a function that lists what a picker chooses over evenly spread random numbers."""

    def choose(picker: Picker, state: RoutingState) -> list[int]:
        return [picker.pick(state, uniform).expert for uniform in (np.arange(60) + 0.5) / 60]

    return choose
