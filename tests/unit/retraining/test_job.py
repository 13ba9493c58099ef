import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.unit.retraining.stores import POLICY, store_experience
from tests.unit.twin.experience import make_experience, make_situation

from pointsman_policy.registry.version import read_gate, read_version
from pointsman_policy.retraining.__main__ import main

_DEADLINE_SECONDS = 120.0
_CONTENT = ("policy/manifest.json", "calibration.json", "gate.json")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outcomes of a fleet of which one expert is slower than declared and one model worse."""
    root = tmp_path_factory.mktemp("root")
    situation = make_situation(count=2_000, rate=16.0, pace=(1.0, 1.6, 1.0), quality=(0.45, 0.45, 0.35))
    store_experience(root, make_experience(situation))
    return root


@pytest.fixture(scope="module")
def work(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Work folder of a training that was not interrupted."""
    work = tmp_path_factory.mktemp("work")
    assert main(_arguments(root, work)) == 0
    return work


def _arguments(root: Path, work: Path) -> list[str]:
    return ["--root", str(root), "--policy", POLICY, "--out", str(work), "--seed", "5", "--rounds", "2"]


def test_a_training_leaves_a_candidate_with_its_verdict(work: Path) -> None:
    result = json.loads((work / "result.json").read_bytes())
    candidate = read_version(work / "candidate")
    gate = read_gate(work / "candidate")
    assert gate is not None
    assert result == {"version": candidate.version, "passed": gate.passed, "summary": gate.summary}
    assert gate.passed, gate.summary
    assert candidate.policy == POLICY
    assert candidate.parent == ""
    assert candidate.outcomes == 1_500
    assert set(candidate.calibration.experts) == {"expert-0", "expert-1", "expert-2"}


def test_progress_is_told_phase_by_phase(work: Path) -> None:
    lines = [json.loads(line) for line in (work / "progress.jsonl").read_text().splitlines()]
    shares = [line["share"] for line in lines]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    phases = list(dict.fromkeys(line["phase"] for line in lines))
    assert phases == ["loading", "calibrating", "training", "gating", "done"]
    assert all(line["line"] for line in lines)


def test_a_training_that_is_killed_goes_on_to_the_same_end(root: Path, work: Path, tmp_path: Path) -> None:
    arguments = _arguments(root, tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "pointsman_policy.retraining", *arguments], stdout=subprocess.DEVNULL
    )
    _wait_for(tmp_path / "tuning" / "checkpoint.json", process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "candidate").exists()
    assert main(arguments) == 0
    for name in _CONTENT:
        assert (tmp_path / "candidate" / name).read_bytes() == (work / "candidate" / name).read_bytes()


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not path.exists():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_only_an_interrupted_training_needs_is_gone_at_the_end(work: Path) -> None:
    left = {path.name for path in work.iterdir()}
    assert left == {"inputs.json", "calibration.json", "candidate", "progress.jsonl", "result.json"}


def test_a_training_that_ended_is_not_done_again(root: Path, work: Path) -> None:
    before = (work / "candidate" / "version.json").stat().st_mtime_ns
    assert main(_arguments(root, work)) == 0
    assert (work / "candidate" / "version.json").stat().st_mtime_ns == before


def test_a_version_is_judged_alone(root: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--root", str(root), "--policy", POLICY, "--judge", str(work / "candidate"), "--seed", "6"]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"]
    gate = read_gate(work / "candidate")
    assert gate is not None
    assert gate.candidate_qos == report["candidateQos"]


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        ("edge/other", "there are 0 outcomes of edge/other, a training needs 200"),
        ("../other", 'must be "namespace/name" of a RouterPolicy'),
    ],
)
def test_what_cannot_be_trained_fails_in_one_line(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], policy: str, problem: str
) -> None:
    assert main(["--root", str(root), "--policy", policy, "--out", str(tmp_path), "--rounds", "1"]) == 1
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 1


def test_a_damaged_work_folder_is_told(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "inputs.json").write_text("{")
    assert main(["--root", str(root), "--policy", POLICY, "--out", str(tmp_path), "--rounds", "1"]) == 1
    assert "remove the work folder and train anew" in capsys.readouterr().err
