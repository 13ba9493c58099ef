"""`pointsman policies` against a real policy service in this process."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tests.unit.cli.conftest import Run
from tests.unit.exports import greedy_export
from tests.unit.service.conftest import POLICY, Served, Services, batch, settings, training

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman.policy.v1 import policy_pb2_grpc
from pointsman_policy.registry.calibration import Calibration, ExpertCalibration, ModelCalibration
from pointsman_policy.registry.registry import Registry
from pointsman_policy.registry.version import GateReport, GateScenario, PolicyVersion, write_gate, write_version

BASE = ExpertCalibration(
    base_seconds=0.02,
    per_sequence_seconds=1e-4,
    per_context_token_seconds=1e-7,
    per_prefill_token_seconds=5e-5,
    outcomes=300,
)
SCENARIO = GateScenario(
    name="busy", candidate_qos=0.6, active_qos=0.5, rule_qos=0.55, gain=0.1, gain_low=0.04, gain_high=0.16
)


def make_version(folder: Path, base_seconds: float = 0.02, *, passed: bool = True) -> str:
    """Write a version with something to show."""
    calibration = Calibration(
        experts={"small": BASE.model_copy(update={"base_seconds": base_seconds})},
        models={"tiny": ModelCalibration(quality=0.61, output_tokens=88.0, labels=40, outcomes=300)},
    )
    version = PolicyVersion(POLICY, 1.79e9, "", 1234, greedy_export(), calibration, {"seed": "5"})
    written = write_version(folder, version)
    summary = "better everywhere" if passed else "worse than the rule in busy"
    write_gate(folder, GateReport(passed=passed, summary=summary, gain_lower_bound=0.04, scenarios=(SCENARIO,)))
    return written.version


@pytest.fixture
def versions(tmp_path: Path) -> list[str]:
    names = []
    for number, base in enumerate((0.02, 0.03)):
        folder = tmp_path / f"candidate-{number}"
        names.append(make_version(folder, base, passed=number == 0))
        Registry(tmp_path / "root").add(POLICY, folder)
    return names


@pytest.fixture
def target(tmp_path: Path, versions: list[str]) -> Iterator[str]:
    """Serve on a loop of its own; returns the address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> Served:
        command = training(tmp_path, "", tmp_path / "candidate-0")
        return await Services(tmp_path / "root").start(training_command=command)

    served = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    address = f"127.0.0.1:{served.port}"
    with grpc.insecure_channel(address) as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)  # type: ignore[no-untyped-call]
        stub.Configure(pb.ConfigureRequest(policies=[settings(manual=True, shadow_minutes=5)]))
        list(stub.SubmitOutcomes(iter([batch(["a", "b"])])))
    yield address
    asyncio.run_coroutine_threadsafe(served.stop(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_policies_are_listed(run: Run, target: str) -> None:
    result = run("policies", "list", "--target", target)
    assert (result.code, result.err) == (0, "")
    (row,) = [line.split() for line in result.out.splitlines() if POLICY in line]
    assert row[:6] == [POLICY, "packaged", "-", "-", "2", "2"]


def test_one_policy_is_listed_with_versions_and_history(run: Run, target: str, versions: list[str]) -> None:
    run("policies", "promote", POLICY, "--version", versions[0], "--target", target)
    result = run("policies", "list", POLICY, "--target", target)
    assert "waits for a promotion" in result.out
    rows = {line.split()[0]: line for line in result.out.splitlines() if "1,234" in line}
    assert "shadow" in rows[versions[0]]
    assert "passed" in rows[versions[0]]
    assert "refused: worse than the rule in busy" in rows[versions[1]]
    assert "promoted by hand" in result.out
    assert len(json.loads(run("policies", "list", POLICY, "--target", target, "--json").out)["versions"]) == 2


def test_a_version_is_shown_as_table_and_picture(run: Run, target: str, versions: list[str], tmp_path: Path) -> None:
    png = tmp_path / "gate.png"
    result = run("policies", "show", "--version", versions[0][:6], "--png", png, "--target", target)
    assert (result.code, result.err) == (0, "")
    (scenario,) = [line.split() for line in result.out.splitlines() if line.strip().startswith("busy")]
    assert scenario == ["busy", "0.600", "0.500", "0.550", "+0.100", "+0.040", "+0.160"]
    assert "better everywhere" in result.out
    assert "seed: 5" in result.out
    assert png.read_bytes()[:4] == b"\x89PNG"


def test_two_versions_are_compared(run: Run, target: str, versions: list[str]) -> None:
    result = run("policies", "diff", POLICY, *versions, "--target", target)
    (row,) = [line.split() for line in result.out.splitlines() if "base ms" in line]
    assert row == ["base", "ms", "small", "20", "30", "1.50"]


def test_a_version_is_promoted_and_rolled_back(run: Run, target: str, versions: list[str]) -> None:
    refused = run("policies", "promote", "--version", versions[1], "--target", target)
    assert (refused.code, "did not pass the gate" in refused.err) == (1, True)
    forced = run("policies", "promote", "--version", versions[1], "--force", "--stage", "canary", "--target", target)
    assert f"{versions[1]}" in forced.out
    assert "canary 10 %" in forced.out
    back = run("policies", "rollback", "--reason", "enough", "--target", target)
    assert versions[1] not in back.out
    assert "enough" in run("policies", "list", POLICY, "--target", target).out
    nothing = run("policies", "rollback", "--target", target)
    assert (nothing.code, "nothing to go back to" in nothing.err) == (1, True)


def test_a_training_is_followed_until_it_ends(run: Run, target: str, versions: list[str]) -> None:
    few = run("policies", "train", "--target", target)
    assert (few.code, "8 outcomes are missing" in few.err) == (1, True)
    result = run("policies", "train", POLICY, "--force", "--target", target)
    assert result.code == 0
    assert "done: it went well" in result.out
    assert f"pointsman policies show {POLICY} --version {versions[0]}" in result.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("show", "--version", "ffff"), 2, "no versions 'ffff'; it has: "),
        (("promote", "--stage", "active"), 2, "--stage goes with --force"),
        (("list", "chat"), 1, "namespace/name"),
        (("promote",), 1, "there is no candidate"),
    ],
)
def test_what_cannot_be_done_is_said(
    run: Run, target: str, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = run("policies", *arguments, "--target", target)
    assert result.code == code
    assert message in result.err


def test_a_service_that_is_away_is_named(run: Run) -> None:
    result = run("policies", "list", "--target", "127.0.0.1:1")
    assert result.code == 1
    assert "no policy service answers at 127.0.0.1:1" in result.err
