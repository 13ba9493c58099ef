import json
from pathlib import Path

import numpy as np
import pytest

from pointsman_policy.errors import DocumentError
from pointsman_policy.learning.agents import AGENT_NAMES, find_agent
from pointsman_policy.learning.training import CHECKPOINT, TrainingPlan, TrainingRun
from pointsman_policy.learning.training_log import CURVES, EVENTS


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def walk(run: TrainingRun, stop_after: int | None = None) -> float:
    """An agent that adds random numbers."""
    value, rounds = 0.0, 0
    if run.checkpoint is not None:
        value, rounds = float(run.checkpoint.arrays["value"][0]), run.checkpoint.rounds
    while not run.is_over and rounds != stop_after:
        value += float(np.random.default_rng([run.plan.seed, rounds]).random())
        rounds += 1
        run.record(rounds, {"walk/value": value, "walk/nothing": float("nan")}, f"at {value:.1f}")
        run.save({"note": "on the way"}, {"value": np.array([value])})
    return value


def plan(folder: Path, **changes: object) -> TrainingPlan:
    return TrainingPlan(**{"agent": "walk", "folder": folder, "rounds": 6, **changes})  # type: ignore[arg-type]


def test_a_run_that_was_killed_ends_where_another_one_does(tmp_path: Path) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    for folder in (straight, broken):
        folder.mkdir()
    with TrainingRun(plan(straight)) as run:
        expected = walk(run)
    TrainingRun(plan(broken)).log.close()
    walk(TrainingRun(plan(broken)), stop_after=4)  # never closed
    with TrainingRun(plan(broken), resume=True) as run:
        assert run.checkpoint is not None
        assert run.checkpoint.rounds == 4
        assert walk(run) == expected
        assert [row["round"] for row in run.log.rows] == [1, 2, 3, 4, 5, 6]
    assert len(list(broken.glob("checkpoint-*"))) == 1


def test_a_run_leaves_events_and_curves(tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    with TrainingRun(plan(tmp_path), progress=lambda share, line: told.append((share, line))) as run:
        walk(run)
    assert (tmp_path / CURVES).read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / EVENTS).glob("events*"))
    assert [share for share, _ in told] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1.0])
    assert told[0][1].startswith("at ")
    assert all("walk/nothing" not in row for row in run.log.rows)


def test_minutes_count_work_only(tmp_path: Path) -> None:
    clock = Clock()
    limited = plan(tmp_path, rounds=None, minutes=2.0)
    with TrainingRun(limited, clock=clock) as run:
        clock.now += 90
        assert not run.is_over
        run.record(1, {"a": 1.0})
        run.save({})
    clock.now += 10_000
    with TrainingRun(limited, resume=True, clock=clock) as run:
        assert run.seconds == pytest.approx(90)
        clock.now += 31
        assert run.is_over


def test_a_run_is_not_overwritten_nor_mixed_with_another(tmp_path: Path) -> None:
    with TrainingRun(plan(tmp_path)) as run:
        walk(run, stop_after=2)
    with pytest.raises(DocumentError, match="--resume"):
        TrainingRun(plan(tmp_path))
    with pytest.raises(DocumentError, match="another seed"):
        TrainingRun(plan(tmp_path, seed=1), resume=True)
    with pytest.raises(DocumentError, match="another agent"):
        TrainingRun(plan(tmp_path, agent="other"), resume=True)


@pytest.mark.parametrize("damage", ["{", "[]", '{"schema": 1}'])
def test_a_damaged_checkpoint_is_told(tmp_path: Path, damage: str) -> None:
    (tmp_path / CHECKPOINT).write_text(damage)
    with pytest.raises(DocumentError, match="no checkpoint that can be read"):
        TrainingRun(plan(tmp_path), resume=True)


def test_lost_arrays_are_told(tmp_path: Path) -> None:
    with TrainingRun(plan(tmp_path)) as run:
        walk(run, stop_after=2)
    next(tmp_path.glob("checkpoint-*")).unlink()
    with pytest.raises(DocumentError, match="no checkpoint that can be read"):
        TrainingRun(plan(tmp_path), resume=True)


def test_a_checkpoint_is_plain_json(tmp_path: Path) -> None:
    with TrainingRun(plan(tmp_path)) as run:
        walk(run)
    document = json.loads((tmp_path / CHECKPOINT).read_text())
    assert document["plan"] == {"agent": "walk", "seed": 0, "scenarios": []}
    assert document["rounds"] == 6


@pytest.mark.parametrize(
    ("wrong", "message"), [({"rounds": None}, "--minutes or --rounds"), ({"seed": -1}, "must be 0 or more")]
)
def test_a_plan_without_sense_is_refused(tmp_path: Path, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        plan(tmp_path, **wrong)


def test_a_wrong_scenario_is_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"none\.yaml"):
        plan(tmp_path, scenarios=(tmp_path / "none.yaml",)).check_scenarios()


@pytest.mark.parametrize("name", AGENT_NAMES)
def test_every_agent_is_found_by_its_name(name: str) -> None:
    assert find_agent(name).name == name
    assert find_agent(name).summary


def test_an_unknown_agent_is_told(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="choose from han, han-without-estimates, han-without-graph, impact-greedy"):
        find_agent("none")
