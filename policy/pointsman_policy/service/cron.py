"""Cron schedules: five fields in UTC, as crontab(5) has them."""

import calendar
import datetime
import re
from typing import Final

_DAY = datetime.timedelta(days=1)
_MONTHS: Final = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_WEEKDAYS: Final = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
_FIELDS: Final[tuple[tuple[str, int, int, dict[str, int]], ...]] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _WEEKDAYS),
)
_RANGE = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?")
_LONGEST_SEARCH_DAYS = 366 * 8 + 1  # the 29th of February may be eight years away


class Cron:
    """A schedule.

    Where both days of month and of week are restricted, either will do, as cron has it.

    Args:
        text: Five fields: numbers, names of months and weekdays, "*", ranges, steps, lists.

    Raises:
        ValueError: If it is none, or names no day that ever comes; says which field is wrong.
    """

    def __init__(self, text: str) -> None:
        fields = text.split()
        if len(fields) != len(_FIELDS):
            raise ValueError('must be five cron fields (minute hour day month weekday), such as "0 3 * * *"')
        values = [_values(field, *known) for field, known in zip(fields, _FIELDS, strict=True)]
        self._minutes, self._hours = sorted(values[0]), sorted(values[1])
        self._days, self._months = values[2], values[3]
        self._weekdays = {day % 7 for day in values[4]}
        self._any_day, self._any_weekday = fields[2].startswith("*"), fields[4].startswith("*")
        if self._days_after(datetime.date(2024, 1, 1)) is None:
            raise ValueError(f"{text!r} names no day that ever comes; check its day of month and its month")

    def next_after(self, at: float) -> float:
        """Return when it is time again.

        Args:
            at: Unix seconds.

        Returns:
            Unix seconds, later than `at`.
        """
        moment = datetime.datetime.fromtimestamp(at, datetime.UTC)
        day = self._days_after(moment.date())
        while day is not None:
            for hour in self._hours:
                for minute in self._minutes:
                    found = datetime.datetime(day.year, day.month, day.day, hour, minute, tzinfo=datetime.UTC)
                    if found > moment:
                        return found.timestamp()
            day = self._days_after(day + _DAY)
        raise ValueError("there is no such time")  # the constructor has looked

    def _days_after(self, first: datetime.date) -> datetime.date | None:
        """Return the first day that fits, from one on."""
        for offset in range(_LONGEST_SEARCH_DAYS):
            day = first + offset * _DAY
            if day.month in self._months and self._fits(day):
                return day
        return None

    def _fits(self, day: datetime.date) -> bool:
        of_month, of_week = day.day in self._days, day.isoweekday() % 7 in self._weekdays
        return of_month and of_week if self._any_day or self._any_weekday else of_month or of_week


def _values(text: str, name: str, least: int, most: int, names: dict[str, int]) -> set[int]:
    result: set[int] = set()
    for part in text.lower().split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise ValueError(f"{name}: {part!r} is neither a number nor a range; write such as 5, 1-5, */15 or 1,3")
        first = least if match["first"] is None else _number(match["first"], name, names)
        last = first if match["first"] is not None and match["step"] is None else most
        if match["last"] is not None:
            last = _number(match["last"], name, names)
        step = int(match["step"] or 1)
        if not least <= first <= last <= most or step < 1:
            raise ValueError(f"{name}: {part!r} is outside {least} to {most}, or runs backwards")
        result.update(range(first, last + 1, step))
    return result


def _number(text: str, name: str, names: dict[str, int]) -> int:
    if text in names:
        return names[text]
    if not text.isdecimal():
        raise ValueError(f"{name}: {text!r} is no number" + (f"; names are {', '.join(names)}" if names else ""))
    return int(text)
