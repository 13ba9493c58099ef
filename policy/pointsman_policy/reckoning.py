"""Dead reckoning: from old telemetry and one's own dispatches to what every expert looks like now.

Telemetry is seconds old when a decision is made, while the router knows to the millisecond what it has sent. So each
expert's requests are the router's own open ones, moved on in time with the latency model, plus those of others: what
the last sample counted beyond the router's own at that moment.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.compiled import compiled
from pointsman_policy.latency.estimator import (
    DEFAULT_LENGTH_SPREAD,
    DEFAULT_PESSIMISM,
    DEFAULT_SPREAD,
    estimate_all,
    tightest,
    work_seconds,
)
from pointsman_policy.ledger import Ledger, open_at, open_entry
from pointsman_policy.pace import PREFILL_WINDOW_SECONDS, batch_of, pace_ratio
from pointsman_policy.state import Record, RoutingState

BELIEF = np.dtype(
    [
        ("base_seconds", np.float32),
        ("per_sequence_seconds", np.float32),
        ("per_context_token_seconds", np.float32),
        ("per_prefill_token_seconds", np.float32),
        ("kv_capacity_tokens", np.float32),  # 0 = unknown
        ("maximum_running_count", np.float32),
        ("quality_prior", np.float32),
        ("engine", np.float32),
    ]
)
"""What is believed of an expert apart from its load."""

LOAD = np.dtype(
    [
        ("sampled_at", np.float64),  # -inf = never
        ("other_running_count", np.float32),  # requests that are not this router's
        ("other_waiting_count", np.float32),
        ("kv_cache_utilization_ratio", np.float32),  # as sampled; NaN = not said
        ("running_limit", np.float32),  # batch seen while requests waited for a place; inf = none did
        ("prefill_tokens_per_second", np.float32),  # recent mean at `prefill_at`
        ("prefill_at", np.float64),
        ("observed_seconds", np.float32),  # that reported tokens took, fading; see `pace`
        ("believed_seconds", np.float32),  # that they should have taken
    ]
)
"""What is known of an expert's load apart from the router's own open requests."""

ARRIVALS = np.dtype(
    [
        ("first_at", np.float64),
        ("last_at", np.float64),
        ("load_ratio", np.float64),  # decayed sum, before correction for the start
        ("mean_work_seconds", np.float64),
        ("count", np.int64),
    ]
)
"""Estimate of the offered load of one policy."""

LOAD_WINDOW_SECONDS = 15.0
"""Time constant of the load estimate: long enough to average a dozen arrivals, short enough to follow a burst."""

_LEAST_REMAINING_SHARE = 0.25
_ARRIVING_SECONDS = 0.5


def new_loads(experts: int) -> npt.NDArray[np.void]:
    """Return LOAD rows of experts never heard of, [X]."""
    loads = np.zeros(experts, LOAD)
    loads["sampled_at"] = -np.inf
    loads["kv_cache_utilization_ratio"] = np.nan
    loads["running_limit"] = np.inf
    return loads


def new_arrivals() -> npt.NDArray[np.void]:
    """Return the ARRIVALS row of a policy without any arrival, [1]."""
    return np.zeros(1, ARRIVALS)


@compiled
def _arriving(ledger: Ledger, expert: int, moment: float, requests: float) -> float:
    """Return how many of an expert's requests may have come too late for the iteration under way at a moment.

    Those of other routers are taken to come as those of this one; one more than seen may be on its way.
    """
    arriving = 1.0
    for k in range(ledger.open_count[expert] - 1, -1, -1):
        arrival_at = ledger.entry[ledger.order[expert, k]].arrival_at
        if arrival_at <= moment - _ARRIVING_SECONDS:
            break
        if arrival_at <= moment:
            arriving += 1.0
    return arriving * requests / (open_at(ledger, expert, moment) + 1.0)


@compiled
def observe(
    ledger: Ledger,
    loads: npt.NDArray[np.void],
    expert: int,
    sampled_at: float,
    running: float,
    waiting: float,
    kv_cache_utilization_ratio: float,
) -> None:
    """Take a load sample of one expert; NaN = the server did not say.

    A sample without a running count says nothing of other routers' requests, so what was known of them stays. Requests
    that wait tell that the batch is full only if there are more than have just come: those wait for the next iteration.
    """
    load = loads[expert]
    load.sampled_at = sampled_at
    load.kv_cache_utilization_ratio = kv_cache_utilization_ratio
    load.running_limit = np.inf
    if running > 0.0 and waiting > _arriving(ledger, expert, sampled_at, running + waiting):
        load.running_limit = running
    if np.isnan(running):
        return
    if np.isnan(waiting):
        waiting = 0.0
    others = max(running + waiting - open_at(ledger, expert, sampled_at), 0.0)
    load.other_running_count = min(others, running)
    load.other_waiting_count = others - load.other_running_count


@compiled
def note_prefill(loads: npt.NDArray[np.void], expert: int, now: float, prompt_tokens: float) -> None:
    """Count a prompt sent to an expert in its recent rate of prompt tokens."""
    load = loads[expert]
    decay = np.exp(-(now - load.prefill_at) / PREFILL_WINDOW_SECONDS)
    load.prefill_tokens_per_second = load.prefill_tokens_per_second * decay + prompt_tokens / PREFILL_WINDOW_SECONDS
    load.prefill_at = now


@compiled
def _write_slot(
    slot: Record,
    entry: Record,
    generated: float,
    total: float,
    first_at: float,
    now: float,
    capacity: float,
) -> None:
    slot.prompt_tokens = entry.prompt_tokens
    slot.predicted_quality = entry.predicted_quality
    slot.predicted_output_tokens = total
    slot.generated_tokens = generated
    slot.kv_share = 0.0
    if capacity > 0.0:
        slot.kv_share = (entry.prompt_tokens + generated) / capacity
    slot.age_seconds = now - entry.arrival_at
    slot.decode_age_seconds = 0.0
    slot.ntpot_seconds = 0.0
    if generated > 0.0:
        slot.decode_age_seconds = max(now - first_at, 0.0)
        slot.ntpot_seconds = slot.age_seconds / generated
    slot.ttft_objective_seconds = entry.ttft_objective_seconds
    slot.tpot_objective_seconds = entry.tpot_objective_seconds
    slot.ntpot_objective_seconds = entry.ntpot_objective_seconds


@compiled
def _reckon_own(
    ledger: Ledger, expert: int, now: float, room: float, iteration: float, i: int, state: RoutingState
) -> None:
    """Move the router's own open requests on one expert on to now and write them into row i of the state."""
    row = state.expert[i]
    capacity = row.kv_capacity_tokens
    running_slots = state.running.shape[1]
    waiting_slots = state.waiting.shape[1]
    # Sums are kept out of memory, which every entry would have to wait for.
    running_context = float(row.running_context_tokens)
    running_remaining = float(row.running_remaining_tokens)
    waiting_prompt = float(row.waiting_prompt_tokens)
    waiting_output = float(row.waiting_output_tokens)
    tokens_per_second = 1.0 / iteration
    running = 0
    waiting = 0
    full = False
    for k in range(ledger.open_count[expert]):
        entry = ledger.entry[ledger.order[expert, k]]
        started = not np.isnan(entry.first_token_at)
        if not started and not full:
            over = capacity > 0.0 and running_context + entry.prompt_tokens > capacity and running > 0
            full = running >= room or over
        generated = float(entry.tokens)
        first_at = entry.first_token_at
        if started:
            generated = max(generated, 1.0) + max(now - max(entry.progress_at, first_at), 0.0) * tokens_per_second
        elif not full:
            first_at = entry.expected_first_token_at
            if now > first_at:
                generated = 1.0 + (now - first_at) * tokens_per_second
        predicted = float(entry.predicted_output_tokens)
        total = max(predicted, generated + max(_LEAST_REMAINING_SHARE * predicted, 1.0))
        if started or not full:
            running_context += entry.prompt_tokens + generated
            running_remaining += total - generated
            if running < running_slots:
                state.running_mask[i, running] = True
                slot = state.running[i, running]
            running += 1
            listed = running <= running_slots
        else:
            waiting_prompt += entry.prompt_tokens
            waiting_output += total
            if waiting < waiting_slots:
                state.waiting_mask[i, waiting] = True
                slot = state.waiting[i, waiting]
            waiting += 1
            listed = waiting <= waiting_slots
        if listed:
            _write_slot(slot, entry, generated, total, first_at, now, capacity)
    row.running_context_tokens = running_context
    row.running_remaining_tokens = running_remaining
    row.waiting_prompt_tokens = waiting_prompt
    row.waiting_output_tokens = waiting_output
    row.running_request_count += running
    row.waiting_request_count += waiting


@compiled
def reckon(
    ledger: Ledger,
    beliefs: npt.NDArray[np.void],
    loads: npt.NDArray[np.void],
    selection: npt.NDArray[np.int64],
    now: float,
    state: RoutingState,
) -> None:
    """Write what every selected expert looks like now into a state; its request side is left alone.

    Args:
        ledger: Open requests of X experts.
        beliefs: BELIEF rows, [X].
        loads: LOAD rows, [X].
        selection: Indices into X of the state's experts, [E].
        now: Seconds on the clock of the ledger and the loads.
        state: Its expert, running and waiting parts are written.
    """
    state.running_mask[:] = False
    state.waiting_mask[:] = False
    for i in range(selection.shape[0]):
        x = selection[i]
        belief = beliefs[x]
        load = loads[x]
        row = state.expert[i]
        pace = pace_ratio(load)
        row.pace_ratio = pace
        row.pace_seconds = load.observed_seconds
        row.base_seconds = belief.base_seconds * pace
        row.per_sequence_seconds = belief.per_sequence_seconds * pace
        row.per_context_token_seconds = belief.per_context_token_seconds * pace
        row.per_prefill_token_seconds = belief.per_prefill_token_seconds * pace
        row.kv_capacity_tokens = belief.kv_capacity_tokens
        row.maximum_running_count = min(belief.maximum_running_count, max(load.running_limit, 1.0))
        row.quality_prior = belief.quality_prior
        row.engine = belief.engine
        row.in_flight_count = ledger.open_count[x]
        row.telemetry_age_seconds = now - load.sampled_at
        row.prefill_tokens_per_second = load.prefill_tokens_per_second * np.exp(
            -(now - load.prefill_at) / PREFILL_WINDOW_SECONDS
        )
        others = float(load.other_running_count)
        batch, mean_context, mean_output = batch_of(ledger, x, others, row.maximum_running_count)
        iteration = row.base_seconds + batch * (row.per_sequence_seconds + row.per_context_token_seconds * mean_context)
        row.running_request_count = others
        row.running_context_tokens = others * mean_context
        row.running_remaining_tokens = others * 0.5 * mean_output
        row.waiting_request_count = load.other_waiting_count
        row.waiting_prompt_tokens = load.other_waiting_count * mean_context
        row.waiting_output_tokens = load.other_waiting_count * mean_output
        _reckon_own(ledger, x, now, row.maximum_running_count - others, iteration, i, state)
        row.kv_cache_utilization_ratio = load.kv_cache_utilization_ratio
        if row.kv_capacity_tokens > 0.0:
            row.kv_cache_utilization_ratio = min(row.running_context_tokens / row.kv_capacity_tokens, 1.0)


@compiled
def count_arrival(arrivals: npt.NDArray[np.void], now: float, state: RoutingState) -> None:
    """Take the arrival of the state's request into the load estimate and write the estimate into the request.

    Each arrival offers ``1 / sum_e(1 / work_e)`` seconds of the whole fleet's time (see `work_seconds`); the load is
    the decayed sum of these over the window, so 1 means that the experts can just carry what arrives within the
    objectives.
    """
    request = state.request[0]
    limit = tightest(request.tpot_objective_seconds, request.ntpot_objective_seconds)
    rate = 0.0
    experts = 0
    for e in range(state.expert.shape[0]):
        if state.allowed[e]:
            output = max(float(state.candidate[e].predicted_output_tokens), 1.0)
            rate += 1.0 / work_seconds(state, e, request.prompt_tokens, output, limit)
            experts += 1
    row = arrivals[0]
    request.sequence = row.count % 1048576
    if experts == 0:
        return
    if row.count == 0:
        row.first_at = now
        row.mean_work_seconds = experts / rate
    row.load_ratio = row.load_ratio * np.exp(-(now - row.last_at) / LOAD_WINDOW_SECONDS)
    known = max(1.0 - np.exp(-(now - row.first_at) / LOAD_WINDOW_SECONDS), 0.1)
    request.load_ratio = row.load_ratio / known
    row.load_ratio += 1.0 / (rate * LOAD_WINDOW_SECONDS)
    row.mean_work_seconds += (experts / rate - row.mean_work_seconds) * 0.02
    row.last_at = now
    row.count += 1
    request.mean_work_seconds = row.mean_work_seconds


class Asked(NamedTuple):
    """What a router knows of one request before it looks at any expert."""

    prompt_tokens: float
    ttft_objective_seconds: float
    """0 = none, as for the other objectives."""
    tpot_objective_seconds: float
    ntpot_objective_seconds: float
    quality_floor: float
    """Experts predicted below are left out, unless all are: an answer below the floor is better than none."""
    priority: float
    may_drop: bool
    most_output_tokens: float
    """The client's limit; inf = none."""


@compiled
def assemble(
    ledger: Ledger,
    beliefs: npt.NDArray[np.void],
    loads: npt.NDArray[np.void],
    selection: npt.NDArray[np.int64],
    arrivals: npt.NDArray[np.void],
    now: float,
    asked: Asked,
    quality: npt.NDArray[np.float32],
    output_tokens: npt.NDArray[np.float32],
    usable: npt.NDArray[np.bool_],
    state: RoutingState,
) -> int:
    """Write the whole state of one request and return how many experts are allowed.

    Args:
        ledger: Open requests of X experts.
        beliefs: BELIEF rows, [X].
        loads: LOAD rows, [X].
        selection: Indices into X of the state's experts, [E].
        arrivals: ARRIVALS row of the policy; this arrival is counted in.
        now: Seconds on the clock of the ledger and the loads.
        asked: The request.
        quality: Predicted on each expert, [E].
        output_tokens: Predicted on each expert, [E].
        usable: Whether each expert may serve this request apart from its quality, [E].
        state: Is written.
    """
    request = state.request[0]
    request.prompt_tokens = asked.prompt_tokens
    request.ttft_objective_seconds = asked.ttft_objective_seconds
    request.tpot_objective_seconds = asked.tpot_objective_seconds
    request.ntpot_objective_seconds = asked.ntpot_objective_seconds
    request.quality_floor = asked.quality_floor
    request.priority = asked.priority
    request.may_drop = 1.0 if asked.may_drop else 0.0
    above = False
    for e in range(selection.shape[0]):
        state.candidate[e].predicted_quality = quality[e]
        state.candidate[e].predicted_output_tokens = min(output_tokens[e], asked.most_output_tokens)
        above = above or (usable[e] and quality[e] >= asked.quality_floor)
    allowed = 0
    for e in range(selection.shape[0]):
        state.allowed[e] = usable[e] and (not above or quality[e] >= asked.quality_floor)
        if state.allowed[e]:
            allowed += 1
    reckon(ledger, beliefs, loads, selection, now, state)
    count_arrival(arrivals, now, state)
    return allowed


@compiled
def open_request(
    ledger: Ledger,
    loads: npt.NDArray[np.void],
    expert: int,
    choice: int,
    now: float,
    state: RoutingState,
    estimates: npt.NDArray[np.void],
) -> int:
    """Predict the state's request on every expert and open it on one; returns its slot, -1 if the ledger is full.

    Args:
        ledger: Open requests.
        loads: LOAD rows, [X].
        expert: Index of the choice among the X experts.
        choice: Index of the choice in the state.
        now: Seconds on the clock of the ledger and the loads.
        state: The request's.
        estimates: ESTIMATE rows, [E]; are written.
    """
    estimate_all(state, DEFAULT_PESSIMISM, DEFAULT_SPREAD, DEFAULT_LENGTH_SPREAD, estimates)
    slot = open_entry(ledger, expert)
    if slot < 0:
        return slot
    request = state.request[0]
    entry = ledger.entry[slot]
    entry.arrival_at = now
    entry.first_token_at = np.nan
    entry.expected_first_token_at = now + estimates[choice].ttft_seconds
    entry.progress_at = now
    entry.tokens = 0.0
    entry.prompt_tokens = request.prompt_tokens
    entry.predicted_quality = state.candidate[choice].predicted_quality
    entry.predicted_output_tokens = state.candidate[choice].predicted_output_tokens
    entry.ttft_objective_seconds = request.ttft_objective_seconds
    entry.tpot_objective_seconds = request.tpot_objective_seconds
    entry.ntpot_objective_seconds = request.ntpot_objective_seconds
    note_prefill(loads, expert, now, request.prompt_tokens)
    return slot
