"""One run: a workload, a fleet of emulated experts and one picker, offline and as fast as the machine allows.

The loop gives the picker exactly what a router would have: its own ledger, dead-reckoned with believed coefficients,
load samples that arrive late, and outcomes that arrive late. The truth, the engine, is seen through these only.
"""

import math
import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.compiled import compiled
from pointsman_policy.latency.estimator import DEFAULT_PESSIMISM, predict_ttft_seconds
from pointsman_policy.ledger import Ledger, close_entry, new_ledger, open_entry
from pointsman_policy.pace import note_progress
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.reckoning import BELIEF, count_arrival, new_arrivals, new_loads, note_prefill, observe, reckon
from pointsman_policy.simulator.engine import COEFFICIENTS, Engine, advance, enqueue, generated, new_engine
from pointsman_policy.state import DROP, RoutingState, empty_state

_SURELY_WITHIN = 0.999
"""Share of the progress interval within which no new report can have come, however times are rounded."""


class Requests(NamedTuple):
    """n requests in order of arrival, and what each would do on each of E experts."""

    arrival_at: npt.NDArray[np.float64]
    """Seconds, non-decreasing, [n]."""
    prompt_tokens: npt.NDArray[np.int64]
    """[n]."""
    output_tokens: npt.NDArray[np.int64]
    """True lengths, at least 1, [n, E]."""
    predicted_quality: npt.NDArray[np.float32]
    """[n, E]."""
    predicted_output_tokens: npt.NDArray[np.float32]
    """[n, E]."""
    objectives: npt.NDArray[np.float64]
    """(TTFT, TPOT, NTPOT) seconds, 0 = none, [n, 3]."""
    priority: npt.NDArray[np.int64]
    """[n]."""
    quality_floor: float
    """Experts predicted below are not allowed, where any is above."""


@dataclass(frozen=True)
class Visibility:
    """How late a router learns what happens; seconds."""

    telemetry_interval: float = 1.0
    """Between load samples; 0 = an exact sample at every decision."""
    telemetry_delay: float = 0.0
    """From a sample to the router."""
    outcome_delay: float = 0.1
    """From an answer's end to the router."""
    progress_interval: float = 1.0
    """Between reports on a running answer."""


@dataclass(frozen=True)
class Fleet:
    """E experts as they are and as they are believed to be."""

    coefficients: npt.NDArray[np.float64]
    """True (c0, c_seq, c_ctx, c_prefill), seconds, [E, 4]."""
    believed_coefficients: npt.NDArray[np.float64]
    """[E, 4]."""
    kv_capacity: npt.NDArray[np.float64]
    """Tokens, 0 = unlimited, [E]."""
    maximum_running: npt.NDArray[np.int64]
    """[E]."""
    quality_prior: npt.NDArray[np.float64]
    """[E]."""

    def beliefs(self) -> npt.NDArray[np.void]:
        """Return BELIEF rows, [E]."""
        rows = np.zeros(len(self.coefficients), BELIEF)
        for column, name in enumerate(COEFFICIENTS):
            rows[name] = self.believed_coefficients[:, column]
        rows["kv_capacity_tokens"] = self.kv_capacity
        rows["maximum_running_count"] = self.maximum_running
        rows["quality_prior"] = self.quality_prior
        return rows


@dataclass(frozen=True)
class Run:
    """What happened to each request."""

    expert: npt.NDArray[np.int64]
    """Index, DROP = shed, [n]."""
    first_token_at: npt.NDArray[np.float64]
    """Seconds, NaN = dropped, [n]."""
    finished_at: npt.NDArray[np.float64]
    """[n]."""
    busy_seconds: npt.NDArray[np.float64]
    """[E]."""
    preemption_count: int
    wall_seconds: float
    """How long the run took to compute."""


class _Samples(NamedTuple):
    """Load samples on their way to the router: a ring."""

    at: npt.NDArray[np.float64]
    running: npt.NDArray[np.int64]
    waiting: npt.NDArray[np.int64]
    context: npt.NDArray[np.float64]
    taken: npt.NDArray[np.int64]
    seen: npt.NDArray[np.int64]


def simulate(
    fleet: Fleet,
    requests: Requests,
    picker: Picker,
    rng: np.random.Generator,
    visibility: Visibility = Visibility(),
    admission: str = "Never",
) -> Run:
    """Route every request with a picker and serve it.

    Args:
        fleet: The experts.
        requests: The workload.
        picker: The rule.
        rng: Breaks ties.
        visibility: What the router learns, and when.
        admission: Never, ShedSheddable (priority below 0) or ShedHopeless, as in a RouterPolicy.
    """
    n = len(requests.arrival_at)
    experts = len(fleet.coefficients)
    engine = new_engine(fleet.coefficients, fleet.kv_capacity, fleet.maximum_running, n)
    samples = _new_samples(_samples_on_the_way(requests, visibility), experts)
    may_drop = np.zeros(n, np.bool_)
    if admission == "ShedHopeless":
        may_drop[:] = True
    elif admission == "ShedSheddable":
        may_drop[:] = requests.priority < 0
    chosen = np.full(n, DROP, np.int64)
    slots = np.full(n, -1, np.int64)
    times = np.array(
        [
            visibility.telemetry_interval,
            visibility.telemetry_delay,
            visibility.outcome_delay,
            visibility.progress_interval,
        ],
        np.float64,
    )
    uniforms = rng.random(n)
    pointer = picker.pointer
    parameters = np.asarray(picker.parameters, np.float64)
    started = time.perf_counter()
    _run(
        engine,
        requests,
        new_ledger(experts, n),
        fleet.beliefs(),
        new_loads(experts),
        new_arrivals(),
        samples,
        empty_state(experts),
        pointer,
        parameters,
        picker.needs_slots,
        uniforms,
        may_drop,
        times,
        chosen,
        slots,
    )
    return Run(
        expert=chosen,
        first_token_at=engine.request["first_token_at"],
        finished_at=engine.request["finished_at"],
        busy_seconds=engine.expert["busy_seconds"],
        preemption_count=int(engine.expert["preemption_count"].sum()),
        wall_seconds=time.perf_counter() - started,
    )


def _samples_on_the_way(requests: Requests, visibility: Visibility) -> int:
    """Return how many samples must be kept so that the newest one that has reached the router is among them."""
    if visibility.telemetry_interval > 0.0:
        return 2 * (math.ceil(visibility.telemetry_delay / visibility.telemetry_interval) + 2)
    before = np.searchsorted(requests.arrival_at, requests.arrival_at - visibility.telemetry_delay)
    return int((np.arange(len(before)) - before).max(initial=0)) + 2


def _new_samples(count: int, experts: int) -> _Samples:
    return _Samples(
        at=np.zeros(count),
        running=np.zeros((count, experts), np.int64),
        waiting=np.zeros((count, experts), np.int64),
        context=np.zeros((count, experts)),
        taken=np.zeros(1, np.int64),
        seen=np.zeros(1, np.int64),
    )


@compiled
def _run(
    engine: Engine,
    requests: Requests,
    ledger: Ledger,
    beliefs: npt.NDArray[np.void],
    loads: npt.NDArray[np.void],
    arrivals: npt.NDArray[np.void],
    samples: _Samples,
    state: RoutingState,
    pick: object,
    parameters: npt.NDArray[np.float64],
    needs_slots: bool,
    uniforms: npt.NDArray[np.float64],
    may_drop: npt.NDArray[np.bool_],
    times: npt.NDArray[np.float64],
    chosen: npt.NDArray[np.int64],
    slots: npt.NDArray[np.int64],
) -> None:
    experts = engine.expert.shape[0]
    selection = np.arange(experts)
    seen_ends = np.zeros(experts, np.int64)
    scores = np.zeros(experts)
    for i in range(requests.arrival_at.shape[0]):
        now = requests.arrival_at[i]
        if now >= samples.taken[0] * times[0]:
            _sample_until(engine, samples, times[0], now)
        for x in range(experts):
            advance(engine, x, now)
            if seen_ends[x] < engine.expert[x].finished_count:
                _learn_ends(engine, ledger, beliefs, loads, x, slots, seen_ends, now - times[2])
        if samples.seen[0] < samples.taken[0]:
            _learn_samples(engine, ledger, loads, samples, now, times[1])
        _write_request(requests, i, may_drop[i], state)
        if needs_slots:
            _learn_progress(engine, ledger, beliefs, loads, now, times[3])
            reckon(ledger, beliefs, loads, selection, now, state)
            count_arrival(arrivals, now, state)
        else:
            _count(ledger, beliefs, loads, state)
            state.request[0].sequence = i % 1048576
        scores[:] = -np.inf
        x = pick(state, parameters, uniforms[i], scores)  # type: ignore[operator]
        chosen[i] = x
        if x < 0:
            continue
        slots[i] = _open(requests, i, x, ledger)
        if needs_slots:
            ledger.entry[slots[i]].expected_first_token_at = now + predict_ttft_seconds(state, x, DEFAULT_PESSIMISM)
            note_prefill(loads, x, now, requests.prompt_tokens[i])
        enqueue(engine, x, i, requests.prompt_tokens[i], requests.output_tokens[i, x], now)
    for x in range(experts):
        advance(engine, x, np.inf)


@compiled
def _open(requests: Requests, i: int, x: int, ledger: Ledger) -> int:
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
def _take_sample(engine: Engine, samples: _Samples, moment: float) -> None:
    ring = samples.taken[0] % samples.at.shape[0]
    samples.at[ring] = moment
    for x in range(engine.expert.shape[0]):
        samples.running[ring, x] = engine.expert[x].running_count
        samples.waiting[ring, x] = engine.expert[x].queue_count
        samples.context[ring, x] = engine.expert[x].context
    samples.taken[0] += 1


@compiled
def _sample_until(engine: Engine, samples: _Samples, interval: float, now: float) -> None:
    """Take the samples that are due by now; after a long gap only those that can still matter."""
    if interval <= 0.0:
        for x in range(engine.expert.shape[0]):
            advance(engine, x, now)
        _take_sample(engine, samples, now)
        return
    latest = int(now / interval)
    kept = samples.at.shape[0] // 2
    k = max(samples.taken[0], latest - kept)
    while k <= latest:
        for x in range(engine.expert.shape[0]):
            advance(engine, x, k * interval)
        samples.taken[0] = k
        _take_sample(engine, samples, k * interval)
        k += 1


@compiled
def _learn_samples(
    engine: Engine, ledger: Ledger, loads: npt.NDArray[np.void], samples: _Samples, now: float, delay: float
) -> None:
    """Hand the newest sample that has reached the router to its load estimate."""
    newest = samples.seen[0]
    oldest = max(samples.taken[0] - samples.at.shape[0], samples.seen[0])
    for k in range(samples.taken[0] - 1, oldest - 1, -1):
        if samples.at[k % samples.at.shape[0]] + delay <= now:
            newest = k + 1
            break
    if newest == samples.seen[0]:
        return
    samples.seen[0] = newest
    ring = (newest - 1) % samples.at.shape[0]
    for x in range(engine.expert.shape[0]):
        used = np.nan
        if engine.expert[x].kv_capacity < np.inf:
            used = samples.context[ring, x] / engine.expert[x].kv_capacity
        observe(ledger, loads, x, samples.at[ring], samples.running[ring, x], samples.waiting[ring, x], used)


@compiled
def _learn_ends(
    engine: Engine,
    ledger: Ledger,
    beliefs: npt.NDArray[np.void],
    loads: npt.NDArray[np.void],
    x: int,
    slots: npt.NDArray[np.int64],
    seen_ends: npt.NDArray[np.int64],
    known_until: float,
) -> None:
    """Close the ledger's entries of answers whose end has become known."""
    while seen_ends[x] < engine.expert[x].finished_count:
        i = engine.finished[x, seen_ends[x]]
        if engine.request[i].finished_at > known_until:
            return
        ended = engine.request[i]
        note_progress(
            ledger, beliefs, loads, x, slots[i], ended.finished_at, float(ended.output_tokens), ended.first_token_at
        )
        close_entry(ledger, x, slots[i], ended.finished_at)
        seen_ends[x] += 1


@compiled
def _learn_progress(
    engine: Engine,
    ledger: Ledger,
    beliefs: npt.NDArray[np.void],
    loads: npt.NDArray[np.void],
    now: float,
    interval: float,
) -> None:
    """Give running entries what the last progress report before now said of them."""
    for x in range(engine.expert.shape[0]):
        for k in range(ledger.open_count[x]):
            entry = ledger.entry[ledger.order[x, k]]
            if now - entry.progress_at < _SURELY_WITHIN * interval:
                continue
            i = entry.request
            if np.isnan(engine.request[i].first_token_at):
                continue
            reported_at = now
            if interval > 0.0:
                reported_at = entry.arrival_at + interval * int((now - entry.arrival_at) / interval)
            if reported_at < engine.request[i].first_token_at or reported_at <= entry.progress_at:
                continue
            first_token_at = engine.request[i].first_token_at
            span = engine.expert[x].clock - first_token_at
            share = 1.0
            if span > 0.0:
                share = min((reported_at - first_token_at) / span, 1.0)
            tokens = 1.0 + share * (generated(engine, x, i) - 1)
            note_progress(ledger, beliefs, loads, x, ledger.order[x, k], reported_at, tokens, first_token_at)


@compiled
def _count(ledger: Ledger, beliefs: npt.NDArray[np.void], loads: npt.NDArray[np.void], state: RoutingState) -> None:
    """Write only how many requests each expert has: all that rules without a view of single requests look at."""
    for x in range(beliefs.shape[0]):
        row = state.expert[x]
        total = ledger.open_count[x] + loads[x].other_running_count + loads[x].other_waiting_count
        row.maximum_running_count = beliefs[x].maximum_running_count
        row.running_request_count = min(total, beliefs[x].maximum_running_count)
        row.waiting_request_count = total - row.running_request_count


@compiled
def _write_request(requests: Requests, i: int, may_drop: bool, state: RoutingState) -> None:
    request = state.request[0]
    request.prompt_tokens = requests.prompt_tokens[i]
    request.ttft_objective_seconds = requests.objectives[i, 0]
    request.tpot_objective_seconds = requests.objectives[i, 1]
    request.ntpot_objective_seconds = requests.objectives[i, 2]
    request.quality_floor = requests.quality_floor
    request.priority = requests.priority[i]
    request.may_drop = 0.0
    if may_drop:
        request.may_drop = 1.0
    above = False
    for x in range(state.allowed.shape[0]):
        state.candidate[x].predicted_quality = requests.predicted_quality[i, x]
        state.candidate[x].predicted_output_tokens = requests.predicted_output_tokens[i, x]
        above = above or requests.predicted_quality[i, x] >= requests.quality_floor
    for x in range(state.allowed.shape[0]):
        state.allowed[x] = not above or requests.predicted_quality[i, x] >= requests.quality_floor
