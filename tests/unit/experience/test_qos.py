import numpy as np
import pytest

from pointsman_policy.experience.qos import met, qos, yardsticks

NAN = float("nan")


def one(
    status: str = "completed",
    tokens: float = 11,
    ttft: float = 0.1,
    duration: float = 1.1,
    objectives: tuple[float, float, float] = (0, 0, 0),
) -> float:
    columns = [np.array([value], np.float32) for value in (tokens, ttft, duration, *objectives)]
    return float(met(np.array([status]), *columns)[0])


@pytest.mark.parametrize(
    ("objectives", "expected"),
    [
        ((0, 0, 0), 1),
        ((0.2, 0, 0), 1),
        ((0.05, 0, 0), 0),
        ((0, 0.11, 0), 1),  # (1.1 - 0.1) / 10
        ((0, 0.09, 0), 0),
        ((0, 0, 0.11), 1),  # 1.1 / 11
        ((0, 0, 0.09), 0),
        ((0.2, 0.11, 0.09), 0),
    ],
)
def test_every_objective_must_be_met(objectives: tuple[float, float, float], expected: float) -> None:
    assert one(objectives=objectives) == expected


def test_what_failed_or_was_shed_is_worth_nothing_and_what_nobody_awaited_is_not_judged() -> None:
    assert one("failed") == one("dropped", NAN, NAN, NAN) == 0
    assert np.isnan([one("cancelled"), one("expired")]).all()


def test_what_cannot_be_told_is_not_judged_unless_another_objective_was_missed() -> None:
    assert np.isnan(one(ttft=NAN, objectives=(0.2, 0, 0)))
    assert np.isnan(one(tokens=NAN, objectives=(0, 0, 0.2)))
    assert one(tokens=NAN, objectives=(0.05, 0, 0.2)) == 0
    assert one(ttft=NAN, objectives=(0, 0, 0.2)) == 1


def test_an_answer_of_one_token_has_no_tpot() -> None:
    assert one(tokens=1, ttft=1.0, duration=1.1, objectives=(0, 0.01, 0)) == 1
    assert np.isnan(one(tokens=0, objectives=(0, 0.01, 0)))


def test_qos_is_the_label_or_the_yardstick_where_objectives_were_met() -> None:
    quality = np.array([0.9, NAN, NAN, 0.9])
    yardstick = np.array([0.5, 0.5, 0.5, 0.5])
    result = qos(np.array([1, 1, 0, NAN]), quality, yardstick)
    np.testing.assert_array_equal(result, [0.9, 0.5, 0, NAN])


def test_the_yardstick_is_the_mean_label_once_there_are_twenty() -> None:
    assert yardsticks({"a": 0.5, "b": 0.6}, {"a": (20, 0.9), "b": (19, 0.9)}) == {"a": 0.9, "b": 0.6}
