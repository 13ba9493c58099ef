"""An event-driven LLM server: iteration-level batching, first-come waiting queue, KV cache with preemption.

One iteration of an expert takes ``c0 + c_seq*B + c_ctx*C + c_prefill*P`` seconds for B sequences holding C tokens, P
of them prompt tokens admitted in this iteration; at its end every sequence has one token more. At each boundary the
server admits from the head of its queue while there is room in the batch, in the KV cache and in the iteration's
prefill budget. When the cache cannot take the next iteration's tokens, the sequence admitted last goes back to the
head of the queue and its tokens are computed again later (recomputation), as in vLLM (Kwon et al., 2023).

Between two changes of the batch the length of n iterations is a closed form, so cost grows with events, not with
tokens. The same kernels run offline, many requests at once, and behind the emulated servers, advanced by the wall
clock.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.compiled import compiled

DEFAULT_PREFILL_BUDGET = 8_192
"""Prompt tokens that one iteration admits at most; a longer prompt is admitted alone (vLLM's
--max-num-batched-tokens)."""


COEFFICIENTS = (
    "base_seconds",
    "per_sequence_seconds",
    "per_context_token_seconds",
    "per_prefill_token_seconds",
)
"""Columns of a coefficient table: c0, c_seq, c_ctx, c_prefill."""

EXPERT = np.dtype(
    [
        ("base_seconds", np.float64),  # true c0
        ("per_sequence_seconds", np.float64),
        ("per_context_token_seconds", np.float64),
        ("per_prefill_token_seconds", np.float64),
        ("kv_capacity", np.float64),  # tokens; inf = unlimited
        ("maximum_running", np.int64),
        ("clock", np.float64),  # start of the iteration under way, or of idleness
        ("tick", np.int64),  # iterations done
        ("busy_seconds", np.float64),
        ("iterating", np.bool_),  # an iteration is under way
        ("prefill", np.float64),  # prompt tokens admitted in it
        ("extra_seconds", np.float64),  # it lasts so much longer than its batch says, see `cancel` and `change_pace`
        ("context", np.float64),  # tokens held by running sequences
        ("running_count", np.int64),
        ("fresh_count", np.int64),  # admitted in the iteration under way
        ("queue_head", np.int64),
        ("queue_count", np.int64),
        ("preemption_count", np.int64),
        ("finished_count", np.int64),  # ever, failed ones too
        ("available", np.bool_),
        ("lost_at", np.float64),  # last time
    ]
)

REQUEST = np.dtype(
    [
        ("prompt_tokens", np.int64),
        ("output_tokens", np.int64),
        ("generated_tokens", np.int64),  # before the last admission
        ("admitted_tick", np.int64),  # -1 while waiting
        ("end_tick", np.int64),
        ("first_token_at", np.float64),  # NaN = not yet
        ("finished_at", np.float64),  # NaN = not yet
    ]
)


class Engine(NamedTuple):
    """X experts and room for N requests."""

    expert: npt.NDArray[np.void]
    """EXPERT rows, [X]."""
    request: npt.NDArray[np.void]
    """REQUEST rows, [N]."""
    running: npt.NDArray[np.int64]
    """Request ids, a heap by the tick of their end, [X, M]."""
    fresh: npt.NDArray[np.int64]
    """Ids admitted in the iteration under way, [X, M]."""
    queue: npt.NDArray[np.int64]
    """Ring of waiting ids, [X, N]."""
    finished: npt.NDArray[np.int64]
    """Ring of ids in the order in which they ended or failed, [X, N]."""


def new_engine(
    coefficients: npt.NDArray[np.float64],
    kv_capacity: npt.NDArray[np.float64],
    maximum_running: npt.NDArray[np.int64],
    requests: int,
) -> Engine:
    """Return idle experts at time 0.

    Args:
        coefficients: True (c0, c_seq, c_ctx, c_prefill) of each expert, seconds, [X, 4].
        kv_capacity: Tokens, [X]; 0 = unlimited.
        maximum_running: Largest batch, [X].
        requests: Room for this many requests at once (offline: in all).
    """
    experts = len(coefficients)
    batch = int(maximum_running.max(initial=1))
    expert = np.zeros(experts, EXPERT)
    for column, name in enumerate(COEFFICIENTS):
        expert[name] = coefficients[:, column]
    expert["kv_capacity"] = np.where(kv_capacity > 0, kv_capacity, np.inf)
    expert["maximum_running"] = maximum_running
    expert["available"] = True
    expert["lost_at"] = -np.inf
    request = np.zeros(requests, REQUEST)
    request["admitted_tick"] = -1
    request["first_token_at"] = np.nan
    request["finished_at"] = np.nan
    return Engine(
        expert=expert,
        request=request,
        running=np.zeros((experts, batch), np.int64),
        fresh=np.zeros((experts, batch), np.int64),
        queue=np.zeros((experts, requests), np.int64),
        finished=np.zeros((experts, requests), np.int64),
    )


@compiled
def enqueue(engine: Engine, x: int, request: int, prompt_tokens: int, output_tokens: int, now: float) -> None:
    """Add a request to an expert's queue; the expert must have been advanced to `now`.

    Args:
        engine: The experts.
        x: The expert.
        request: An id below N that is not in use.
        prompt_tokens: At least 1.
        output_tokens: Tokens after which the answer ends, at least 1.
        now: Arrival, seconds.
    """
    engine.request[request].prompt_tokens = prompt_tokens
    engine.request[request].output_tokens = output_tokens
    engine.request[request].generated_tokens = 0
    engine.request[request].admitted_tick = -1
    engine.request[request].first_token_at = np.nan
    engine.request[request].finished_at = np.nan
    size = engine.queue.shape[1]
    engine.queue[x, (engine.expert[x].queue_head + engine.expert[x].queue_count) % size] = request
    engine.expert[x].queue_count += 1
    if not engine.expert[x].iterating:
        engine.expert[x].clock = max(engine.expert[x].clock, now)
        _begin_iteration(engine, x)


@compiled
def generated(engine: Engine, x: int, request: int) -> int:
    """Return the tokens that a request has by the end of the last complete iteration."""
    if engine.request[request].admitted_tick < 0:
        return int(engine.request[request].generated_tokens)
    return int(engine.request[request].generated_tokens + engine.expert[x].tick - engine.request[request].admitted_tick)


@compiled
def iteration_ends_at(engine: Engine, x: int) -> float:
    """Return when the iteration under way ends, seconds; inf if the expert is idle."""
    if not engine.expert[x].iterating:
        return np.inf
    return float(engine.expert[x].clock + _iteration_seconds(engine, x))


@compiled
def advance(engine: Engine, x: int, until: float) -> None:
    """Complete every iteration of an expert that ends at or before `until` (seconds; inf runs it dry)."""
    while engine.expert[x].iterating:
        batch = engine.expert[x].running_count
        first = _iteration_seconds(engine, x)
        count = 1
        alike = engine.expert[x].prefill == 0.0 and engine.expert[x].extra_seconds == 0.0
        if alike and not _can_admit(engine, x):
            count = engine.request[engine.running[x, 0]].end_tick - engine.expert[x].tick
            room = engine.expert[x].kv_capacity - engine.expert[x].context
            if room < np.inf:
                count = max(min(count, int(room / batch)), 1)
        growth = engine.expert[x].per_context_token_seconds * batch
        count = _iterations_within(engine.expert[x].clock, first, growth, count, until)
        if count == 0:
            return
        seconds = count * first + 0.5 * growth * count * (count - 1)
        engine.expert[x].clock += seconds
        engine.expert[x].busy_seconds += seconds
        engine.expert[x].tick += count
        engine.expert[x].context += count * batch
        _end_iteration(engine, x)
        _begin_iteration(engine, x)


@compiled
def cancel(engine: Engine, x: int, request: int, now: float) -> None:
    """Take a request that has not ended from its expert, which must have been advanced to `now`.

    The iteration under way lasts as long as it would have; only if nothing is left in it, it is broken off.
    """
    if engine.request[request].admitted_tick < 0:
        _take_from_queue(engine, x, request)
        return
    seconds = _iteration_seconds(engine, x)
    engine.expert[x].context -= engine.request[request].prompt_tokens + generated(engine, x, request)
    kept = 0
    for k in range(engine.expert[x].fresh_count):
        if engine.fresh[x, k] != request:
            engine.fresh[x, kept] = engine.fresh[x, k]
            kept += 1
    engine.expert[x].fresh_count = kept
    for k in range(engine.expert[x].running_count):
        if engine.running[x, k] == request:
            _remove_running(engine, x, k)
            break
    engine.expert[x].extra_seconds += seconds - _iteration_seconds(engine, x)
    if engine.expert[x].running_count == 0:
        engine.expert[x].busy_seconds += now - engine.expert[x].clock
        engine.expert[x].clock = now
        _begin_iteration(engine, x)


@compiled
def change_pace(engine: Engine, x: int, factor: float, now: float) -> None:
    """Multiply an expert's iteration times; it must have been advanced to `now`.

    What is left of the iteration under way takes `factor` times as long as it would have.
    """
    expert = engine.expert[x]
    if expert.iterating:
        expert.extra_seconds = factor * expert.extra_seconds + (1.0 - factor) * (now - expert.clock)
    expert.base_seconds *= factor
    expert.per_sequence_seconds *= factor
    expert.per_context_token_seconds *= factor
    expert.per_prefill_token_seconds *= factor


@compiled
def lose(engine: Engine, x: int, now: float) -> None:
    """Take an expert away, advanced to `now`: all that it has fails."""
    expert = engine.expert[x]
    if expert.iterating:
        expert.busy_seconds += now - expert.clock
        expert.clock = now
    for k in range(expert.running_count):
        request = engine.running[x, k]
        engine.request[request].generated_tokens = generated(engine, x, request)
        engine.request[request].admitted_tick = -1
        fail(engine, x, request)
    for k in range(expert.queue_count):
        fail(engine, x, engine.queue[x, (expert.queue_head + k) % engine.queue.shape[1]])
    expert.running_count = 0
    expert.fresh_count = 0
    expert.queue_count = 0
    expert.context = 0.0
    expert.iterating = False
    expert.available = False
    expert.lost_at = now


@compiled
def fail(engine: Engine, x: int, request: int) -> None:
    """List a request among the ended ones of an expert without an end: `finished_at` stays NaN."""
    engine.finished[x, engine.expert[x].finished_count % engine.finished.shape[1]] = request
    engine.expert[x].finished_count += 1


@compiled
def _iteration_seconds(engine: Engine, x: int) -> float:
    c = engine.expert[x]
    seconds = c.base_seconds + c.extra_seconds + c.per_sequence_seconds * c.running_count
    return float(seconds + c.per_context_token_seconds * c.context + c.per_prefill_token_seconds * c.prefill)


@compiled
def _iterations_within(start: float, first: float, growth: float, most: int, until: float) -> int:
    """Return how many of at most `most` iterations, each `growth` seconds longer than the last, end by a moment."""
    if start + most * first + 0.5 * growth * most * (most - 1) <= until:
        return most
    if start + first > until:
        return 0
    seconds = until - start
    if growth <= 0.0:
        count = int(seconds / first)
    else:  # the root of growth/2 * n^2 + (first - growth/2) * n = seconds
        half = first - 0.5 * growth
        count = int((math.sqrt(half * half + 2.0 * growth * seconds) - half) / growth)
    count = max(min(count, most), 1)
    while count > 1 and start + count * first + 0.5 * growth * count * (count - 1) > until:
        count -= 1
    return count


@compiled
def _can_admit(engine: Engine, x: int) -> bool:
    """Tell whether the head of the queue would be admitted at the next boundary if nothing ended before."""
    batch = engine.expert[x].running_count
    if engine.expert[x].queue_count == 0 or batch >= engine.expert[x].maximum_running:
        return False
    request = engine.queue[x, engine.expert[x].queue_head]
    tokens = engine.request[request].prompt_tokens + engine.request[request].generated_tokens
    return bool(batch == 0 or engine.expert[x].context + tokens + batch + 1 <= engine.expert[x].kv_capacity)


@compiled
def _begin_iteration(engine: Engine, x: int) -> None:
    """Preempt if the cache is short, else admit what fits; the expert is at a boundary."""
    engine.expert[x].prefill = 0.0
    engine.expert[x].extra_seconds = 0.0
    preempted = False
    while (
        engine.expert[x].running_count > 1
        and engine.expert[x].context + engine.expert[x].running_count > engine.expert[x].kv_capacity
    ):
        _preempt_newest(engine, x)
        preempted = True
    size = engine.queue.shape[1]
    while not preempted and _can_admit(engine, x):
        request = engine.queue[x, engine.expert[x].queue_head]
        tokens = engine.request[request].prompt_tokens + engine.request[request].generated_tokens
        if engine.expert[x].prefill > 0.0 and engine.expert[x].prefill + tokens > DEFAULT_PREFILL_BUDGET:
            break
        engine.expert[x].queue_head = (engine.expert[x].queue_head + 1) % size
        engine.expert[x].queue_count -= 1
        engine.expert[x].prefill += tokens
        engine.expert[x].context += tokens
        engine.request[request].admitted_tick = engine.expert[x].tick
        engine.request[request].end_tick = (
            engine.expert[x].tick + engine.request[request].output_tokens - engine.request[request].generated_tokens
        )
        engine.fresh[x, engine.expert[x].fresh_count] = request
        engine.expert[x].fresh_count += 1
        engine.running[x, engine.expert[x].running_count] = request
        engine.expert[x].running_count += 1
        _sift_up(engine, x, engine.expert[x].running_count - 1)
    engine.expert[x].iterating = engine.expert[x].running_count > 0


@compiled
def _end_iteration(engine: Engine, x: int) -> None:
    """Stamp first tokens and ends; the clock is at the boundary."""
    for k in range(engine.expert[x].fresh_count):
        request = engine.fresh[x, k]
        if np.isnan(engine.request[request].first_token_at):
            engine.request[request].first_token_at = engine.expert[x].clock
    engine.expert[x].fresh_count = 0
    while engine.expert[x].running_count > 0 and engine.request[engine.running[x, 0]].end_tick <= engine.expert[x].tick:
        request = engine.running[x, 0]
        _remove_running(engine, x, 0)
        engine.expert[x].context -= engine.request[request].prompt_tokens + engine.request[request].output_tokens
        engine.request[request].finished_at = engine.expert[x].clock
        engine.finished[x, engine.expert[x].finished_count % engine.finished.shape[1]] = request
        engine.expert[x].finished_count += 1


@compiled
def _preempt_newest(engine: Engine, x: int) -> None:
    newest = 0
    for k in range(engine.expert[x].running_count):
        a = engine.running[x, k]
        b = engine.running[x, newest]
        later = engine.request[a].admitted_tick > engine.request[b].admitted_tick
        if later or (engine.request[a].admitted_tick == engine.request[b].admitted_tick and a > b):
            newest = k
    request = engine.running[x, newest]
    tokens = generated(engine, x, request)
    engine.expert[x].context -= engine.request[request].prompt_tokens + tokens
    engine.request[request].generated_tokens = tokens
    engine.request[request].admitted_tick = -1
    _remove_running(engine, x, newest)
    size = engine.queue.shape[1]
    engine.expert[x].queue_head = (engine.expert[x].queue_head - 1) % size
    engine.queue[x, engine.expert[x].queue_head] = request
    engine.expert[x].queue_count += 1
    engine.expert[x].preemption_count += 1


@compiled
def _take_from_queue(engine: Engine, x: int, request: int) -> None:
    size = engine.queue.shape[1]
    found = False
    for k in range(engine.expert[x].queue_count):
        at = (engine.expert[x].queue_head + k) % size
        if found:
            engine.queue[x, (at - 1) % size] = engine.queue[x, at]
        elif engine.queue[x, at] == request:
            found = True
    if found:
        engine.expert[x].queue_count -= 1


@compiled
def _earlier(engine: Engine, x: int, i: int, j: int) -> bool:
    a = engine.running[x, i]
    b = engine.running[x, j]
    if engine.request[a].end_tick == engine.request[b].end_tick:
        return bool(a < b)
    return bool(engine.request[a].end_tick < engine.request[b].end_tick)


@compiled
def _swap(engine: Engine, x: int, i: int, j: int) -> None:
    engine.running[x, i], engine.running[x, j] = engine.running[x, j], engine.running[x, i]


@compiled
def _sift_up(engine: Engine, x: int, i: int) -> None:
    while i > 0 and _earlier(engine, x, i, (i - 1) // 2):
        _swap(engine, x, i, (i - 1) // 2)
        i = (i - 1) // 2


@compiled
def _remove_running(engine: Engine, x: int, i: int) -> None:
    last = engine.expert[x].running_count - 1
    _swap(engine, x, i, last)
    engine.expert[x].running_count = last
    if i == last:
        return
    _sift_up(engine, x, i)
    while 2 * i + 1 < last:
        child = 2 * i + 1
        if child + 1 < last and _earlier(engine, x, child + 1, child):
            child += 1
        if not _earlier(engine, x, child, i):
            return
        _swap(engine, x, i, child)
        i = child
