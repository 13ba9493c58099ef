import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest

from pointsman_policy.errors import OverloadError
from pointsman_policy.latency.profiles import IterationTimeCoefficients
from pointsman_policy.simulator.engine import advance, enqueue, new_engine
from pointsman_policy.simulator.server.driver import ExpertDriver

COEFFICIENTS = IterationTimeCoefficients(0.010, 0.0005, 2e-6, 1e-4)


@dataclass
class VirtualTimer:
    call: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class VirtualTime:
    """A clock that the test moves; calls are made in the order in which they are due, `lateness` seconds late."""

    now: float = 0.0
    lateness: float = 0.0
    fired: int = 0
    _due: list[tuple[float, int, VirtualTimer]] = field(default_factory=list)
    _order: "itertools.count[int]" = field(default_factory=itertools.count)

    def clock(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[[], None]) -> VirtualTimer:
        assert delay >= 0
        timer = VirtualTimer(call)
        heapq.heappush(self._due, (self.now + delay + self.lateness, next(self._order), timer))
        return timer

    def run_until(self, moment: float) -> None:
        while self._due and self._due[0][0] <= moment:
            at, _, timer = heapq.heappop(self._due)
            self.now = max(self.now, at)
            if not timer.cancelled:
                self.fired += 1
                timer.call()
        self.now = max(self.now, moment)

    def run_dry(self) -> None:
        while self.is_waiting():
            self.run_until(self._due[0][0])

    def is_waiting(self) -> bool:
        """Whether a call is to come."""
        return any(not timer.cancelled for _, _, timer in self._due)


@pytest.fixture
def virtual_time() -> VirtualTime:
    return VirtualTime()


def new_driver(
    time: VirtualTime, *, kv_capacity_tokens: int = 0, maximum_running: int = 8, capacity: int = 64
) -> ExpertDriver:
    return ExpertDriver(
        COEFFICIENTS,
        kv_capacity_tokens=kv_capacity_tokens,
        maximum_running=maximum_running,
        clock=time.clock,
        call_later=time.call_later,
        capacity=capacity,
    )


def ignore(_tokens: int) -> None:
    pass


def workload(count: int) -> list[tuple[float, int, int]]:
    rng = np.random.default_rng(4)
    arrivals = np.cumsum(rng.exponential(0.15, count))
    return list(
        zip(arrivals.tolist(), rng.integers(1, 400, count).tolist(), rng.integers(1, 90, count).tolist(), strict=True)
    )


def offline(requests: list[tuple[float, int, int]], kv_capacity: int, maximum_running: int) -> npt.NDArray[np.float64]:
    """(first token, end) of each request when the engine runs by itself."""
    row = (
        COEFFICIENTS.base_seconds,
        COEFFICIENTS.per_sequence_seconds,
        COEFFICIENTS.per_context_token_seconds,
        COEFFICIENTS.per_prefill_token_seconds,
    )
    engine = new_engine(
        np.array([row]), np.array([float(kv_capacity)]), np.array([maximum_running]), requests=len(requests)
    )
    for index, (arrival, prompt_tokens, output_tokens) in enumerate(requests):
        advance(engine, 0, arrival)
        enqueue(engine, 0, index, prompt_tokens, output_tokens, arrival)
    advance(engine, 0, math.inf)
    return np.stack([engine.request["first_token_at"], engine.request["finished_at"]], axis=1)


@pytest.mark.parametrize("lateness", [0.0, 0.004, 0.7])
@pytest.mark.parametrize("kv_capacity", [0, 1_200], ids=["roomy", "preempting"])
def test_real_time_and_offline_runs_give_the_same_times(
    virtual_time: VirtualTime, lateness: float, kv_capacity: int
) -> None:
    requests = workload(120)
    virtual_time.lateness = lateness
    driver = new_driver(virtual_time, kv_capacity_tokens=kv_capacity, capacity=len(requests))
    generations = []
    for arrival, prompt_tokens, output_tokens in requests:
        virtual_time.run_until(arrival)
        generations.append(driver.submit(prompt_tokens, output_tokens, ignore))
    virtual_time.run_dry()

    times = np.array([(generation.first_token_at, generation.finished_at) for generation in generations])
    np.testing.assert_allclose(times, offline(requests, kv_capacity, 8), rtol=0, atol=1e-9)
    assert (driver.load().preemptions > 0) == (kv_capacity > 0)


def test_tokens_are_told_as_they_become_due(virtual_time: VirtualTime) -> None:
    driver = new_driver(virtual_time)
    told: list[tuple[float, int]] = []
    generation = driver.submit(100, 4, lambda tokens: told.append((virtual_time.now, tokens)))
    virtual_time.run_dry()

    assert [tokens for _, tokens in told] == [1, 2, 3, 4]
    assert told[0][0] == pytest.approx(0.010 + 0.0005 + 100 * 2e-6 + 100 * 1e-4, abs=0.001)
    assert told[-1][0] == pytest.approx(generation.finished_at, abs=0.001)


def test_a_late_event_loop_tells_all_tokens_due_at_once(virtual_time: VirtualTime) -> None:
    driver = new_driver(virtual_time)
    told: list[int] = []
    virtual_time.lateness = 0.035
    driver.submit(1, 10, told.append)
    virtual_time.run_dry()
    assert told[-1] == 10
    assert len(told) < 5


def test_all_streams_of_an_iteration_share_one_timer(virtual_time: VirtualTime) -> None:
    driver = new_driver(virtual_time)
    told: list[int] = []
    for _ in range(8):
        driver.submit(1, 50, told.append)
    virtual_time.run_dry()
    assert len(told) == 8 * 50
    assert virtual_time.fired <= 60


def test_an_idle_expert_sets_no_timer(virtual_time: VirtualTime) -> None:
    driver = new_driver(virtual_time)
    assert not virtual_time.is_waiting()
    driver.submit(1, 2, ignore)
    assert virtual_time.is_waiting()
    virtual_time.run_dry()
    assert not virtual_time.is_waiting()
    assert driver.load().running == 0


@pytest.mark.parametrize("running", [True, False])
def test_cancelling_frees_the_place_at_once(virtual_time: VirtualTime, running: bool) -> None:
    driver = new_driver(virtual_time, maximum_running=1)
    told: dict[str, list[int]] = {"first": [], "second": []}
    first = driver.submit(10, 1_000, told["first"].append)
    second = driver.submit(10, 3, told["second"].append)
    virtual_time.run_until(0.1)
    assert (driver.load().running, driver.load().waiting) == (1, 1)

    driver.cancel(first if running else second)
    assert (driver.load().running, driver.load().waiting) == (1, 0)
    so_far = len(told["first"])
    virtual_time.run_until(0.2)
    if running:
        assert told["second"][-1] == 3
        assert len(told["first"]) == so_far
    else:
        assert told["second"] == []
        assert len(told["first"]) > so_far


def test_cancelling_in_the_middle_of_an_iteration_leaves_the_others_exact(virtual_time: VirtualTime) -> None:
    driver = new_driver(virtual_time)
    told: list[int] = []
    leaving = driver.submit(1_000, 50, ignore)
    driver.submit(10, 20, told.append)
    virtual_time.run_until(0.02)
    driver.cancel(leaving)
    virtual_time.run_dry()
    assert told == list(range(1, 21))
    load = driver.load()
    assert (load.running, load.waiting, load.kv_cache_utilization) == (0, 0, 0.0)


def test_cancelling_twice_or_after_the_end_does_nothing(virtual_time: VirtualTime) -> None:
    driver = new_driver(virtual_time, capacity=1)
    generation = driver.submit(1, 2, ignore)
    virtual_time.run_dry()
    driver.cancel(generation)
    successor = driver.submit(1, 2, ignore)
    driver.cancel(generation)
    assert driver.load().running == 1
    driver.cancel(successor)
    driver.cancel(successor)
    assert driver.load().running == 0


def test_a_cancelled_answer_that_ended_meanwhile_counts_as_ended(virtual_time: VirtualTime) -> None:
    driver = new_driver(virtual_time)
    told: list[int] = []
    generation = driver.submit(1, 3, told.append)
    virtual_time.now = 1.0
    driver.cancel(generation)
    assert told == [3]
    assert generation.finished_at < 1.0


def test_places_are_used_again_without_end(virtual_time: VirtualTime) -> None:
    driver = new_driver(virtual_time, capacity=3)
    ended = 0
    for _ in range(50):
        generations = [driver.submit(5, 2, ignore) for _ in range(3)]
        virtual_time.run_dry()
        ended += sum(not math.isnan(generation.finished_at) for generation in generations)
    assert ended == 150
    assert driver.load().generated_tokens == 300


def test_a_full_expert_refuses(virtual_time: VirtualTime) -> None:
    driver = new_driver(virtual_time, capacity=2)
    full = []
    for _ in range(2):
        driver.submit(1, 5, ignore)
        full.append(driver.is_full)
    assert full == [False, True]
    with pytest.raises(OverloadError, match="2 requests are in progress"):
        driver.submit(1, 5, ignore)
    virtual_time.run_dry()
    driver.submit(1, 5, ignore)


def test_preempted_answers_keep_their_tokens_and_go_on(virtual_time: VirtualTime) -> None:
    driver = new_driver(virtual_time, kv_capacity_tokens=120)
    told: tuple[list[int], ...] = ([], [], [])
    for tokens in told:
        driver.submit(20, 60, tokens.append)
    virtual_time.run_dry()
    assert driver.load().preemptions > 0
    for tokens in told:
        assert tokens == sorted(set(tokens))
        assert tokens[-1] == 60


def test_statistics_say_what_happened(virtual_time: VirtualTime) -> None:
    driver = new_driver(virtual_time)
    lengths = (5, 1, 9)
    for tokens in lengths:
        driver.submit(7, tokens, ignore)
    virtual_time.run_dry()

    load, statistics = driver.load(), driver.statistics
    assert load.generated_tokens == sum(lengths)
    assert sum(load.token_gap_seconds.counts) == sum(lengths) - len(lengths)
    assert statistics.prompt_tokens == 7 * len(lengths)
    assert sum(statistics.ttft_seconds.counts) == sum(statistics.e2e_seconds.counts) == len(lengths)
    gap = load.token_gap_seconds.sum / (sum(lengths) - len(lengths))
    assert gap == pytest.approx(0.011, abs=0.001)


def test_kv_cache_use_follows_the_context(virtual_time: VirtualTime) -> None:
    driver = new_driver(virtual_time, kv_capacity_tokens=1_000)
    driver.submit(400, 100, ignore)
    used = [driver.load().kv_cache_utilization]
    for moment in itertools.accumulate([0.2] * 3):
        virtual_time.run_until(moment)
        used.append(driver.load().kv_cache_utilization)
    assert used[0] == pytest.approx(0.4)
    assert used == sorted(set(used))


def test_a_prompt_larger_than_the_cache_is_served_alone_and_shown_as_full(virtual_time: VirtualTime) -> None:
    driver = new_driver(virtual_time, kv_capacity_tokens=100)
    generation = driver.submit(400, 2, ignore)
    assert driver.load().kv_cache_utilization == 1.0
    virtual_time.run_dry()
    assert not math.isnan(generation.finished_at)


@pytest.mark.parametrize("paces", [(1.6,), (3.0, 1.6)])
def test_a_changed_pace_holds_from_the_moment_on(virtual_time: VirtualTime, paces: tuple[float, ...]) -> None:
    driver, twin = new_driver(virtual_time), new_driver(virtual_time)
    driver.submit(10, 40, ignore)
    virtual_time.run_dry()
    for pace in paces:
        driver.set_pace(pace)
    slowed, usual = driver.submit(10, 40, ignore), twin.submit(10, 40, ignore)
    virtual_time.run_dry()
    assert slowed.finished_at - slowed.arrived_at == pytest.approx(1.6 * (usual.finished_at - usual.arrived_at))


def test_an_answer_under_way_is_slowed_down_for_its_rest(virtual_time: VirtualTime) -> None:
    driver, twin = new_driver(virtual_time), new_driver(virtual_time)
    slowed, usual = driver.submit(10, 40, ignore), twin.submit(10, 40, ignore)
    virtual_time.run_until(0.1)
    driver.set_pace(2.0)
    virtual_time.run_dry()
    assert slowed.finished_at - 0.1 == pytest.approx(2.0 * (usual.finished_at - 0.1))
