"""What a policy service that dies at the worst moment leaves behind."""

import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from tests.unit.exports import han_export
from tests.unit.service.conftest import POLICY, batch, make_version, settings, training

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman.policy.v1 import policy_pb2_grpc
from pointsman_policy.experience.dataset import load
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.registry.registry import Registry
from pointsman_policy.registry.version import PolicyVersion, write_version
from pointsman_policy.runtime.size import NetworkSize

ROOT = Path(__file__).parents[3]
DEADLINE_SECONDS = 60.0


class Service:
    """A service in a process."""

    def __init__(self, root: Path, command: tuple[str, ...], compact_seconds: float, file_bytes: int) -> None:
        arguments = (str(root), str(compact_seconds), str(file_bytes), *command)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.policy_service.service", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.stub: Any = policy_pb2_grpc.PolicyServiceStub(self.channel)  # type: ignore[no-untyped-call]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.channel.close()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def rollout(self) -> pb.RolloutReport:
        report: pb.RolloutReport = self.stub.ListRollouts(pb.ListRolloutsRequest(policies=[POLICY])).rollouts[0]
        return report


Start = Callable[..., Service]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Service] = []

    def start_it(command: tuple[str, ...] = (), compact_seconds: float = 60.0, file_bytes: int = 0) -> Service:
        running.append(Service(tmp_path / "root", command, compact_seconds, file_bytes))
        return running[-1]

    yield start_it
    for service in running:
        if service.process.poll() is None:
            service.kill()


def eventually(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)


def lives(process: int) -> bool:
    """Tell whether a process runs; one that has ended and that nobody has asked about does not."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def submit_until(service: Service, batches: list[pb.SubmitOutcomesRequest], kill_after: int) -> set[int]:
    """Send batches and kill the service after some acknowledgements; return the sequences acknowledged."""
    acknowledged: set[int] = set()
    try:
        for response in service.stub.SubmitOutcomes(iter(batches)):
            acknowledged.add(response.sequence)
            if len(acknowledged) == kill_after:
                service.process.send_signal(signal.SIGKILL)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017
    return acknowledged


def test_killed_again_and_again_during_ingestion_nothing_acknowledged_is_lost_and_nothing_doubled(
    start: Start, tmp_path: Path
) -> None:
    rng = random.Random(3)
    batches = [batch([f"{number}-{row}" for row in range(20)], number) for number in range(60)]
    acknowledged: set[int] = set()
    for _ in range(3):
        service = start(compact_seconds=0.05)  # so that kills hit the writing of parts, too
        waiting = [one for one in batches if one.sequence not in acknowledged]
        rng.shuffle(waiting)
        acknowledged |= submit_until(service, waiting, kill_after=rng.randint(5, 15))
        service.kill()
    service = start()
    stored = set(load(tmp_path / "root", POLICY, columns=("id",))["id"])
    assert {f"{number}-{row}" for number in acknowledged for row in range(20)} <= stored
    rng.shuffle(batches)
    assert len(submit_until(service, batches, kill_after=-1)) == 60
    assert service.rollout().outcomes == 1_200
    service.kill()
    start()
    ids = list(load(tmp_path / "root", POLICY, columns=("id",))["id"])
    assert (len(ids), len(set(ids))) == (1_200, 1_200)


def test_a_volume_that_is_full_for_real_loses_nothing_acknowledged(start: Start, tmp_path: Path) -> None:
    service = start(file_bytes=100_000)
    batches = [batch([f"{number}-{row}" for row in range(50)], number) for number in range(40)]
    acknowledged: set[int] = set()
    with pytest.raises(grpc.RpcError) as caught:
        acknowledged.update(response.sequence for response in service.stub.SubmitOutcomes(iter(batches)))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "free space" in service.rollout().problem
    known = service.rollout().outcomes
    assert 0 < known < 2_000
    service.kill()
    service = start()
    assert service.rollout().outcomes == known
    responses = list(service.stub.SubmitOutcomes(iter(batches)))
    assert sum(one.duplicates for one in responses) == known
    assert service.rollout().outcomes == 2_000


def test_killed_during_a_promotion_routers_are_told_what_they_were_told_before(start: Start, tmp_path: Path) -> None:
    folders = [tmp_path / f"made-{number}" for number in range(6)]
    versions = [make_version(folder, number) for number, folder in enumerate(folders)]
    for folder in folders:
        Registry(tmp_path / "root").add(POLICY, folder)
    service = start()
    service.stub.Configure(pb.ConfigureRequest(policies=[settings(manual=True)]))
    for number, version in enumerate(versions):
        watch = service.stub.WatchActive(pb.WatchActiveRequest(router="r", policies=[POLICY]))
        before = next(watch)
        promotion = service.stub.Promote.future(
            pb.PromoteRequest(policy=POLICY, version=version, force=True, stage=pb.ACTIVE)
        )
        time.sleep(0.002 * number)  # not to wait for anything: to kill at different moments
        service.process.send_signal(signal.SIGKILL)
        told = [before]
        with contextlib.suppress(grpc.RpcError):
            told.extend(watch)
        answered = promotion.exception() is None
        service.kill()
        service = start()
        after = next(service.stub.WatchActive(pb.WatchActiveRequest(router="r", policies=[POLICY])))
        assert after.active.version in (before.active.version, version)
        assert after.active == told[-1].active or after.active.version == version
        if answered:
            assert after.active.version == version
        assert service.rollout().problem == ""


def test_killed_during_a_fetch_the_version_is_fetched_whole_afterwards(start: Start, tmp_path: Path) -> None:
    exported = han_export(size=NetworkSize(channels=64, heads=4, hidden=256))
    version = write_version(tmp_path / "made", PolicyVersion(POLICY, 1.0, "", 5, exported, Calibration())).version
    Registry(tmp_path / "root").add(POLICY, tmp_path / "made")
    service = start()
    request = pb.FetchVersionRequest(policy=POLICY, version=version)
    pieces = service.stub.FetchVersion(request)
    next(pieces)
    service.kill()
    with pytest.raises(grpc.RpcError):
        list(pieces)
    service = start()
    files: dict[str, bytes] = {}
    for piece in service.stub.FetchVersion(request):
        files[piece.path] = files.get(piece.path, b"") + piece.content
    assert files == dict(Registry(tmp_path / "root").files(POLICY, version))


def test_killed_during_a_training_it_goes_on_alone_in_its_folder(start: Start, tmp_path: Path) -> None:
    version = make_version(tmp_path / "candidate")
    command = training(tmp_path, "wait", tmp_path / "candidate")
    service = start(command)
    service.stub.Configure(pb.ConfigureRequest(policies=[settings(manual=True)]))
    name = service.stub.StartTraining(pb.StartTrainingRequest(policy=POLICY, force=True)).training
    folder = tmp_path / "root" / "trainings" / POLICY / name

    def process() -> int:
        return int(json.loads((folder / "training.json").read_text())["process"])

    eventually(process, "the training runs")
    orphan = process()
    service.kill()
    assert lives(orphan)  # without the service
    service = start(command)
    eventually(lambda: process() not in (0, orphan), "the training runs again")
    assert not lives(orphan)
    (folder / "go").touch()
    eventually(lambda: service.rollout().HasField("candidate"), "a candidate")
    assert service.rollout().candidate.id.version == version
