import math
from dataclasses import replace

import numpy as np
import pytest

from pointsman_policy.evaluation.metrics import Figures, figures, mean_figures
from pointsman_policy.simulator.outcomes import Outcomes


def _outcomes(
    *,
    ttft: float = 0.5,
    end: float = 2.5,
    tokens: int = 11,
    quality: float = 0.8,
    objectives: tuple[float, float, float] = (0.0, 0.0, 0.0),
    answered: bool = True,
    dropped: bool = False,
) -> Outcomes:
    return Outcomes(
        arrival_at=np.array([100.0]),
        first_token_at=np.array([100.0 + ttft]),
        end_at=np.array([100.0 + end]),
        output_tokens=np.array([tokens]),
        quality=np.array([quality]),
        objectives=np.array([objectives]),
        answered=np.array([answered]),
        dropped=np.array([dropped]),
    )


def _together(*parts: Outcomes) -> Outcomes:
    names = Outcomes.__dataclass_fields__
    return Outcomes(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def test_times_follow_their_definitions() -> None:
    outcomes = _outcomes(ttft=0.5, end=2.5, tokens=11)

    assert outcomes.ttft_seconds()[0] == pytest.approx(0.5)
    assert outcomes.tpot_seconds()[0] == pytest.approx(0.2)
    assert outcomes.ntpot_seconds()[0] == pytest.approx(2.5 / 11)


@pytest.mark.parametrize(
    ("objectives", "met"),
    [
        ((0.0, 0.0, 0.0), True),
        ((0.6, 0.0, 0.0), True),
        ((0.4, 0.0, 0.0), False),
        ((0.0, 0.21, 0.0), True),
        ((0.0, 0.19, 0.0), False),
        ((0.0, 0.0, 0.23), True),
        ((0.0, 0.0, 0.22), False),
        ((0.6, 0.21, 0.22), False),
        ((0.6, 0.21, 0.23), True),
    ],
)
def test_every_objective_that_is_set_must_be_met(objectives: tuple[float, float, float], met: bool) -> None:
    outcomes = _outcomes(objectives=objectives)

    assert outcomes.met()[0] == met
    assert outcomes.qos()[0] == (0.8 if met else 0.0)


def test_an_objective_met_to_the_last_bit_is_met() -> None:
    outcomes = _outcomes(ttft=0.5, objectives=(0.5, 0.0, 0.0))

    assert outcomes.met()[0]


def test_an_answer_of_one_token_cannot_miss_its_tpot() -> None:
    outcomes = _outcomes(tokens=1, objectives=(0.0, 0.001, 0.0))

    assert math.isnan(outcomes.tpot_seconds()[0])
    assert outcomes.met()[0]


def test_an_answer_of_unknown_length_meets_no_per_token_objective() -> None:
    assert not _outcomes(tokens=0, objectives=(0.0, 0.0, 9.0)).met()[0]
    assert not _outcomes(tokens=0, objectives=(0.0, 9.0, 0.0)).met()[0]
    assert _outcomes(tokens=0, objectives=(9.0, 0.0, 0.0)).met()[0]


def test_dropped_and_failed_requests_count_zero_but_count() -> None:
    good, late = _outcomes(quality=0.9), _outcomes(quality=0.5, objectives=(0.1, 0.0, 0.0))
    dropped, failed = _outcomes(answered=False, dropped=True), _outcomes(answered=False)

    result = figures(_together(good, late, dropped, failed), busy_seconds=2.0, decisions_per_second=7.0)

    assert result.requests == 4
    assert result.mean_qos == pytest.approx(0.9 / 4)
    assert result.slo_attainment_ratio == 0.25
    assert result.mean_quality_served == pytest.approx(0.7)
    assert (result.drop_ratio, result.failure_ratio) == (0.25, 0.25)
    assert result.qos_per_busy_second == pytest.approx(0.45)
    assert result.decisions_per_second == 7.0


def test_percentiles_are_over_answered_requests_only() -> None:
    parts = [_outcomes(ttft=0.01 * k, end=5.0) for k in range(1, 102)]
    unanswered = _outcomes(ttft=99.0, answered=False)

    result = figures(_together(*parts, unanswered))

    assert result.ttft_seconds_p50 == pytest.approx(0.51)
    assert result.ttft_seconds_p99 == pytest.approx(1.0)


def test_what_is_not_known_is_not_a_number() -> None:
    result = figures(_outcomes(answered=False))

    for value in (result.mean_quality_served, result.ntpot_seconds_p99, result.qos_per_busy_second):
        assert math.isnan(value)
    assert math.isnan(result.decisions_per_second)
    assert result.mean_qos == 0.0


def test_impossible_outcomes_are_refused() -> None:
    with pytest.raises(ValueError, match="both answered and dropped"):
        _outcomes(answered=True, dropped=True)
    empty = {name: getattr(_outcomes(), name)[:0] for name in Outcomes.__dataclass_fields__}
    with pytest.raises(ValueError, match="without any request"):
        Outcomes(**empty)


def test_means_over_runs_leave_out_what_a_run_does_not_know() -> None:
    first = figures(_outcomes(quality=0.4), busy_seconds=1.0)
    second = replace(first, mean_qos=0.8, qos_per_busy_second=math.nan)

    result = mean_figures([first, second])

    assert isinstance(result, Figures)
    assert result.requests == 2
    assert result.mean_qos == pytest.approx(0.6)
    assert result.qos_per_busy_second == pytest.approx(0.4)
    assert math.isnan(result.decisions_per_second)
