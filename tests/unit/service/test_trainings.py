import asyncio
import json
import os
from pathlib import Path

import grpc
import pytest
from tests.unit.service.conftest import POLICY, Served, Services, batch, eventually, make_version, training

from pointsman.policy.v1 import policy_pb2 as pb

TWELVE = [f"n{number}" for number in range(12)]


async def start(served: Served, *, force: bool = False) -> str:
    response = await served.stub.StartTraining(pb.StartTrainingRequest(policy=POLICY, force=force))
    return str(response.training)


async def watch(served: Served) -> list[pb.TrainingProgress]:
    async with asyncio.timeout(20):
        return [one async for one in served.stub.WatchTraining(pb.WatchTrainingRequest(policy=POLICY))]


async def test_a_training_brings_a_candidate(services: Services, tmp_path: Path) -> None:
    version = make_version(tmp_path / "candidate")
    served = await services.start(training_command=training(tmp_path, "", tmp_path / "candidate"))
    await served.configure(manual=True)
    await served.submit(batch(TWELVE))
    name = await start(served)
    last = (await watch(served))[-1]
    assert (last.training, last.phase, last.share, last.version) == (name, "done", 1.0, version)
    assert last.line == "it went well"
    report = await served.rollout()
    assert (report.candidate.id.version, report.candidate.stage) == (version, pb.WAITING)
    assert report.candidate.gate.summary == "good"
    assert report.new_outcomes == 0


async def test_a_candidate_that_did_not_pass_is_rejected_and_kept_to_look_at(
    services: Services, tmp_path: Path
) -> None:
    version = make_version(tmp_path / "candidate", passed=False)
    served = await services.start(training_command=training(tmp_path, "", tmp_path / "candidate"))
    await served.configure()
    await start(served, force=True)
    await watch(served)
    report = await served.rollout()
    assert not report.HasField("candidate")
    assert (report.history[0].version, report.history[0].stage) == (version, pb.REJECTED)
    response = await served.stub.ListVersions(pb.ListVersionsRequest(policy=POLICY))
    assert response.versions[0].stage == pb.REJECTED


async def test_too_few_outcomes_need_force(services: Services, tmp_path: Path) -> None:
    served = await services.start(training_command=training(tmp_path))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await start(served)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    await served.configure()
    await served.submit(batch(TWELVE[:3]))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await start(served)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "7 outcomes are missing" in str(caught.value.details())
    assert await start(served, force=True)
    assert (await watch(served))[-1].phase == "done"


async def test_a_picker_that_does_not_learn_is_not_trained(services: Services, tmp_path: Path) -> None:
    served = await services.start(training_command=training(tmp_path))
    await served.configure(picker="RoundRobin")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await start(served, force=True)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "names the picker RoundRobin, which does not learn; name HanActor or ImpactGreedy" in str(
        caught.value.details()
    )


async def test_one_training_runs_at_a_time_and_progress_is_visible(services: Services, tmp_path: Path) -> None:
    served = await services.start(training_command=training(tmp_path, "wait"))
    await served.configure()
    name = await start(served, force=True)
    assert await start(served) == name

    async def halfway() -> bool:
        shown = (await served.rollout()).training
        return bool((shown.phase, shown.share, shown.line) == ("training", 0.5, "training now"))

    await eventually(halfway, "progress")
    record = json.loads((served.root / "trainings" / POLICY / name / "training.json").read_text())
    assert os.getpriority(os.PRIO_PROCESS, record["process"]) >= 15
    assert len(os.sched_getaffinity(record["process"])) == 1
    (served.root / "trainings" / POLICY / name / "go").touch()
    assert (await watch(served))[-1].phase == "done"


async def test_a_training_whose_process_is_killed_goes_on(services: Services, tmp_path: Path) -> None:
    served = await services.start(training_command=training(tmp_path, "die once"))
    await served.configure()
    await start(served, force=True)
    assert (await watch(served))[-1].phase == "done"


@pytest.mark.parametrize(("mode", "problem"), [("fail", "error: no luck"), ("die", "was killed 3 times")])
async def test_a_training_that_fails_is_reported_and_not_repeated(
    services: Services, tmp_path: Path, mode: str, problem: str
) -> None:
    served = await services.start(training_command=training(tmp_path, mode))
    await served.configure()
    name = await start(served, force=True)
    last = (await watch(served))[-1]
    assert last.phase == "failed"
    assert problem in last.line
    assert problem in (await served.rollout()).problem
    await served.stop()
    served = await services.start(training_command=training(tmp_path, mode))
    assert problem in (await served.rollout()).problem
    assert (await watch(served))[-1].training == name
    assert await start(served, force=True) != name


async def test_a_training_goes_on_after_the_service_starts_anew(services: Services, tmp_path: Path) -> None:
    served = await services.start(training_command=training(tmp_path, "wait"))
    await served.configure()
    name = await start(served, force=True)
    folder = served.root / "trainings" / POLICY / name

    async def running() -> bool:
        return bool(json.loads((folder / "training.json").read_text())["process"])

    await eventually(running, "running")
    process = json.loads((folder / "training.json").read_text())["process"]
    await served.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    (folder / "go").touch()
    served = await services.start(training_command=training(tmp_path, "wait"))
    last = (await watch(served))[-1]
    assert (last.training, last.phase) == (name, "done")


async def test_a_result_that_is_damaged_is_a_failure(services: Services, tmp_path: Path) -> None:
    make_version(tmp_path / "candidate")
    (tmp_path / "candidate" / "calibration.json").write_text("{}")
    served = await services.start(training_command=training(tmp_path, "", tmp_path / "candidate"))
    await served.configure()
    await start(served, force=True)
    last = (await watch(served))[-1]
    assert last.phase == "failed"
    assert "calibration.json" in last.line
    assert not (await served.rollout()).HasField("candidate")
