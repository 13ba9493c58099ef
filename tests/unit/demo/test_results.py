import dataclasses
import io
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from pointsman_operator.demo.health import Health
from pointsman_operator.demo.live import LiveView
from pointsman_operator.demo.messages import Report
from pointsman_operator.demo.results import choose_decision, show, summarise
from pointsman_operator.demo.scoreboard import Scoreboard
from pointsman_operator.demo.settings import DemoSettings
from pointsman_operator.demo.workload import DemoWorkload

HEALTHY = Health(
    client_lateness_seconds=np.array([0.001, 0.002]),
    expert_late_ratio=0.001,
    open_decisions=0,
    fallback_picks=0,
    prometheus_queries=12,
    cpu_shares={"envoy": 0.25},
)


def report(workload: DemoWorkload, rule: int, index: int, model: str = "Llama-3.1-8B", seconds: float = 0.1) -> Report:
    arrival = float(workload.requests.arrival_seconds[index])
    return Report(
        rule,
        index,
        "answered",
        arrival + 0.001,
        arrival + seconds,
        first_token_at=arrival + 0.05,
        output_tokens=10,
        model=model,
        decision_id=f"d-{rule}-{index}",
    )


@pytest.fixture
def scoreboard(workload: DemoWorkload) -> Scoreboard:
    """RoundRobin answers with the small model, ImpactGreedy with the large one, but for a drop and a failure."""
    board = Scoreboard(workload, ("RoundRobin", "ImpactGreedy"))
    for index in range(len(workload.requests)):
        board.take(report(workload, 0, index, "gemma-2-2b"))
        if index == 0:
            board.take(Report(1, index, "dropped", 0.0, 0.1))
        elif index == 1:
            board.take(Report(1, index, "failed", 0.0, 45.0, problem="gave up after 45 s"))
        else:
            board.take(report(workload, 1, index, "gemma-2-2b" if index == 25 else "Llama-3.1-8B"))
    return board


def test_quality_is_that_of_the_model_that_answered(scoreboard: Scoreboard) -> None:
    outcomes = scoreboard.tallies["ImpactGreedy"].outcomes()
    assert outcomes is not None
    assert outcomes.qos().tolist() == [0.0, 0.0, *([0.75] * 23), 0.25, *([0.75] * 4)]
    tally = scoreboard.tallies["ImpactGreedy"]
    assert (tally.answered, tally.dropped, tally.failed) == (28, 1, 1)


def test_an_answer_by_an_unknown_model_is_a_failure(workload: DemoWorkload) -> None:
    board = Scoreboard(workload, ("RoundRobin",))
    board.take(report(workload, 0, 3, "someone-else"))
    tally = board.tallies["RoundRobin"]
    assert tally.failed == 1
    assert tally.problems == Counter({"answered by an unknown model 'someone-else'": 1})


def test_latency_counts_from_the_planned_arrival(workload: DemoWorkload) -> None:
    board = Scoreboard(workload, ("RoundRobin",))
    board.take(report(workload, 0, 3, seconds=0.31))
    outcomes = board.tallies["RoundRobin"].outcomes()
    assert outcomes is not None
    assert outcomes.ntpot_seconds() == pytest.approx([0.031])
    assert outcomes.qos().tolist() == [0.0]
    assert board.lateness_seconds() == pytest.approx([0.001])


def test_the_live_view_shows_the_counts(scoreboard: Scoreboard) -> None:
    console = Console(file=io.StringIO(), width=90)
    console.print(LiveView(scoreboard, console, 10.0).render(1e6, {"envoy": 0.31}))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    (row,) = (line.split() for line in text.splitlines() if "ImpactGreedy" in line)
    assert row[1:5] == ["30", "28", "1", "1"]
    assert "envoy 31%" in text


def test_nothing_is_known_at_first(workload: DemoWorkload) -> None:
    board = Scoreboard(workload, ("RoundRobin",))
    console = Console(file=io.StringIO(), width=90)
    console.print(LiveView(board, console, 10.0).render(0.0, {}))
    assert board.tallies["RoundRobin"].outcomes() is None
    assert choose_decision(board) is None


def test_a_decision_worth_explaining_did_not_take_the_best_model(scoreboard: Scoreboard) -> None:
    assert choose_decision(scoreboard) == "d-1-25"


def test_the_summary_compares_and_writes_files(scoreboard: Scoreboard, settings: DemoSettings, tmp_path: Path) -> None:
    busy = {"RoundRobin": 10.0, "ImpactGreedy": None}
    result = summarise(tmp_path, scoreboard, settings, HEALTHY, busy, "large, because ...")
    assert result.comparison.best == "ImpactGreedy"
    rows = {row["picker"]: row for row in json.loads(result.results.read_text())["rows"]}
    assert rows["RoundRobin"]["mean_qos"] == pytest.approx(0.25)
    assert rows["RoundRobin"]["qos_per_busy_second"] == pytest.approx(0.25 * 30 / 10)
    assert rows["ImpactGreedy"]["qos_per_busy_second"] is None
    assert rows["ImpactGreedy"]["load"] == 0.5
    page = result.report.read_text()
    assert "12 queries answered" in page
    assert "The machine kept up" in page
    console = Console(file=io.StringIO(), width=100)
    show(result, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for expected in (
        "ImpactGreedy less",
        "1 requests failed: gave up after 45 s",
        "large, because ...",
        str(result.report),
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"client_lateness_seconds": np.full(100, 0.08)}, "sent more than 80 ms late"),
        ({"expert_late_ratio": 0.02}, r"told of 2\.0\s% of their tokens more than 50 ms late"),
        ({"open_decisions": 3}, "never heard of the end of 3 requests"),
    ],
)
def test_an_overloaded_machine_is_named(change: dict[str, object], problem: str) -> None:
    verdict = dataclasses.replace(HEALTHY, **change).verdict()  # type: ignore[arg-type]
    assert verdict.startswith("The machine was overloaded, do not trust these figures")
    assert re.search(problem, verdict)
