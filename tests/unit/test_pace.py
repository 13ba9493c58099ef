import math

import numpy as np
import numpy.typing as npt
import pytest

from pointsman_policy.ledger import Ledger, new_ledger, open_entry
from pointsman_policy.pace import note_progress, pace_ratio
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.reckoning import BELIEF, new_loads
from pointsman_policy.simulator.simulation import Fleet, Requests, Visibility, simulate

ITERATION = 0.010 + 1 * 0.001


class Expert:
    """One expert of a router, whose believed iteration with one short request takes 11 ms."""

    def __init__(self) -> None:
        self.ledger: Ledger = new_ledger(1, 64)
        self.loads = new_loads(1)
        self.beliefs: npt.NDArray[np.void] = np.zeros(1, BELIEF)
        self.beliefs["base_seconds"] = 0.010
        self.beliefs["per_sequence_seconds"] = 0.001
        self.beliefs["per_prefill_token_seconds"] = 1e-4
        self.beliefs["maximum_running_count"] = 8

    def open(self, now: float) -> int:
        slot = open_entry(self.ledger, 0)
        entry = self.ledger.entry[slot]
        entry["arrival_at"] = entry["progress_at"] = now
        entry["first_token_at"] = math.nan
        entry["prompt_tokens"], entry["predicted_output_tokens"] = 10, 100
        return slot

    def tell(self, slot: int, at: float, tokens: float, first_token_at: float = math.nan) -> None:
        note_progress(self.ledger, self.beliefs, self.loads, 0, slot, at, tokens, first_token_at)

    @property
    def pace(self) -> float:
        return pace_ratio(self.loads[0])


def test_nothing_observed_means_as_believed() -> None:
    assert Expert().pace == 1.0


@pytest.mark.parametrize("slowness", [0.5, 1.0, 1.6])
def test_reports_move_the_pace_to_what_is_observed(slowness: float) -> None:
    expert = Expert()
    slot = expert.open(0.0)
    expert.tell(slot, 1.0, 1.0, first_token_at=1.0)
    for second in range(2, 400):
        expert.tell(slot, float(second), 1.0 + (second - 1.0) / (slowness * ITERATION))
    assert expert.pace == pytest.approx(slowness, rel=0.1)


def test_one_odd_report_matters_little_and_old_ones_fade() -> None:
    expert = Expert()
    slot = expert.open(0.0)
    expert.tell(slot, 1.0, 1.0, first_token_at=1.0)
    expert.tell(slot, 2.0, 1.0 + 0.25 / ITERATION)
    assert 1.0 < expert.pace < 1.12
    tokens = float(expert.ledger.entry[slot]["tokens"])
    for second in range(3, 600):
        expert.tell(slot, float(second), tokens + (second - 2.0) / ITERATION)
    assert expert.pace == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    ("at", "tokens", "first_token_at"),
    [
        pytest.param(1.001, 200.0, 1.0, id="the whole answer at once"),
        pytest.param(3.0, 2.0, 1.0, id="too few tokens"),
        pytest.param(3.0, 100.0, math.nan, id="no first token told"),
        pytest.param(1.0, 100.0, 2.0, id="a clock that runs backwards"),
    ],
)
def test_reports_that_tell_nothing_leave_the_pace(at: float, tokens: float, first_token_at: float) -> None:
    expert = Expert()
    slot = expert.open(0.0)
    expert.tell(slot, at, tokens, first_token_at)
    assert expert.pace == 1.0
    assert expert.ledger.entry[slot]["tokens"] == tokens


@pytest.mark.parametrize("interval", [0.02, 0.1, 0.25, 1.0])
def test_the_pace_does_not_depend_on_how_often_reports_come(interval: float) -> None:
    expert = Expert()
    slot = expert.open(0.0)
    expert.tell(slot, 0.0, 1.0, first_token_at=0.0)
    now, tokens = 0.0, 1.0
    stalls = np.random.default_rng(2).random(20_000) < 0.3  # a third of the intervals brings nothing
    for stalled in stalls[: int(200 / interval)]:
        now += interval
        tokens += 0.0 if stalled else interval / ITERATION
        expert.tell(slot, now, tokens)
    assert expert.pace == pytest.approx(1 / 0.7, rel=0.12)


def test_time_spent_on_prompts_is_not_taken_for_slowness() -> None:
    expert = Expert()
    expert.loads[0]["prefill_tokens_per_second"] = 3_000.0  # 0.3 s of prompts a second
    slot = expert.open(0.0)
    expert.tell(slot, 0.0, 1.0, first_token_at=0.0)
    for second in range(1, 200):
        expert.loads[0]["prefill_at"] = second
        expert.tell(slot, float(second), 1.0 + 0.7 * second / ITERATION)
    assert expert.pace == pytest.approx(1.0, abs=0.02)


def test_a_router_with_wrong_beliefs_learns_the_truth() -> None:
    true = np.array([[0.012, 2e-4, 1e-7, 4e-5], [0.02, 3e-4, 1e-7, 6e-5]])
    n = 4_000
    rng = np.random.default_rng(3)
    requests = Requests(
        arrival_at=np.cumsum(rng.exponential(0.05, n)),
        prompt_tokens=rng.integers(20, 400, n),
        output_tokens=rng.integers(20, 300, (n, 2)),
        predicted_quality=np.full((n, 2), [0.5, 0.8], np.float32),
        predicted_output_tokens=np.full((n, 2), 160, np.float32),
        objectives=np.tile([0.0, 0.0, 0.04], (n, 1)),
        priority=np.zeros(n, np.int64),
        quality_floor=0.0,
    )

    def mean_qos(scale: float) -> float:
        fleet = Fleet(true, true * scale, np.zeros(2), np.full(2, 64), np.array([0.5, 0.8]))
        run = simulate(fleet, requests, PICKERS["ImpactGreedy"], np.random.default_rng(0), Visibility())
        tokens = requests.output_tokens[np.arange(n), run.expert]
        met = (run.finished_at - requests.arrival_at) / tokens <= 0.04
        return float((met * np.array([0.5, 0.8])[run.expert]).mean())

    right = mean_qos(1.0)
    assert mean_qos(0.7) > 0.95 * right
    assert mean_qos(1.3) > 0.95 * right
