"""The share of recent requests that met their objectives, from routers' counters."""

import pytest

from pointsman_operator.control.attainment import Attainment


def _percent(*observations: tuple[str, int, int, float]) -> int | None:
    attainment = Attainment(window_seconds=300, resolution_seconds=10)
    for router, answered, met, now in observations:
        attainment.observe("edge/chat", router, answered, met, now)
    return attainment.percent("edge/chat")


@pytest.mark.parametrize(
    ("observations", "expected"),
    [
        ([], None),
        ([("a", 100, 50, 0)], None),
        ([("a", 100, 50, 0), ("a", 100, 50, 60)], None),
        ([("a", 100, 50, 0), ("a", 200, 149, 60)], 99),
        ([("a", 0, 0, 0), ("a", 300, 299, 60)], 99),
        ([("a", 0, 0, 0), ("b", 0, 0, 0), ("a", 10, 10, 60), ("b", 30, 0, 60)], 25),
        ([("a", 0, 0, 0), ("a", 100, 0, 100), ("a", 200, 100, 400)], 100),
        ([("a", 500, 500, 0), ("a", 10, 5, 60)], 50),
        ([("a", 0, 0, 0), ("a", 1, 0, 1), ("a", 2, 1, 2), ("a", 4, 3, 3)], 75),
    ],
    ids=[
        "nothing seen",
        "what was before the first look does not count",
        "no requests",
        "one router",
        "rounded down",
        "two routers",
        "old requests leave the window",
        "a restarted router",
        "samples in quick succession",
    ],
)
def test_the_share_of_the_window(observations: list[tuple[str, int, int, float]], expected: int | None) -> None:
    assert _percent(*observations) == expected


def test_memory_is_bounded_by_window_and_resolution() -> None:
    attainment = Attainment(window_seconds=100, resolution_seconds=10)
    for second in range(1_000):
        attainment.observe("p", "r", second, second, float(second))
    assert len(attainment._samples["p"]["r"]) <= 13
    assert attainment.percent("p") == 100


def test_policies_and_routers_that_are_gone_are_forgotten() -> None:
    attainment = Attainment()
    for policy in ("p", "q"):
        for router in ("r", "s"):
            attainment.observe(policy, router, 0, 0, 0.0)
            attainment.observe(policy, router, 4, 1 if router == "r" else 3, 1.0)
    attainment.forget(frozenset({"p"}), frozenset({"r"}))
    assert (attainment.percent("p"), attainment.percent("q")) == (25, None)
