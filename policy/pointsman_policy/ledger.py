"""The in-flight ledger's arrays and the kernels that keep them: which requests this router has open on which expert.

Kept as arrays so that the state of a decision is assembled without a Python loop over requests, and so that the
simulator knows exactly what a router would know. Experts are indices here; who they are is the owner's business.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.compiled import compiled

ENTRY = np.dtype(
    [
        ("arrival_at", np.float64),
        ("first_token_at", np.float64),  # as reported; NaN = not yet
        ("expected_first_token_at", np.float64),  # predicted at the decision
        ("progress_at", np.float64),  # when `tokens` was true
        ("request", np.int64),  # the owner's number for it
        ("tokens", np.float32),  # generated, as last reported
        ("prompt_tokens", np.float32),
        ("predicted_quality", np.float32),
        ("predicted_output_tokens", np.float32),
        ("ttft_objective_seconds", np.float32),
        ("tpot_objective_seconds", np.float32),
        ("ntpot_objective_seconds", np.float32),
    ]
)

_ENDED_KEPT = 512  # a hundred ends a second between a sample and its arrival five seconds later


class Ledger(NamedTuple):
    """Open requests of X experts; at most C at once."""

    entry: npt.NDArray[np.void]
    """ENTRY rows, [C]; indexed by slot."""
    order: npt.NDArray[np.int32]
    """Slots of each expert's open requests in order of arrival, [X, C]; the first `open_count` are valid."""
    open_count: npt.NDArray[np.int32]
    """Open requests per expert, [X]."""
    free: npt.NDArray[np.int32]
    """Stack of unused slots, [C]."""
    free_count: npt.NDArray[np.int32]
    """Height of that stack, [1]."""
    ended: npt.NDArray[np.float64]
    """Ring of (arrival, end) of requests that ended lately, [X, 512, 2]."""
    ended_count: npt.NDArray[np.int64]
    """Requests ever ended per expert, [X]."""


def new_ledger(experts: int, capacity: int) -> Ledger:
    """Return an empty ledger."""
    return Ledger(
        entry=np.zeros(capacity, ENTRY),
        order=np.zeros((experts, capacity), np.int32),
        open_count=np.zeros(experts, np.int32),
        free=np.arange(capacity - 1, -1, -1, dtype=np.int32),
        free_count=np.full(1, capacity, np.int32),
        ended=np.full((experts, _ENDED_KEPT, 2), -np.inf),
        ended_count=np.zeros(experts, np.int64),
    )


def grown(ledger: Ledger, experts: int, capacity: int) -> Ledger:
    """Return a ledger with the same open requests and room for more experts or requests; slots stay what they are."""
    old_experts, old_capacity = ledger.order.shape
    new = new_ledger(experts, capacity)
    new.entry[:old_capacity] = ledger.entry
    new.order[:old_experts, :old_capacity] = ledger.order
    new.open_count[:old_experts] = ledger.open_count
    added = capacity - old_capacity
    height = int(ledger.free_count[0])
    new.free[:added] = np.arange(capacity - 1, old_capacity - 1, -1)
    new.free[added : added + height] = ledger.free[:height]
    new.free_count[0] = added + height
    new.ended[:old_experts] = ledger.ended
    new.ended_count[:old_experts] = ledger.ended_count
    return new


@compiled
def open_entry(ledger: Ledger, expert: int) -> int:
    """Append a request to an expert's open ones and return its slot, -1 if the ledger is full; the caller fills it."""
    if ledger.free_count[0] == 0:
        return -1
    ledger.free_count[0] -= 1
    slot = ledger.free[ledger.free_count[0]]
    ledger.order[expert, ledger.open_count[expert]] = slot
    ledger.open_count[expert] += 1
    return int(slot)


@compiled
def close_entry(ledger: Ledger, expert: int, slot: int, ended_at: float) -> bool:
    """Remove a request from an expert's open ones; False if it is not there."""
    count = ledger.open_count[expert]
    for k in range(count):
        if ledger.order[expert, k] == slot:
            for j in range(k, count - 1):
                ledger.order[expert, j] = ledger.order[expert, j + 1]
            ledger.open_count[expert] = count - 1
            ledger.free[ledger.free_count[0]] = slot
            ledger.free_count[0] += 1
            ring = ledger.ended_count[expert] % _ENDED_KEPT
            ledger.ended[expert, ring, 0] = ledger.entry[slot].arrival_at
            ledger.ended[expert, ring, 1] = ended_at
            ledger.ended_count[expert] += 1
            return True
    return False


@compiled
def open_at(ledger: Ledger, expert: int, moment: float) -> int:
    """Return how many of the router's requests were open on an expert at a recent moment (what a sample counted)."""
    count = 0
    for k in range(ledger.open_count[expert]):
        if ledger.entry[ledger.order[expert, k]].arrival_at <= moment:
            count += 1
    for k in range(min(ledger.ended_count[expert], _ENDED_KEPT)):
        if ledger.ended[expert, k, 0] <= moment < ledger.ended[expert, k, 1]:
            count += 1
    return count
