"""Which replica is active."""

import datetime
from typing import Any

import pytest

from pointsman_operator.control.peering import outranked_by, priority_of_start

NOW = datetime.datetime(2026, 11, 22, 8, 0, 0, tzinfo=datetime.UTC)


def _peer(priority: object, seen: str = "2026-11-22T07:59:50+00:00", lifetime: object = 20) -> dict[str, Any]:
    return {"priority": priority, "lastseen": seen, "lifetime": lifetime}


@pytest.mark.parametrize(
    ("peers", "expected"),
    [
        (None, ""),
        ({}, ""),
        ({"me": _peer(5)}, ""),
        ({"me": _peer(5), "other": _peer(4)}, ""),
        ({"me": _peer(5), "other": _peer(6)}, "other"),
        ({"other": _peer(5)}, "other"),
        ({"other": _peer(6, "2026-11-22T07:59:39+00:00")}, ""),
        ({"other": _peer(6, "2026-11-22T07:59:41")}, "other"),
        ({"other": _peer(6, "yesterday")}, ""),
        ({"other": _peer(6, lifetime="long")}, ""),
        ({"other": _peer(6, lifetime=10**20)}, ""),
        ({"other": "gone"}, ""),
    ],
)
def test_who_goes_before(peers: object, expected: str) -> None:
    assert outranked_by(peers, "me", 5, NOW) == expected


def test_who_starts_first_goes_first() -> None:
    assert priority_of_start(1_000.000) > priority_of_start(1_000.002)
