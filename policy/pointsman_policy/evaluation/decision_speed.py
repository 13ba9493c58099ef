"""How long a picker takes for one decision, by how many experts there are, each with all its slots in use."""

import time
from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table

from pointsman_policy.pickers.picker import Picker
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.pickers.trained import as_picker
from pointsman_policy.runtime.exported import ExportedPolicy
from pointsman_policy.runtime.size import NetworkSize, weight_shapes
from pointsman_policy.state import RoutingState, empty_state

EXPERTS = (3, 6, 16, 128)
PAPER_SIZE = NetworkSize(channels=64, heads=8, hidden=64)
_BATCH = 20


def timed_pickers() -> dict[str, Picker]:
    """Return by title what is timed: the rule, the learned policy, one with a network as large as the paper's."""
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in weight_shapes(PAPER_SIZE).items()}
    paper = as_picker(ExportedPolicy("HanActor", size=PAPER_SIZE, weights=weights))
    return {
        "ImpactGreedy": PICKERS["ImpactGreedy"],
        "HanActor": PICKERS["HanActor"],
        "HanActor, 64 channels, 8 heads": paper,
    }


def busy_state(experts: int, rng: np.random.Generator) -> RoutingState:
    """Return a state in which every expert is allowed, has a full batch listed and requests waiting."""
    state = empty_state(experts)
    for name, low, high in (
        ("base_seconds", 0.005, 0.03),
        ("per_sequence_seconds", 1e-5, 1e-4),
        ("per_context_token_seconds", 1e-7, 4e-7),
        ("per_prefill_token_seconds", 2e-5, 1e-4),
        ("pace_ratio", 0.8, 1.3),
    ):
        state.expert[name] = rng.uniform(low, high, experts)
    state.expert["maximum_running_count"] = 16
    state.expert["running_request_count"], state.expert["waiting_request_count"] = 16, 12
    state.expert["running_context_tokens"], state.expert["running_remaining_tokens"] = 8_000, 2_000
    state.expert["waiting_prompt_tokens"], state.expert["waiting_output_tokens"] = 4_000, 3_000
    for slots, mask in ((state.running, state.running_mask), (state.waiting, state.waiting_mask)):
        mask[:] = True
        slots["prompt_tokens"] = rng.integers(10, 2_000, mask.shape)
        slots["predicted_output_tokens"] = rng.integers(100, 600, mask.shape)
        slots["age_seconds"], slots["ntpot_objective_seconds"] = rng.uniform(0, 5, mask.shape), 0.03
    state.running["generated_tokens"] = rng.integers(1, 100, state.running_mask.shape)
    state.candidate["predicted_quality"] = rng.uniform(0.3, 0.9, experts)
    state.candidate["predicted_output_tokens"] = rng.integers(50, 500, experts)
    state.request["prompt_tokens"], state.request["ntpot_objective_seconds"] = 500, 0.03
    state.request["load_ratio"], state.request["mean_work_seconds"] = 0.9, 0.5
    state.allowed[:] = True
    return state


def measure_decisions(
    pickers: Mapping[str, Picker], experts: Sequence[int] = EXPERTS, batches: int = 50
) -> dict[str, list[float]]:
    """Return the milliseconds of processor time of one decision by picker, in the order of `experts`.

    Args:
        pickers: By title.
        experts: Numbers of experts.
        batches: Of decisions that are timed, at least 1; the median counts.
    """
    found: dict[str, list[float]] = {}
    for title, picker in pickers.items():
        found[title] = []
        for count in experts:
            state = busy_state(count, np.random.default_rng(count))
            picker.pick(state, 0.5)  # compiles
            taken = []
            for _ in range(batches):
                started = time.process_time()
                for _ in range(_BATCH):
                    picker.pick(state, 0.5)
                taken.append((time.process_time() - started) / _BATCH)
            found[title].append(1e3 * float(np.median(taken)))
    return found


def decision_table(found: Mapping[str, Sequence[float]], experts: Sequence[int] = EXPERTS) -> Table:
    """Return measured times as a table."""
    table = Table(title="Milliseconds of processor time for one decision, every slot in use")
    table.add_column("Picker")
    for count in experts:
        table.add_column(f"{count} experts", justify="right")
    for title, values in found.items():
        table.add_row(title, *(f"{value:.3f}" for value in values))
    return table
