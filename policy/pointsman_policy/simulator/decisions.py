"""From one decision to the next: the kernels that every simulation is made of.

`arrive` brings the world to a request's arrival and writes the state that a router would have; `dispatch` carries out
what was chosen; `finish` serves what is left. The truth, the engine, is seen through the router's own ledger,
dead-reckoned with believed coefficients, through load samples that arrive late, and through outcomes that arrive late.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.compiled import compiled
from pointsman_policy.latency.estimator import DEFAULT_PESSIMISM, predict_ttft_seconds
from pointsman_policy.ledger import Ledger, close_entry, open_entry
from pointsman_policy.pace import note_progress
from pointsman_policy.reckoning import count_arrival, note_prefill, observe, reckon
from pointsman_policy.simulator.changes import ADDED, LOST, PACE, USABLE
from pointsman_policy.simulator.engine import (
    Engine,
    advance,
    change_pace,
    enqueue,
    fail,
    generated,
    lose,
)
from pointsman_policy.simulator.requests import Requests
from pointsman_policy.state import DROP, RoutingState

_SURELY_WITHIN = 0.999
"""Share of the progress interval within which no new report can have come, however times are rounded."""

CLOCK = np.dtype(
    [
        ("next_sample_at", np.float64),  # inf = none; those taken at every decision are not scheduled
        ("next_event_at", np.float64),  # inf = none
        ("event", np.int64),  # index of that one
        ("telemetry_interval", np.float64),  # seconds, as the others
        ("telemetry_delay", np.float64),
        ("outcome_delay", np.float64),
        ("progress_interval", np.float64),
        ("dead_reckoning", np.bool_),
    ]
)


class Samples(NamedTuple):
    """Load samples on their way to the router: a ring of S."""

    at: npt.NDArray[np.float64]
    """[S]."""
    running: npt.NDArray[np.int64]
    """-1 = the expert did not answer, [S, E]."""
    waiting: npt.NDArray[np.int64]
    """[S, E]."""
    context: npt.NDArray[np.float64]
    """[S, E]."""
    taken: npt.NDArray[np.int64]
    """Ever, [1]."""
    seen: npt.NDArray[np.int64]
    """By the router, [1]."""


class Notes(NamedTuple):
    """The rest of a simulation under way: n requests, E experts, C events."""

    events: npt.NDArray[np.void]
    """EVENT rows in order of time, [C]."""
    clock: npt.NDArray[np.void]
    """CLOCK row, [1]."""
    beliefs: npt.NDArray[np.void]
    """BELIEF rows, [E]."""
    loads: npt.NDArray[np.void]
    """LOAD rows, [E]."""
    arrivals: npt.NDArray[np.void]
    """ARRIVALS row, [1]."""
    selection: npt.NDArray[np.int64]
    """0 to E - 1, [E]."""
    usable: npt.NDArray[np.bool_]
    """Known to be there, [E]."""
    may_drop: npt.NDArray[np.bool_]
    """[n]."""
    slots: npt.NDArray[np.int64]
    """Of each request in the ledger, [n]."""
    seen_ends: npt.NDArray[np.int64]
    """How many of each expert's ends have become known, [E]."""


class World(NamedTuple):
    """All of a simulation under way but the rule.

    Kernels take its parts: taking them out of it for every request would count references to every array.
    """

    engine: Engine
    """The truth; what follows is what the router knows."""
    requests: Requests
    ledger: Ledger
    samples: Samples
    state: RoutingState
    """What is known of the request that was brought last."""
    notes: Notes


@compiled
def arrive(
    engine: Engine,
    requests: Requests,
    ledger: Ledger,
    samples: Samples,
    state: RoutingState,
    notes: Notes,
    i: int,
    whole: bool,
) -> bool:
    """Bring a world to the arrival of request i and write its state; False if no expert is allowed.

    Args:
        engine: The world's, as the other parts; it has been brought to the request before.
        requests: All of them.
        ledger: The router's.
        samples: On their way to the router.
        state: Is written.
        notes: The rest of the world.
        i: Index of the request.
        whole: Write all of the state; otherwise only what rules without a view of single requests look at.
    """
    clock = notes.clock[0]
    now = requests.arrival_at[i]
    if clock.next_sample_at <= now:
        _skip_samples(samples, notes, now)
    _elapse(engine, samples, notes, now)
    if clock.telemetry_interval <= 0.0:
        _take_sample(engine, samples, now)
    for x in range(notes.selection.shape[0]):
        if notes.seen_ends[x] < engine.expert[x].finished_count:
            _learn_ends(engine, requests, ledger, notes, x, now - clock.outcome_delay, whole)
    seen = samples.seen[0]
    if seen < samples.taken[0]:
        _learn_samples(engine, ledger, samples, notes, now)
    allowed = _write_request(requests, notes, i, state)
    if whole:
        _learn_progress(engine, ledger, notes, now)
        if clock.dead_reckoning or samples.seen[0] > seen or notes.arrivals[0].count == 0:
            reckon(ledger, notes.beliefs, notes.loads, notes.selection, now, state)
        count_arrival(notes.arrivals, now, state)
    else:
        _count(ledger, notes, state)
        state.request[0].sequence = i % 1048576
    return allowed


@compiled
def dispatch(
    engine: Engine,
    requests: Requests,
    ledger: Ledger,
    state: RoutingState,
    notes: Notes,
    i: int,
    x: int,
    whole: bool,
) -> None:
    """Send request i, the one that `arrive` brought last, to expert x.

    Args:
        engine: The world's, as the other parts.
        requests: All of them.
        ledger: The router's.
        state: Of the request.
        notes: The rest of the world.
        i: Index of the request.
        x: Index of the expert.
        whole: As for `arrive`.
    """
    now = requests.arrival_at[i]
    slot = _open(requests, ledger, i, x)
    notes.slots[i] = slot
    if whole:
        ledger.entry[slot].expected_first_token_at = now + predict_ttft_seconds(state, x, DEFAULT_PESSIMISM)
        note_prefill(notes.loads, x, now, requests.prompt_tokens[i])
    if engine.expert[x].available:
        enqueue(engine, x, i, requests.prompt_tokens[i], requests.output_tokens[i, x], now)
    else:
        fail(engine, x, i)


@compiled
def may_choose(state: RoutingState, x: int) -> bool:
    """Tell whether the state's request may be sent to expert x, or dropped if x is DROP."""
    if x == DROP:
        return bool(state.request[0].may_drop > 0.0)
    return bool(0 <= x < state.allowed.shape[0] and state.allowed[x])


@compiled
def finish(engine: Engine, samples: Samples, notes: Notes) -> None:
    """Serve everything that is left to its end."""
    notes.clock[0].next_sample_at = np.inf
    _elapse(engine, samples, notes, np.inf)


@compiled
def _elapse(engine: Engine, samples: Samples, notes: Notes, until: float) -> None:
    """Bring the experts to a moment, through the samples and events before it."""
    clock = notes.clock[0]
    while True:
        moment = min(until, min(clock.next_sample_at, clock.next_event_at))
        for x in range(engine.expert.shape[0]):
            advance(engine, x, moment)
        if clock.next_sample_at == moment and moment < np.inf:
            _take_sample(engine, samples, moment)
            clock.next_sample_at = samples.taken[0] * clock.telemetry_interval
        elif clock.next_event_at == moment and moment < np.inf:
            _happen(engine, notes)
        else:
            return


@compiled
def _happen(engine: Engine, notes: Notes) -> None:
    """Let the next event happen."""
    clock = notes.clock[0]
    event = notes.events[clock.event]
    x = event.expert
    if event.kind == PACE:
        change_pace(engine, x, event.factor, event.at)
    elif event.kind == LOST:
        lose(engine, x, event.at)
    elif event.kind == ADDED:
        engine.expert[x].available = True
    else:
        notes.usable[x] = event.kind == USABLE
    clock.event += 1
    clock.next_event_at = np.inf
    if clock.event < notes.events.shape[0]:
        clock.next_event_at = notes.events[clock.event].at


@compiled
def _open(requests: Requests, ledger: Ledger, i: int, x: int) -> int:
    slot = open_entry(ledger, x)
    entry = ledger.entry[slot]
    entry.request = i
    entry.arrival_at = requests.arrival_at[i]
    entry.first_token_at = np.nan
    entry.progress_at = requests.arrival_at[i]
    entry.tokens = 0.0
    entry.prompt_tokens = requests.prompt_tokens[i]
    entry.predicted_quality = requests.predicted_quality[i, x]
    entry.predicted_output_tokens = requests.predicted_output_tokens[i, x]
    entry.ttft_objective_seconds = requests.objectives[i, 0]
    entry.tpot_objective_seconds = requests.objectives[i, 1]
    entry.ntpot_objective_seconds = requests.objectives[i, 2]
    return slot


@compiled
def _take_sample(engine: Engine, samples: Samples, moment: float) -> None:
    ring = samples.taken[0] % samples.at.shape[0]
    samples.at[ring] = moment
    for x in range(engine.expert.shape[0]):
        samples.running[ring, x] = engine.expert[x].running_count if engine.expert[x].available else -1
        samples.waiting[ring, x] = engine.expert[x].queue_count
        samples.context[ring, x] = engine.expert[x].context
    samples.taken[0] += 1


@compiled
def _skip_samples(samples: Samples, notes: Notes, now: float) -> None:
    """After a long gap, pass over the samples that will have been replaced before anybody sees them."""
    clock = notes.clock[0]
    latest = int(now / clock.telemetry_interval)
    kept = samples.at.shape[0] // 2
    if latest - kept > samples.taken[0]:
        samples.taken[0] = latest - kept
        clock.next_sample_at = samples.taken[0] * clock.telemetry_interval


@compiled
def _learn_samples(engine: Engine, ledger: Ledger, samples: Samples, notes: Notes, now: float) -> None:
    """Hand the newest sample that has reached the router to its load estimate."""
    newest = samples.seen[0]
    oldest = max(samples.taken[0] - samples.at.shape[0], samples.seen[0])
    for k in range(samples.taken[0] - 1, oldest - 1, -1):
        if samples.at[k % samples.at.shape[0]] + notes.clock[0].telemetry_delay <= now:
            newest = k + 1
            break
    if newest == samples.seen[0]:
        return
    samples.seen[0] = newest
    ring = (newest - 1) % samples.at.shape[0]
    at = samples.at[ring]
    for x in range(engine.expert.shape[0]):
        if samples.running[ring, x] < 0:
            continue
        used = np.nan
        if engine.expert[x].kv_capacity < np.inf:
            used = samples.context[ring, x] / engine.expert[x].kv_capacity
        observe(ledger, notes.loads, x, at, samples.running[ring, x], samples.waiting[ring, x], used)


@compiled
def _learn_ends(
    engine: Engine, requests: Requests, ledger: Ledger, notes: Notes, x: int, known_until: float, whole: bool
) -> None:
    """Close the ledger's entries of answers whose end has become known."""
    while notes.seen_ends[x] < engine.expert[x].finished_count:
        i = engine.finished[x, notes.seen_ends[x]]
        ended = engine.request[i]
        ended_at = ended.finished_at
        failed = np.isnan(ended_at)
        if failed:  # when its expert was lost, or at once if that had happened before
            ended_at = max(engine.expert[x].lost_at, requests.arrival_at[i])
        if ended_at > known_until:
            return
        slot = notes.slots[i]
        if whole and not failed:
            tokens = float(ended.output_tokens)
            note_progress(ledger, notes.beliefs, notes.loads, x, slot, ended_at, tokens, ended.first_token_at)
        close_entry(ledger, x, slot, ended_at)
        notes.seen_ends[x] += 1


@compiled
def _learn_progress(engine: Engine, ledger: Ledger, notes: Notes, now: float) -> None:
    """Give running entries what the last progress report before now said of them."""
    interval = notes.clock[0].progress_interval
    for x in range(engine.expert.shape[0]):
        if not engine.expert[x].available:
            continue
        for k in range(ledger.open_count[x]):
            slot = ledger.order[x, k]
            entry = ledger.entry[slot]
            if now - entry.progress_at < _SURELY_WITHIN * interval:
                continue
            i = entry.request
            first_token_at = engine.request[i].first_token_at
            if np.isnan(first_token_at):
                continue
            reported_at = now
            if interval > 0.0:
                reported_at = entry.arrival_at + interval * int((now - entry.arrival_at) / interval)
            if reported_at < first_token_at or reported_at <= entry.progress_at:
                continue
            span = engine.expert[x].clock - first_token_at
            share = 1.0
            if span > 0.0:
                share = min((reported_at - first_token_at) / span, 1.0)
            tokens = 1.0 + share * (generated(engine, x, i) - 1)
            note_progress(ledger, notes.beliefs, notes.loads, x, slot, reported_at, tokens, first_token_at)


@compiled
def _count(ledger: Ledger, notes: Notes, state: RoutingState) -> None:
    """Write only how many requests each expert has."""
    for x in range(notes.selection.shape[0]):
        row, load = state.expert[x], notes.loads[x]
        most = notes.beliefs[x].maximum_running_count
        total = ledger.open_count[x] + load.other_running_count + load.other_waiting_count
        row.maximum_running_count = most
        row.running_request_count = min(total, most)
        row.waiting_request_count = total - row.running_request_count


@compiled
def _write_request(requests: Requests, notes: Notes, i: int, state: RoutingState) -> bool:
    """Write the request's side of the state; False if no expert is allowed."""
    request = state.request[0]
    request.prompt_tokens = requests.prompt_tokens[i]
    request.ttft_objective_seconds = requests.objectives[i, 0]
    request.tpot_objective_seconds = requests.objectives[i, 1]
    request.ntpot_objective_seconds = requests.objectives[i, 2]
    request.quality_floor = requests.quality_floor
    request.priority = requests.priority[i]
    request.may_drop = 0.0
    if notes.may_drop[i]:
        request.may_drop = 1.0
    above = False
    for x in range(state.allowed.shape[0]):
        state.candidate[x].predicted_quality = requests.predicted_quality[i, x]
        state.candidate[x].predicted_output_tokens = requests.predicted_output_tokens[i, x]
        above = above or (notes.usable[x] and requests.predicted_quality[i, x] >= requests.quality_floor)
    allowed = False
    for x in range(state.allowed.shape[0]):
        fits = not above or requests.predicted_quality[i, x] >= requests.quality_floor
        state.allowed[x] = notes.usable[x] and fits
        allowed = allowed or state.allowed[x]
    return bool(allowed)
