"""One emulated expert in real time: the simulator's engine, advanced by a clock.

Arrivals take their time from the clock; everything after that is computed. Ends and first tokens therefore have the
times that the engine gives them offline, however late the event loop is to tell of them.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pointsman_policy.errors import OverloadError
from pointsman_policy.latency.profiles import IterationTimeCoefficients
from pointsman_policy.simulator.engine import cancel, change_pace, enqueue, iteration_ends_at, new_engine
from pointsman_policy.simulator.server.deliveries import collect, new_deliveries
from pointsman_policy.simulator.server.statistics import TOKEN_GAP_BOUNDS, Histogram, Statistics

DEFAULT_CAPACITY = 16_384
"""Requests that a server holds at once, running and waiting."""
_TIMER_ROUNDING_SECONDS = 0.5e-3
"""Event loops round timers to the nearest millisecond; half of one more, and none is too early."""

Deliver = Callable[[int], None]
"""Told an answer's tokens so far, each time there are more, the last time all of them."""


class Timer(Protocol):
    """A call to come."""

    def cancel(self) -> None:
        """Do not make the call."""


CallLater = Callable[[float, Callable[[], None]], Timer]
"""Makes a call after some seconds, as an event loop's `call_later`."""


class Generation:
    """An answer under way, or ended. Times are the engine's, in seconds on its driver's clock.

    Args:
        slot: Its id in the engine.
        prompt_tokens: At least 1.
        output_tokens: At least 1.
        arrived_at: When it was submitted.
        deliver: Told of its tokens.
    """

    __slots__ = ("arrived_at", "deliver", "finished_at", "first_token_at", "output_tokens", "prompt_tokens", "slot")

    def __init__(self, slot: int, prompt_tokens: int, output_tokens: int, arrived_at: float, deliver: Deliver) -> None:
        self.slot = slot
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.arrived_at = arrived_at
        self.deliver = deliver
        self.first_token_at = math.nan
        self.finished_at = math.nan


@dataclass(frozen=True, slots=True)
class Load:
    """What a server says of itself."""

    running: int
    waiting: int
    kv_cache_utilization: float
    """0 to 1; 0 if its cache is not limited."""
    preemptions: int
    """Ever."""
    generated_tokens: int
    """Ever."""
    token_gap_seconds: Histogram
    """Time between two tokens of an answer."""
    busy_seconds: float
    """Spent in iterations, ever."""


class ExpertDriver:
    """Serves submitted requests at the speed of an expert; for one thread.

    Args:
        coefficients: True ones.
        kv_capacity_tokens: 0 = not limited.
        maximum_running: Largest batch.
        clock: Seconds, never going back.
        call_later: Makes the driver tell of tokens when they are due.
        capacity: Requests held at once.
    """

    def __init__(
        self,
        coefficients: IterationTimeCoefficients,
        *,
        kv_capacity_tokens: int,
        maximum_running: int,
        clock: Callable[[], float],
        call_later: CallLater,
        capacity: int = DEFAULT_CAPACITY,
    ) -> None:
        row = (
            coefficients.base_seconds,
            coefficients.per_sequence_seconds,
            coefficients.per_context_token_seconds,
            coefficients.per_prefill_token_seconds,
        )
        self._engine = new_engine(
            np.array([row]), np.array([float(kv_capacity_tokens)]), np.array([maximum_running]), capacity
        )
        self._deliveries = new_deliveries(capacity, TOKEN_GAP_BOUNDS)
        self._clock = clock
        self._call_later = call_later
        # First freed, first used: ties between equal requests are broken by slot, in order of arrival as offline.
        self._free = deque(range(capacity))
        self._generations: dict[int, Generation] = {}
        self._ends_at = math.inf
        self._timer: Timer | None = None
        self._timer_at = math.inf
        self._pace = 1.0
        self.statistics = Statistics()

    @property
    def is_full(self) -> bool:
        """Whether no request more can be held."""
        return not self._free

    def submit(self, prompt_tokens: int, output_tokens: int, deliver: Deliver) -> Generation:
        """Start answering a request that arrives now.

        Args:
            prompt_tokens: At least 1.
            output_tokens: Tokens after which the answer ends, at least 1.
            deliver: Called from the event loop; must neither raise nor call the driver.

        Raises:
            OverloadError: If the driver is full.
        """
        now = self._catch_up()
        if not self._free:
            raise OverloadError(f"{len(self._generations)} requests are in progress; submit it again later")
        slot = self._free.popleft()
        generation = Generation(slot, prompt_tokens, output_tokens, now, deliver)
        self._generations[slot] = generation
        self._deliveries.tokens[slot] = 0
        enqueue(self._engine, 0, slot, prompt_tokens, output_tokens, now)
        if self._ends_at == math.inf:
            self._ends_at = iteration_ends_at(self._engine, 0)
        self._schedule()
        return generation

    def cancel(self, generation: Generation) -> None:
        """Give up a request, at once; does nothing if it has ended."""
        now = self._catch_up()
        if self._generations.get(generation.slot) is not generation:
            return
        cancel(self._engine, 0, generation.slot, now)
        self._release(generation.slot)
        self._ends_at = -math.inf  # the iteration under way may have become shorter
        self._catch_up()
        self._schedule()

    def set_pace(self, pace: float) -> None:
        """Have iterations take so many times as long as at first, from now on; above 0."""
        now = self._catch_up()
        change_pace(self._engine, 0, pace / self._pace, now)
        self._pace = pace
        if self._ends_at < math.inf:
            self._ends_at = iteration_ends_at(self._engine, 0)
        self._schedule()

    def load(self) -> Load:
        """Return the load at this moment."""
        self._catch_up()
        self._schedule()
        expert = self._engine.expert[0]
        gaps = Histogram(TOKEN_GAP_BOUNDS)
        gaps.counts = self._deliveries.gap_counts.tolist()
        gaps.sum = float(self._deliveries.gap_seconds[0])
        return Load(
            running=int(expert["running_count"]),
            waiting=int(expert["queue_count"]),
            kv_cache_utilization=min(float(expert["context"] / expert["kv_capacity"]), 1.0),
            preemptions=int(expert["preemption_count"]),
            generated_tokens=int(self._deliveries.token_count[0]),
            token_gap_seconds=gaps,
            busy_seconds=float(expert["busy_seconds"]),
        )

    def _wake(self) -> None:
        self._timer = None
        self.statistics.lateness_seconds.observe(self._clock() - self._timer_at)
        self._catch_up()
        self._schedule()

    def _catch_up(self) -> float:
        """Tell of all tokens that are due, and return the time."""
        now = self._clock()
        if now < self._ends_at:
            return now
        count, self._ends_at = collect(self._engine, self._deliveries, now)
        changed = self._deliveries.changed[:count]
        for slot, tokens in zip(changed.tolist(), self._deliveries.tokens[changed].tolist(), strict=True):
            generation = self._generations[slot]
            if math.isnan(generation.first_token_at):
                self._count_first_token(generation)
            if tokens == generation.output_tokens:
                self._count_end(generation)
            generation.deliver(tokens)
        return now

    def _count_first_token(self, generation: Generation) -> None:
        generation.first_token_at = float(self._engine.request["first_token_at"][generation.slot])
        self.statistics.ttft_seconds.observe(generation.first_token_at - generation.arrived_at)
        self.statistics.prompt_tokens += generation.prompt_tokens

    def _count_end(self, generation: Generation) -> None:
        generation.finished_at = float(self._engine.request["finished_at"][generation.slot])
        self.statistics.e2e_seconds.observe(generation.finished_at - generation.arrived_at)
        self._release(generation.slot)

    def _release(self, slot: int) -> None:
        del self._generations[slot]
        self._free.append(slot)

    def _schedule(self) -> None:
        """Have the driver woken at the end of the iteration under way."""
        if self._timer is not None:
            if self._timer_at == self._ends_at:
                return
            self._timer.cancel()
            self._timer = None
        if self._ends_at < math.inf:
            delay = max(self._ends_at - self._clock(), 0.0)
            self._timer_at = self._ends_at
            self._timer = self._call_later(delay + _TIMER_ROUNDING_SECONDS, self._wake)
