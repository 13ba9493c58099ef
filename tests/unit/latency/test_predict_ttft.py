import numpy as np
import pytest

from pointsman_policy.latency.estimator import ESTIMATE, estimate, predict_ttft_seconds
from pointsman_policy.state import RoutingState, empty_state


def _state(running: int, waiting: int) -> RoutingState:
    state = empty_state(1)
    state.request[0]["prompt_tokens"] = 300
    state.candidate[0]["predicted_output_tokens"] = 150
    row = state.expert[0]
    row["base_seconds"], row["per_sequence_seconds"] = 0.01, 1e-4
    row["per_context_token_seconds"], row["per_prefill_token_seconds"] = 1e-7, 5e-5
    row["maximum_running_count"], row["kv_capacity_tokens"] = 8, 100_000
    row["running_request_count"], row["running_context_tokens"] = running, 400 * running
    row["running_remaining_tokens"] = 100 * running
    row["waiting_request_count"], row["waiting_prompt_tokens"] = waiting, 300 * waiting
    row["waiting_output_tokens"] = 150 * waiting
    state.running_mask[0, :running] = True
    state.running[0]["predicted_output_tokens"] = 150
    state.running[0]["generated_tokens"] = 50
    return state


@pytest.mark.parametrize(("running", "waiting"), [(0, 0), (5, 0), (8, 0), (8, 4)])
def test_the_short_way_to_the_first_token_agrees_with_the_whole_estimate(running: int, waiting: int) -> None:
    state = _state(running, waiting)
    whole = np.zeros(1, ESTIMATE)

    estimate(state, 0, 1.1, 0.25, 0.5, whole)

    assert predict_ttft_seconds(state, 0, 1.1) == whole[0]["ttft_seconds"]
