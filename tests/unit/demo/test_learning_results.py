import json
from pathlib import Path

import numpy as np
import pytest

from pointsman_operator.demo.drift import LANES
from pointsman_operator.demo.learning_results import Harm, Moment, summarise
from pointsman_operator.demo.messages import Report, Status
from pointsman_operator.demo.scoreboard import Scoreboard
from pointsman_operator.demo.settings import DemoSettings
from pointsman_operator.demo.workload import read_workload

MOMENTS = (
    Moment(20.0, "change", ""),
    Moment(60.0, "training", ""),
    Moment(80.0, "active", "v1"),
    Moment(140.0, "harm", ""),
)


def test_recovery_is_what_was_regained_of_what_there_was_to_regain(tmp_path: Path) -> None:
    """After the promotion the lane that learns answers as well as the informed one for half of the requests."""
    workload = read_workload(DemoSettings(out=tmp_path, seconds=160.0))
    board = Scoreboard(workload, LANES)
    best = next(iter(workload.expert_of()))
    for row, arrival in enumerate(workload.requests.arrival_seconds.tolist()[:-3]):  # the last ones are still open
        for rule in range(len(LANES)):
            good = rule == 2 or (rule == 1 and arrival > 80.0 and row % 2 == 0)
            status: Status = "answered" if good else "failed"
            model = best if good else ""
            board.take(Report(rule, row, status, arrival, arrival + 0.01, arrival + 0.005, 10, model))
    result = summarise(tmp_path, board, MOMENTS, Harm(50, 40, 9.5), 5.0, seed=0)
    assert result.recovery.share == pytest.approx(0.5, abs=0.05)
    assert result.recovery.low < result.recovery.share < result.recovery.high
    assert result.mean_qos["changed"]["learning"] == 0.0
    assert result.mean_qos["after"]["informed"] > 0.0
    arrivals = workload.requests.arrival_seconds
    assert result.requests["changed"] == np.sum((arrivals >= 25.0) & (arrivals < 60.0))
    assert result.requests["after"] == np.sum((arrivals >= 85.0) & (arrivals < 140.0))
    assert result.failed > 0
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["recovery"]["share"] == result.recovery.share
    assert document["harm"] == {"percent": 50, "requests": 40, "qos": 9.5}
    assert (tmp_path / "qos.png").read_bytes().startswith(b"\x89PNG")
