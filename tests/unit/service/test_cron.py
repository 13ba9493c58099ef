import datetime

import pytest

from pointsman_policy.service.cron import Cron


def at(text: str) -> float:
    return datetime.datetime.fromisoformat(f"{text}+00:00").timestamp()


@pytest.mark.parametrize(
    ("schedule", "now", "expected"),
    [
        ("0 3 * * *", "2026-11-22T02:59:59", "2026-11-22T03:00:00"),
        ("0 3 * * *", "2026-11-22T03:00:00", "2026-11-23T03:00:00"),
        ("*/15 * * * *", "2026-11-22T10:01:00", "2026-11-22T10:15:00"),
        ("7/20 * * * *", "2026-11-22T10:28:00", "2026-11-22T10:47:00"),
        ("30 1-3,22 * * *", "2026-11-22T03:31:00", "2026-11-22T22:30:00"),
        ("0 0 31 * *", "2026-11-22T00:00:00", "2026-12-31T00:00:00"),
        ("0 0 29 2 *", "2026-11-22T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 * * mon-fri", "2026-11-20T12:00:00", "2026-11-23T00:00:00"),
        ("0 0 * JAN 7", "2026-11-22T12:00:00", "2027-01-03T00:00:00"),
        ("0 0 13 * 5", "2026-11-22T12:00:00", "2026-11-27T00:00:00"),  # a Friday, or a 13th
        ("59 23 31 12 *", "2026-12-31T23:59:00", "2027-12-31T23:59:00"),
    ],
)
def test_when_it_is_time_again(schedule: str, now: str, expected: str) -> None:
    assert Cron(schedule).next_after(at(now)) == at(expected)


@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        ("0 3 * *", "five cron fields"),
        ("60 * * * *", "minute: '60' is outside 0 to 59"),
        ("* * 0 * *", "day of month: '0'"),
        ("* 5-3 * * *", "hour: '5-3'.*runs backwards"),
        ("*/0 * * * *", r"minute: '\*/0'"),
        ("a * * * *", "minute: 'a' is no number"),
        ("* * * foo *", "month: 'foo' is no number; names are jan"),
        ("1- * * * *", "minute: '1-' is neither a number nor a range"),
        ("0 0 30 2 *", "names no day that ever comes"),
    ],
)
def test_what_is_no_schedule_is_refused_with_its_field(schedule: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Cron(schedule)
