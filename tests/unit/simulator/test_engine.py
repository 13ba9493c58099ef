import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest

from pointsman_policy.simulator.engine import (
    DEFAULT_PREFILL_BUDGET,
    Engine,
    advance,
    cancel,
    enqueue,
    generated,
    iteration_ends_at,
    new_engine,
)

COEFFICIENTS = (0.01, 0.001, 1e-5, 1e-4)


def engine_of(
    coefficients: Sequence[float] = COEFFICIENTS, kv_capacity: float = 0, maximum_running: int = 8, requests: int = 64
) -> Engine:
    return new_engine(
        np.array([coefficients], np.float64), np.array([float(kv_capacity)]), np.array([maximum_running]), requests
    )


@dataclass
class Job:
    arrival: float
    prompt: int
    output: int
    cancelled_at: float = math.inf
    generated: int = 0
    first_token_at: float = math.nan
    finished_at: float = math.nan


@dataclass
class Reference:
    """The server's rules, iteration by iteration."""

    coefficients: Sequence[float]
    kv_capacity: float
    maximum_running: int
    running: list[Job] = field(default_factory=list)
    waiting: list[Job] = field(default_factory=list)
    began_at: float = 0.0
    ends_at: float = math.inf
    busy_seconds: float = 0.0
    preemptions: int = 0

    def serve(self, jobs: Sequence[Job]) -> None:
        events = [(job.arrival, 0, k) for k, job in enumerate(jobs)]
        events += [(job.cancelled_at, 1, k) for k, job in enumerate(jobs) if job.cancelled_at < math.inf]
        for moment, kind, k in sorted(events):
            self.run_until(moment)
            if kind == 0:
                self.arrive(jobs[k])
            elif math.isnan(jobs[k].finished_at):
                self.leave(jobs[k], moment)
        self.run_until(math.inf)

    def run_until(self, moment: float) -> None:
        while self.running and self.ends_at <= moment:
            self.end()
            self.begin(self.ends_at)

    def arrive(self, job: Job) -> None:
        self.waiting.append(job)
        if not self.running:
            self.begin(job.arrival)

    def leave(self, job: Job, moment: float) -> None:
        if job in self.waiting:
            self.waiting.remove(job)
            return
        self.running.remove(job)
        if not self.running:
            self.busy_seconds += moment - self.began_at
            self.begin(moment)

    def begin(self, moment: float) -> None:
        prefill = 0
        preempted = False
        while len(self.running) > 1 and self.context() + len(self.running) > self.kv_capacity:
            self.waiting.insert(0, self.running.pop())
            self.preemptions += 1
            preempted = True
        while self.waiting and not preempted and len(self.running) < self.maximum_running:
            tokens = self.waiting[0].prompt + self.waiting[0].generated
            if self.running and self.context() + tokens + len(self.running) + 1 > self.kv_capacity:
                break
            if prefill and prefill + tokens > DEFAULT_PREFILL_BUDGET:
                break
            prefill += tokens
            self.running.append(self.waiting.pop(0))
        base, per_sequence, per_context_token, per_prefill_token = self.coefficients
        self.began_at = moment
        self.ends_at = moment + base + per_sequence * len(self.running)
        self.ends_at += per_context_token * self.context() + per_prefill_token * prefill

    def end(self) -> None:
        self.busy_seconds += self.ends_at - self.began_at
        for job in list(self.running):
            job.generated += 1
            if math.isnan(job.first_token_at):
                job.first_token_at = self.ends_at
            if job.generated == job.output:
                job.finished_at = self.ends_at
                self.running.remove(job)

    def context(self) -> int:
        return sum(job.prompt + job.generated for job in self.running)


def serve(engine: Engine, jobs: Sequence[Job]) -> None:
    events = [(job.arrival, 0, k) for k, job in enumerate(jobs)]
    events += [(job.cancelled_at, 1, k) for k, job in enumerate(jobs) if job.cancelled_at < math.inf]
    for moment, kind, k in sorted(events):
        advance(engine, 0, moment)
        if kind == 0:
            enqueue(engine, 0, k, jobs[k].prompt, jobs[k].output, moment)
        elif math.isnan(engine.request[k]["finished_at"]):
            cancel(engine, 0, k, moment)
    advance(engine, 0, math.inf)


WORKLOADS: Mapping[str, dict[str, float]] = {
    "light": {"rate": 2, "prompt": 50, "output": 20, "kv": 0, "batch": 8},
    "full batches": {"rate": 40, "prompt": 100, "output": 30, "kv": 0, "batch": 4},
    "one at a time": {"rate": 10, "prompt": 30, "output": 10, "kv": 0, "batch": 1},
    "short of cache": {"rate": 40, "prompt": 60, "output": 60, "kv": 300, "batch": 8},
    "requests larger than the cache": {"rate": 20, "prompt": 200, "output": 60, "kv": 150, "batch": 8},
    "prefill budget": {"rate": 20, "prompt": 6_000, "output": 10, "kv": 0, "batch": 8},
    "prefill budget and cache": {"rate": 20, "prompt": 4_000, "output": 40, "kv": 20_000, "batch": 8},
}


def random_jobs(workload: Mapping[str, float], rng: np.random.Generator, cancelled: float = 0.0) -> list[Job]:
    gaps = rng.exponential(1 / workload["rate"], 40)
    gaps[rng.random(40) < 0.1] = 0.0
    gaps[20] += 100.0  # an idle time
    jobs = []
    for arrival in np.cumsum(gaps):
        prompt, output = rng.integers(1, [2 * int(workload["prompt"]), 2 * int(workload["output"])])
        job = Job(float(arrival), int(prompt), int(output))
        if rng.random() < cancelled:
            job.cancelled_at = job.arrival + float(rng.exponential(0.5))
        jobs.append(job)
    return jobs


def assert_served_alike(engine: Engine, reference: Reference, jobs: Sequence[Job]) -> None:
    for name in ("first_token_at", "finished_at"):
        expected = np.array([getattr(job, name) for job in jobs])
        np.testing.assert_allclose(engine.request[name][: len(jobs)], expected, rtol=1e-9, equal_nan=True)
    assert engine.expert[0]["preemption_count"] == reference.preemptions
    assert engine.expert[0]["busy_seconds"] == pytest.approx(reference.busy_seconds, rel=1e-9)
    assert engine.expert[0]["running_count"] == 0
    assert engine.expert[0]["queue_count"] == 0
    assert engine.expert[0]["context"] == 0
    assert not engine.expert[0]["iterating"]


@pytest.mark.parametrize("cancelled", [0.0, 0.4])
@pytest.mark.parametrize("name", WORKLOADS)
def test_the_engine_agrees_with_a_server_stepped_iteration_by_iteration(name: str, cancelled: float) -> None:
    workload = WORKLOADS[name]
    for seed in range(12):
        rng = np.random.default_rng(seed)
        coefficients = tuple(np.array(COEFFICIENTS) * rng.uniform(0, 2, 4) + (1e-3, 0, 0, 0))
        jobs = random_jobs(workload, rng, cancelled)
        reference = Reference(coefficients, workload["kv"] or math.inf, int(workload["batch"]))
        engine = engine_of(coefficients, workload["kv"], int(workload["batch"]), len(jobs))
        reference.serve(jobs)
        serve(engine, jobs)
        assert_served_alike(engine, reference, jobs)


def test_the_random_workloads_reach_preemption() -> None:
    engine = engine_of(kv_capacity=300)
    serve(engine, random_jobs(WORKLOADS["short of cache"], np.random.default_rng(0)))
    assert engine.expert[0]["preemption_count"] > 3


def test_many_small_steps_equal_one_big_step() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        jobs = random_jobs(WORKLOADS["short of cache"], rng)
        whole, stepped = engine_of(kv_capacity=300), engine_of(kv_capacity=300)
        serve(whole, jobs)
        clock = 0.0
        for k, job in enumerate(jobs):
            while clock < job.arrival:
                advance(stepped, 0, clock)
                clock += float(rng.exponential(0.01 if job.arrival - clock < 2 else 10))
            clock = job.arrival
            advance(stepped, 0, clock)
            enqueue(stepped, 0, k, job.prompt, job.output, clock)
        while stepped.expert[0]["iterating"]:
            clock += 0.003
            advance(stepped, 0, clock)
        for name in ("first_token_at", "finished_at"):
            np.testing.assert_allclose(stepped.request[name], whole.request[name], rtol=1e-9)


def test_the_same_calls_give_the_same_bits() -> None:
    jobs = random_jobs(WORKLOADS["short of cache"], np.random.default_rng(3), 0.3)
    engines = [engine_of(kv_capacity=300) for _ in range(2)]
    for engine in engines:
        serve(engine, jobs)
    assert engines[0].request.tobytes() == engines[1].request.tobytes()
    assert engines[0].expert.tobytes() == engines[1].expert.tobytes()


def test_a_request_alone_takes_one_prefill_and_then_growing_iterations() -> None:
    engine = engine_of()
    advance(engine, 0, 5.0)
    enqueue(engine, 0, 0, 100, 3, 5.0)
    advance(engine, 0, math.inf)
    first = 0.01 + 0.001 + 1e-5 * 100 + 1e-4 * 100
    second = 0.01 + 0.001 + 1e-5 * 101
    third = 0.01 + 0.001 + 1e-5 * 102
    assert engine.request[0]["first_token_at"] == pytest.approx(5 + first)
    assert engine.request[0]["finished_at"] == pytest.approx(5 + first + second + third)
    assert engine.expert[0]["busy_seconds"] == pytest.approx(first + second + third)
    assert engine.finished[0, 0] == 0


def test_a_second_request_joins_at_the_next_boundary_and_slows_the_first() -> None:
    engine = engine_of()
    enqueue(engine, 0, 0, 100, 3, 0.0)
    advance(engine, 0, 0.015)
    enqueue(engine, 0, 1, 50, 2, 0.015)
    advance(engine, 0, math.inf)
    first = 0.01 + 0.001 + 1e-5 * 100 + 1e-4 * 100
    second = 0.01 + 0.002 + 1e-5 * (101 + 50) + 1e-4 * 50
    third = 0.01 + 0.002 + 1e-5 * (102 + 51)
    assert engine.request[0]["first_token_at"] == pytest.approx(first)
    assert engine.request[1]["first_token_at"] == pytest.approx(first + second)
    assert engine.request[0]["finished_at"] == pytest.approx(first + second + third)
    assert engine.request[1]["finished_at"] == pytest.approx(first + second + third)


def test_the_queue_is_first_come_first_served_when_the_batch_is_full() -> None:
    engine = engine_of(maximum_running=1)
    for k in range(4):
        enqueue(engine, 0, k, 10, 5 - k, 0.0)
    advance(engine, 0, math.inf)
    assert list(engine.finished[0, :4]) == [0, 1, 2, 3]
    ends = engine.request["finished_at"][:4]
    starts = engine.request["first_token_at"][:4]
    assert (starts[1:] > ends[:-1]).all()


def test_a_preempted_request_computes_its_tokens_again_and_ends_with_the_right_length() -> None:
    engine = engine_of(kv_capacity=40)
    enqueue(engine, 0, 0, 10, 20, 0.0)
    enqueue(engine, 0, 1, 10, 20, 0.0)
    advance(engine, 0, math.inf)
    assert engine.expert[0]["preemption_count"] == 1
    first, second = engine.request[:2]
    assert second["first_token_at"] < first["finished_at"] < second["finished_at"]
    # The second, one token behind the first, is sent back with 9 tokens: then 20 + 19 are held and 2 more would come.
    again = 0.011 + (1e-5 + 1e-4) * 19
    rest = [0.011 + 1e-5 * context for context in range(20, 30)]
    assert second["finished_at"] == pytest.approx(first["finished_at"] + again + sum(rest))


def test_an_idle_expert_has_no_end_of_iteration() -> None:
    engine = engine_of()
    assert iteration_ends_at(engine, 0) == math.inf
    enqueue(engine, 0, 0, 100, 1, 2.0)
    assert iteration_ends_at(engine, 0) == pytest.approx(2.022)
    advance(engine, 0, 2.021)
    assert generated(engine, 0, 0) == 0
    advance(engine, 0, iteration_ends_at(engine, 0))
    assert generated(engine, 0, 0) == 1
    assert iteration_ends_at(engine, 0) == math.inf


def test_tokens_count_at_boundaries_only() -> None:
    engine = engine_of((0.01, 0, 0, 0))
    enqueue(engine, 0, 0, 1, 100, 0.0)
    for tokens in range(1, 100, 7):
        advance(engine, 0, 0.01 * tokens + 0.004)
        assert generated(engine, 0, 0) == tokens


def test_cancelling_a_waiting_request_leaves_the_order_of_the_others() -> None:
    engine = engine_of(maximum_running=1)
    for k in range(4):
        enqueue(engine, 0, k, 10, 5, 0.0)
    cancel(engine, 0, 2, 0.0)
    advance(engine, 0, math.inf)
    assert list(engine.finished[0, :3]) == [0, 1, 3]
    assert np.isnan(engine.request[2]["finished_at"])


def test_a_cancelled_request_does_not_shorten_the_iteration_under_way() -> None:
    engine = engine_of()
    enqueue(engine, 0, 0, 10, 9, 0.0)
    advance(engine, 0, 0.001)
    enqueue(engine, 0, 1, 5_000, 9, 0.001)
    started = iteration_ends_at(engine, 0)
    advance(engine, 0, started)
    end = iteration_ends_at(engine, 0)
    cancel(engine, 0, 1, 0.5 * (started + end))
    assert iteration_ends_at(engine, 0) == pytest.approx(end)
    advance(engine, 0, end)
    assert iteration_ends_at(engine, 0) == pytest.approx(end + 0.011 + 1e-5 * 12)


def test_nothing_happens_before_the_moment_of_a_cancellation() -> None:
    engine = engine_of()
    enqueue(engine, 0, 0, 10, 9, 0.0)
    enqueue(engine, 0, 1, 5_000, 9, 0.0)
    advance(engine, 0, 0.5)
    cancel(engine, 0, 1, 0.5)
    enqueue(engine, 0, 2, 10, 1, 0.5)
    advance(engine, 0, math.inf)
    assert engine.request[2]["first_token_at"] > 0.5


def test_cancelling_the_only_request_frees_the_expert_at_once() -> None:
    engine = engine_of()
    enqueue(engine, 0, 0, 5_000, 9, 0.0)
    cancel(engine, 0, 0, 0.3)
    assert iteration_ends_at(engine, 0) == math.inf
    assert engine.expert[0]["busy_seconds"] == pytest.approx(0.3)
    enqueue(engine, 0, 1, 10, 1, 0.4)
    advance(engine, 0, math.inf)
    assert engine.request[1]["finished_at"] == pytest.approx(0.4 + 0.011 + 1e-5 * 10 + 1e-4 * 10)


def test_a_place_in_the_engine_can_be_used_again() -> None:
    engine = engine_of(requests=2)
    clock = 0.0
    for k in range(7):
        enqueue(engine, 0, k % 2, 10, 2, clock)
        advance(engine, 0, clock + 1.0)
        clock += 1.0
        assert engine.request[k % 2]["finished_at"] <= clock
    assert engine.expert[0]["finished_count"] == 7


def test_experts_do_not_disturb_each_other() -> None:
    table: npt.NDArray[np.float64] = np.array([COEFFICIENTS, COEFFICIENTS], np.float64)
    engine = new_engine(table, np.zeros(2), np.array([1, 8]), 8)
    for k in range(8):
        enqueue(engine, k % 2, k, 10, 3, 0.0)
    advance(engine, 1, math.inf)
    assert np.isnan(engine.request["finished_at"][0::2]).all()
    alone = engine_of()
    for k in range(4):
        enqueue(alone, 0, k, 10, 3, 0.0)
    advance(alone, 0, math.inf)
    np.testing.assert_array_equal(engine.request["finished_at"][1::2], alone.request["finished_at"][:4])
