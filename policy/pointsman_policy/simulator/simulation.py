"""One run: a workload, a fleet of emulated experts and one picker, offline and as fast as the machine allows.

The loop gives the picker exactly what a router would have, see `decisions`.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.compiled import compiled
from pointsman_policy.ledger import new_ledger
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.reckoning import BELIEF, new_arrivals, new_loads
from pointsman_policy.simulator.changes import Change, first_there, schedule
from pointsman_policy.simulator.decisions import CLOCK, Notes, Samples, World, arrive, dispatch, finish, may_choose
from pointsman_policy.simulator.engine import COEFFICIENTS, new_engine
from pointsman_policy.simulator.requests import Requests
from pointsman_policy.state import DEFAULT_SLOTS, DROP, RoutingState, empty_state

__all__ = ["UNFORCED", "Change", "Fleet", "Recording", "Requests", "Run", "Visibility", "record", "simulate"]

UNFORCED = -2
"""In `record`: the picker chooses."""


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
    discovery_delay: float = 1.0
    """From an expert's loss or addition to the router."""
    dead_reckoning: bool = True
    """Whether the router moves its picture on to each decision; otherwise it is that of the last sample's coming."""


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
    """Seconds, NaN = none came, [n]."""
    finished_at: npt.NDArray[np.float64]
    """NaN = dropped, or failed with its expert, [n]."""
    busy_seconds: npt.NDArray[np.float64]
    """[E]."""
    preemption_count: int
    wall_seconds: float
    """How long the run took to compute."""


class Recording(NamedTuple):
    """What was seen at K of a run's decisions."""

    states: RoutingState
    """Every array with a leading axis K."""
    rows: npt.NDArray[np.int64]
    """Which requests, [K]."""
    run: Run


def simulate(
    fleet: Fleet,
    requests: Requests,
    picker: Picker,
    rng: np.random.Generator,
    visibility: Visibility = Visibility(),
    admission: str = "Never",
    changes: Sequence[Change] = (),
) -> Run:
    """Route every request with a picker and serve it.

    Args:
        fleet: The experts.
        requests: The workload.
        picker: The rule. Where no expert is allowed it is not asked, and the request is shed.
        rng: Breaks ties.
        visibility: What the router learns, and when.
        admission: Never, ShedSheddable (priority below 0) or ShedHopeless, as in a RouterPolicy.
        changes: What happens to the experts during the run.

    Raises:
        ValueError: If a change is impossible.
    """
    n = len(requests.arrival_at)
    world = new_world(fleet, requests, visibility, admission, changes)
    return _follow(world, picker, picker.needs_slots, rng, np.zeros(n, np.bool_), np.full(n, UNFORCED)).run


def record(
    fleet: Fleet,
    requests: Requests,
    picker: Picker,
    rng: np.random.Generator,
    visibility: Visibility,
    admission: str,
    changes: Sequence[Change],
    sampled: npt.NDArray[np.bool_],
    forced: npt.NDArray[np.int64],
) -> Recording:
    """Route and serve as `simulate` does, keep what was seen at some decisions, and make some decisions beforehand.

    Args:
        fleet: The experts.
        requests: The workload.
        picker: The rule.
        rng: Breaks ties.
        visibility: What the router learns, and when.
        admission: As for `simulate`.
        changes: What happens to the experts during the run.
        sampled: Which decisions to keep, [n].
        forced: Expert, DROP or UNFORCED for each decision, [n]; the picker chooses too where that expert is not
            allowed or the request must not be dropped.

    Raises:
        ValueError: If a change is impossible, or `sampled` or `forced` do not have one value for each request.
    """
    n = len(requests.arrival_at)
    if sampled.shape != (n,) or forced.shape != (n,):
        raise ValueError(f"there are {n} requests, but {len(sampled)} values of sampled and {len(forced)} of forced")
    world = new_world(fleet, requests, visibility, admission, changes)
    return _follow(world, picker, True, rng, np.asarray(sampled, np.bool_), np.asarray(forced, np.int64))


def new_world(
    fleet: Fleet,
    requests: Requests,
    visibility: Visibility,
    admission: str,
    changes: Sequence[Change] = (),
) -> World:
    """Return a simulation before its first request.

    Args:
        fleet: The experts.
        requests: The workload.
        visibility: What the router learns, and when.
        admission: As for `simulate`.
        changes: What happens to the experts during the run.

    Raises:
        ValueError: If a change is impossible.
    """
    n, experts = len(requests.arrival_at), len(fleet.coefficients)
    engine = new_engine(fleet.coefficients, fleet.kv_capacity, fleet.maximum_running, n)
    events = schedule(changes, experts, visibility.discovery_delay)
    there = first_there(changes, experts)
    engine.expert["available"] = there
    may_drop = np.full(n, admission == "ShedHopeless")
    if admission == "ShedSheddable":
        may_drop = requests.priority < 0
    clock = np.zeros(1, CLOCK)
    clock["next_sample_at"] = 0.0 if visibility.telemetry_interval > 0.0 else np.inf
    clock["next_event_at"] = events["at"][0] if len(events) else np.inf
    for name in ("telemetry_interval", "telemetry_delay", "outcome_delay", "progress_interval", "dead_reckoning"):
        clock[name] = getattr(visibility, name)
    return World(
        engine=engine,
        requests=requests,
        ledger=new_ledger(experts, n),
        samples=_new_samples(_samples_on_the_way(requests, visibility), experts),
        state=empty_state(experts),
        notes=Notes(
            events=events,
            clock=clock,
            beliefs=fleet.beliefs(),
            loads=new_loads(experts),
            arrivals=new_arrivals(),
            selection=np.arange(experts),
            usable=there.copy(),
            may_drop=may_drop,
            slots=np.full(n, -1, np.int64),
            seen_ends=np.zeros(experts, np.int64),
        ),
    )


def _samples_on_the_way(requests: Requests, visibility: Visibility) -> int:
    """Return how many samples must be kept so that the newest one that has reached the router is among them."""
    if visibility.telemetry_interval > 0.0:
        return 2 * (math.ceil(visibility.telemetry_delay / visibility.telemetry_interval) + 2)
    before = np.searchsorted(requests.arrival_at, requests.arrival_at - visibility.telemetry_delay)
    return int((np.arange(len(before)) - before).max(initial=0)) + 2


def _new_samples(count: int, experts: int) -> Samples:
    return Samples(
        at=np.zeros(count),
        running=np.zeros((count, experts), np.int64),
        waiting=np.zeros((count, experts), np.int64),
        context=np.zeros((count, experts)),
        taken=np.zeros(1, np.int64),
        seen=np.zeros(1, np.int64),
    )


def stacked_states(count: int, experts: int) -> RoutingState:
    """Return room for several states of as many experts, every array with a leading axis."""
    one = empty_state(experts, DEFAULT_SLOTS, DEFAULT_SLOTS)
    return RoutingState(*(np.zeros((count, *array.shape), array.dtype) for array in one))


def run_of(world: World, chosen: npt.NDArray[np.int64], wall_seconds: float) -> Run:
    """Return what happened in a world.

    Args:
        world: Where everything has ended.
        chosen: Expert, or DROP, for each request, [n].
        wall_seconds: How long that took to compute.
    """
    request, expert = world.engine.request, world.engine.expert
    return Run(
        expert=chosen,
        first_token_at=request["first_token_at"],
        finished_at=request["finished_at"],
        busy_seconds=expert["busy_seconds"],
        preemption_count=int(expert["preemption_count"].sum()),
        wall_seconds=wall_seconds,
    )


def _follow(
    world: World,
    picker: Picker,
    whole: bool,
    rng: np.random.Generator,
    sampled: npt.NDArray[np.bool_],
    forced: npt.NDArray[np.int64],
) -> Recording:
    n = len(sampled)
    chosen = np.full(n, DROP, np.int64)
    uniforms = rng.random(n)
    states = stacked_states(int(sampled.sum()), len(world.state.allowed))
    scores = np.zeros(len(world.state.allowed))
    pointer = picker.pointer
    parameters = np.asarray(picker.parameters, np.float64)
    started = time.perf_counter()
    _run(world, pointer, parameters, whole, uniforms, sampled, forced, states, scores, chosen)
    run = run_of(world, chosen, time.perf_counter() - started)
    return Recording(states, np.flatnonzero(sampled), run)


@compiled
def _run(
    world: World,
    pick: object,
    parameters: npt.NDArray[np.float64],
    whole: bool,
    uniforms: npt.NDArray[np.float64],
    sampled: npt.NDArray[np.bool_],
    forced: npt.NDArray[np.int64],
    states: RoutingState,
    scores: npt.NDArray[np.float64],
    chosen: npt.NDArray[np.int64],
) -> None:
    engine, requests, ledger, samples, state, notes = world
    kept = 0
    for i in range(chosen.shape[0]):
        allowed = arrive(engine, requests, ledger, samples, state, notes, i, whole)
        if sampled[i]:
            _keep(state, states, kept)
            kept += 1
        if not allowed:
            continue
        x = forced[i]
        if x < DROP or not may_choose(state, x):
            scores[:] = -np.inf
            x = pick(state, parameters, uniforms[i], scores)  # type: ignore[operator]
        chosen[i] = x
        if x >= 0:
            dispatch(engine, requests, ledger, state, notes, i, x, whole)
    finish(engine, samples, notes)


@compiled
def _keep(state: RoutingState, states: RoutingState, k: int) -> None:
    """Copy a state, row by row: assigning whole tables takes four times as long to compile as all else here."""
    states.request[k, 0] = state.request[0]
    for e in range(state.allowed.shape[0]):
        states.expert[k, e] = state.expert[e]
        states.candidate[k, e] = state.candidate[e]
        states.allowed[k, e] = state.allowed[e]
        for r in range(state.running_mask.shape[1]):
            states.running[k, e, r] = state.running[e, r]
            states.running_mask[k, e, r] = state.running_mask[e, r]
        for r in range(state.waiting_mask.shape[1]):
            states.waiting[k, e, r] = state.waiting[e, r]
            states.waiting_mask[k, e, r] = state.waiting_mask[e, r]
