import numpy as np
import pytest

from pointsman_policy.latency.impact import added_delay, newly_late

K1 = 7.2e-5
K2 = 2.5e-5


def paper_delay(prompt: int, output: int, remaining: int) -> float:
    """The paper's sum, term by term."""
    return K1 * prompt + K2 * sum(prompt + k for k in range(1, min(remaining, output)))


@pytest.mark.parametrize(
    ("prompt", "output", "remaining", "seconds"),
    [
        # four shared decodes: k2 times 101, 102, 103, 104 tokens
        (100, 5, 50, 0.0072 + 0.01025),
        # the running request ends first: k2 times 101, 102
        (100, 50, 3, 0.0072 + 0.005075),
        # one shared iteration: only the prefill
        (100, 1, 50, 0.0072),
        (100, 50, 1, 0.0072),
        (1_000, 2, 2, 0.072 + 0.025025),
    ],
)
def test_the_delay_is_the_papers_on_numbers_worked_out_by_hand(
    prompt: int, output: int, remaining: int, seconds: float
) -> None:
    assert added_delay(prompt, output, remaining, 0.0, K2, K1) == pytest.approx(seconds, rel=1e-12)


def test_the_closed_form_equals_the_papers_sum() -> None:
    rng = np.random.default_rng(0)
    for prompt, output, remaining in rng.integers(1, 400, (200, 3)).tolist():
        delay = added_delay(prompt, output, remaining, 0.0, K2, K1)
        assert delay == pytest.approx(paper_delay(prompt, output, remaining), rel=1e-12)


def test_each_sequence_costs_its_share_in_every_later_shared_iteration() -> None:
    without = added_delay(100, 5, 50, 0.0, K2, K1)
    assert added_delay(100, 5, 50, 1e-3, K2, K1) == pytest.approx(without + 4e-3)


@pytest.mark.parametrize("remaining", [0.0, -1.0, -100.0])
def test_a_request_that_ends_before_the_new_one_is_admitted_is_not_delayed(remaining: float) -> None:
    assert added_delay(1_000, 100, remaining, 1e-3, K2, K1) == 0.0


def test_the_delay_grows_with_prompt_output_and_what_remains() -> None:
    base = added_delay(100, 50, 40, 1e-4, K2, K1)
    assert added_delay(101, 50, 40, 1e-4, K2, K1) > base
    assert added_delay(100, 30, 40, 1e-4, K2, K1) < base
    assert added_delay(100, 50, 41, 1e-4, K2, K1) > base
    assert added_delay(100, 60, 40, 1e-4, K2, K1) == base


@pytest.mark.parametrize(
    ("latency", "delay", "late"),
    [
        (24, 7, False),
        (24, 8, False),  # exactly the objective is in time
        (24, 9, True),
        (32, 1, True),  # just in time before
        (33, 0, False),
        (33, 9, False),  # late already: the paper's uncorrected rule would charge it
    ],
)
def test_only_the_crossing_of_the_objective_counts(latency: int, delay: int, late: bool) -> None:
    unit = 2.0**-10  # an objective of 32 units, 31 ms
    assert newly_late(latency * unit, delay * unit * 128.0, 128.0, 32 * unit) is late


def test_a_late_request_is_charged_once_over_many_arrivals() -> None:
    latency, charged = 0.029, 0
    for _ in range(20):
        delay = added_delay(400, 50, 60, 0.0, K2, K1)
        charged += newly_late(latency, delay, 80.0, 0.03)
        latency += delay / 80.0
    assert latency > 0.03
    assert charged == 1
