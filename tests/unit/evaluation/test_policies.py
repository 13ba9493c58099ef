import io
import json
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from pointsman_operator.cli import bench_policies as command
from pointsman_operator.cli.bench_policies import PoliciesOptions
from pointsman_policy.errors import DocumentError
from pointsman_policy.evaluation.contestants import line_up
from pointsman_policy.evaluation.materials import packaged
from pointsman_policy.evaluation.policies import SuitePlan, SuiteRun, in_order, run_suite
from pointsman_policy.evaluation.preparation import prepare
from pointsman_policy.evaluation.suite import suite

FIRST = line_up()[0].name
NAMES = ("poisson", "poisson, never drop")


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=160, record=True)


def options(out: Path, **changes: object) -> PoliciesOptions:
    values: dict[str, object] = {
        "data": None,
        "scenarios": NAMES,
        "seeds": (1,),
        "requests": 60,
        "tuned_peers": None,
        "trained": (),
        "tune_minutes": 0.0,
        "processes": 1,
        "out": out,
    }
    return PoliciesOptions(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plan() -> SuitePlan:
    materials = packaged()
    chosen = tuple(one for one in suite(materials, 60) if one.name in NAMES)
    few = tuple(one for one in line_up() if one.name in ("ImpactGreedy", "PowerOfTwo", f"{FIRST}, clairvoyant"))
    return SuitePlan(chosen, prepare(chosen, materials.folder), few, (1, 2))


def figures_of(runs: list[SuiteRun]) -> list[tuple[object, ...]]:
    return [
        (run.workload, run.rule.picker, run.rule.figures.mean_qos, run.rule.figures.ntpot_seconds_p99) for run in runs
    ]


def test_every_contestant_meets_every_workload(plan: SuitePlan) -> None:
    runs = [run for of_workload in run_suite(plan, 1) for run in of_workload]
    assert len(runs) == len(plan.workloads()) * 3 == 36
    assert len({(run.workload, run.rule.picker) for run in runs}) == 36
    assert plan.workloads()[0].seed == plan.workloads()[5].seed == 1
    for run in runs:
        assert run.rule.figures.requests == 60
        assert run.rule.qos.mean == pytest.approx(run.rule.figures.mean_qos)


def test_several_processes_give_the_same_runs(plan: SuitePlan) -> None:
    alone, together = (
        in_order(plan, [run for of_workload in run_suite(plan, count) for run in of_workload]) for count in (1, 2)
    )
    assert figures_of(alone) == figures_of(together)


def test_processes_end_with_the_iterator(plan: SuitePlan) -> None:
    with closing(run_suite(plan, 2)) as results:
        first = next(results)
    assert len(first) == 3


def test_the_command_writes_everything(tmp_path: Path, console: Console) -> None:
    out = tmp_path / "new" / "folder"
    assert command.bench_policies(options(out), console)
    document = json.loads((out / "results.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert document["meta"] == {
        "schema": 1,
        "complete": True,
        "requests": 60,
        "data": "packaged sample",
        "seeds": [1],
    }
    assert len(document["rows"]) == 6 * len(line_up())
    assert {row["scenario"] for row in document["rows"]} == set(NAMES)
    subjects = {one.name for one in line_up() if one.role == "subject"}
    assert {target["policy"] for target in document["targets"]} == subjects
    assert {one["name"] for one in document["contestants"]} == {one.name for one in line_up()}
    page = (out / "report.html").read_text("utf-8")
    assert "may drop: over the suite" in page
    assert page.count("<details>") == 2
    tables = (out / "tables.md").read_text("utf-8")
    assert f"### Mean QoS of {FIRST} over that of its peers" in tables
    drawing = (out / "figures" / f"ratios-{FIRST}.svg").read_text("utf-8")
    assert drawing.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    printed = console.export_text()
    assert "6 of 6 workloads" in printed
    assert "may drop: worst cell" in printed


def test_stopping_the_command_keeps_what_is_finished(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(plan: SuitePlan, processes: int) -> Generator[list[SuiteRun], None, None]:
        for count, of_workload in enumerate(run_suite(plan, processes)):
            if count == 2:
                raise KeyboardInterrupt
            yield of_workload

    monkeypatch.setattr(command, "run_suite", interrupted)
    assert not command.bench_policies(options(tmp_path), console)
    document = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert document["meta"]["complete"] is False
    assert len(document["rows"]) == 2 * len(line_up())
    assert "Stopped before its end" in (tmp_path / "report.html").read_text("utf-8")


def test_stopping_before_the_first_workload_writes_nothing(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(plan: SuitePlan, processes: int) -> Generator[list[SuiteRun], None, None]:
        if plan.workloads():
            raise KeyboardInterrupt
        yield []

    monkeypatch.setattr(command, "run_suite", interrupted)
    assert not command.bench_policies(options(tmp_path), console)
    assert list(tmp_path.iterdir()) == []
    assert "nothing is written" in console.export_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenarios": ("everything",)}, "--scenario: the suite has no family or scenario 'everything'; choose from"),
        ({"seeds": ()}, "--seeds: must be one or more integers"),
        ({"seeds": (-1,)}, "--seeds: must be one or more integers"),
        ({"data": Path("nowhere")}, "--data: nowhere has no "),
        ({"tune_minutes": 1.0, "tuned_peers": Path("tuned.json")}, "--tune-minutes: tunes anew"),
        ({"trained": ("HanActor",)}, "--trained-policy: must be NAME=FOLDER, not 'HanActor'"),
        ({"trained": ("StaticPrior=folder",)}, "--trained-policy: the name 'StaticPrior' is taken"),
        ({"trained": ("own=nowhere",)}, r"nowhere/manifest\.json: cannot be read"),
        ({"tuned_peers": Path("gone.json")}, r"gone\.json: cannot be read"),
    ],
)
def test_wrong_options_are_explained(
    tmp_path: Path, console: Console, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(DocumentError, match=message):
        command.bench_policies(options(tmp_path, **changes), console)
