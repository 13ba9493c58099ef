import asyncio
from typing import Any

import grpc
import pytest
from tests.unit.service.conftest import (
    POLICY,
    Served,
    Services,
    add_version,
    batch,
    eventually,
    next_of,
    settings,
    watching,
)

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman_policy.registry.registry import Registry


async def promote(served: Served, version: str = "", **fields: Any) -> pb.RolloutReport:
    response = await served.stub.Promote(pb.PromoteRequest(policy=POLICY, version=version, **fields))
    report: pb.RolloutReport = response.rollout
    return report


async def test_routers_hear_at_once_of_their_policies_and_then_of_changes(services: Services) -> None:
    served = await services.start()
    await served.configure(manual=True, store_prompts=True)
    version = add_version(served.root)
    async with watching(served, POLICY, "edge/unknown") as queue:
        first = [await next_of(queue), await next_of(queue)]
        assert {one.policy: (one.HasField("active"), one.store_prompts) for one in first} == {
            POLICY: (False, True),
            "edge/unknown": (False, False),
        }
        await promote(served, version)
        assignment = await next_of(queue)
        assert (assignment.candidate.version, assignment.canary_percent) == (version, 10)
        assert len(assignment.candidate.digest) == 64
        await served.configure(manual=True, exploration_percent=3)
        assert (await next_of(queue)).exploration_percent == 3


async def test_a_version_goes_step_by_step_and_back(services: Services) -> None:
    served = await services.start()
    await served.configure(manual=True, shadow_minutes=5)
    version = add_version(served.root)
    stages = [(await promote(served, version)).candidate.stage]
    stages += [(await promote(served)).candidate.stage for _ in range(2)]
    assert stages == [pb.SHADOW, pb.CANARY_STAGE, pb.CANARY_STAGE]
    report = await promote(served)
    assert (report.active.version, report.HasField("candidate")) == (version, False)
    response = await served.stub.RollBack(pb.RollBackRequest(policy=POLICY, reason="I do not like it"))
    assert not response.rollout.HasField("active")
    newest = response.rollout.history[0]
    assert (newest.version, newest.stage, newest.reason) == (version, pb.ROLLED_BACK, "I do not like it")


async def test_where_a_policy_stands_outlives_the_process(services: Services) -> None:
    served = await services.start()
    await served.configure(manual=True)
    version = add_version(served.root)
    before = await promote(served, version)
    await served.stop()
    served = await services.start()
    after = await served.rollout()
    assert (after.candidate.id, after.history, after.candidate.since) == (
        before.candidate.id,
        before.history,
        before.candidate.since,
    )
    async with watching(served) as queue:
        assert (await next_of(queue)).canary_percent == 10


async def test_what_did_not_pass_the_gate_needs_force(services: Services) -> None:
    served = await services.start()
    await served.configure(manual=True)
    version = add_version(served.root, passed=False)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await promote(served, version)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "did not pass the gate" in str(caught.value.details())
    report = await promote(served, version, force=True, stage=pb.ACTIVE)
    assert report.active.version == version


async def test_a_good_canary_becomes_active_by_itself(services: Services) -> None:
    served = await services.start()
    await served.configure()
    version = add_version(served.root)
    await promote(served, version)

    async def active() -> bool:
        number = len(sent)
        sent.append(number)
        await served.submit(batch([f"a{number}-{one}" for one in range(10)]))
        await served.submit(batch([f"b{number}-{one}" for one in range(10)], arm=pb.CANARY, version=version))
        return bool((await served.rollout()).active.version == version)

    sent: list[int] = []
    await eventually(active, "active")
    history = (await served.rollout()).history
    assert [entry.stage for entry in history[::-1]] == [pb.CANARY_STAGE, pb.CANARY_STAGE, pb.ACTIVE]


async def test_a_bad_canary_is_withdrawn_by_itself_and_routers_hear_of_it(services: Services) -> None:
    served = await services.start()
    await served.configure(canary_requests=100_000)
    version = add_version(served.root)
    await promote(served, version)
    async with watching(served) as queue:
        assert (await next_of(queue)).candidate.version == version
        sent: list[int] = []

        async def withdrawn() -> bool:
            number = len(sent)
            sent.append(number)
            await served.submit(batch([f"a{number}-{one}" for one in range(20)]))
            slow = batch([f"b{number}-{one}" for one in range(20)], arm=pb.CANARY, version=version, ttft_seconds=2.0)
            await served.submit(slow)
            return not (await served.rollout()).HasField("candidate")

        await eventually(withdrawn, "withdrawn")
        assert not (await next_of(queue)).HasField("candidate")
    entry = (await served.rollout()).history[0]
    assert (entry.version, entry.stage) == (version, pb.ROLLED_BACK)
    assert "lower than the control's" in entry.reason


async def test_the_comparison_goes_on_where_it_was_after_a_restart(services: Services) -> None:
    served = await services.start()
    await served.configure(canary_requests=100_000)
    version = add_version(served.root)
    await promote(served, version)
    await served.submit(batch([f"a{one}" for one in range(30)]))
    await served.submit(batch([f"b{one}" for one in range(20)], arm=pb.CANARY, version=version))
    before = (await served.rollout()).candidate.canary
    await served.stop()
    served = await services.start()
    after = (await served.rollout()).candidate.canary
    assert (after.control.requests, after.candidate.requests) == (30, 20)
    assert after.control == before.control
    assert after.candidate == before.candidate


async def test_the_shadow_is_counted(services: Services) -> None:
    served = await services.start()
    await served.configure(shadow_minutes=60)
    version = add_version(served.root)
    assert (await promote(served, version)).candidate.stage == pb.SHADOW
    same = pb.Shadow(version=version, expert="small", predicted_gain=0.0)
    other = pb.Shadow(version=version, expert="large", predicted_gain=0.2)
    await served.submit(batch(["a", "b", "c"], shadow=same), batch(["d"], shadow=other), batch(["e"]))
    shadow = (await served.rollout()).candidate.shadow
    assert (shadow.decisions, shadow.agreement) == (4, 0.75)
    assert shadow.predicted_gain == pytest.approx(0.05)
    assert (await served.rollout()).candidate.waiting_for == "10 decisions in shadow"


async def test_a_version_is_fetched_in_pieces(services: Services) -> None:
    served = await services.start()
    version = add_version(served.root)
    files: dict[str, bytes] = {}
    async for piece in served.stub.FetchVersion(pb.FetchVersionRequest(policy=POLICY, version=version)):
        assert len(piece.content) <= 64 << 10
        files[piece.path] = files.get(piece.path, b"") + piece.content
    assert files == dict(Registry(served.root).files(POLICY, version))


async def test_a_damaged_version_is_data_loss_and_shown_as_such(services: Services) -> None:
    served = await services.start()
    version = add_version(served.root)
    (Registry(served.root).folder(POLICY, version) / "calibration.json").write_text("{}")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.stub.FetchVersion(pb.FetchVersionRequest(policy=POLICY, version=version)).read()
    assert caught.value.code() is grpc.StatusCode.DATA_LOSS
    assert "calibration.json" in str(caught.value.details())
    response = await served.stub.ListVersions(pb.ListVersionsRequest(policy=POLICY))
    assert "calibration.json" in response.versions[0].problem
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await promote(served, version, force=True)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_versions_are_listed_with_verdict_and_details(services: Services) -> None:
    served = await services.start()
    await served.configure(manual=True)
    version = add_version(served.root)
    await promote(served, version)
    response = await served.stub.ListVersions(pb.ListVersionsRequest(policy=POLICY))
    (report,) = response.versions
    assert (report.id.version, report.stage, report.gate.passed) == (version, pb.CANARY_STAGE, True)
    assert '"picker": "ImpactGreedy"' in report.details


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"policy": "chat"}, "namespace/name"),
        ({"schedule": "61 * * * *"}, "minute"),
        ({"canary_percents": [0]}, "canary_percents"),
        ({"canary_requests": 0}, "canary_requests"),
        ({"maximum_slo_regression_percent": float("nan")}, "maximum_slo_regression_percent"),
        ({"admission": "Maybe"}, "admission"),
        ({"minimum_outcomes": -1}, "minimum_outcomes"),
    ],
)
async def test_settings_that_make_no_sense_are_refused_as_a_whole(
    services: Services, fields: dict[str, Any], problem: str
) -> None:
    served = await services.start()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.stub.Configure(pb.ConfigureRequest(policies=[settings(policy="edge/good"), settings(**fields)]))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert problem in str(caught.value.details())
    assert (await served.stub.ListRollouts(pb.ListRolloutsRequest())).rollouts == []


async def test_settings_outlive_the_process(services: Services) -> None:
    served = await services.start()
    await served.configure(exploration_percent=5)
    await served.stop()
    served = await services.start()
    async with watching(served) as queue:
        assert (await next_of(queue)).exploration_percent == 5


async def test_a_damaged_state_is_set_aside_and_the_policy_starts_anew(services: Services) -> None:
    served = await services.start()
    await served.configure(manual=True)
    await promote(served, add_version(served.root))
    await served.stop()
    path = served.root / "rollouts" / "edge" / "chat" / "state.json"
    path.write_bytes(path.read_bytes()[:-9])
    served = await services.start()
    report = await served.rollout()
    assert not report.HasField("candidate")
    assert "set aside" in report.problem
    assert path.with_name("state.json.damaged").exists()


async def test_a_watch_ends_when_the_service_stops(services: Services) -> None:
    served = await services.start()
    async with watching(served) as queue:
        await next_of(queue)
        async with asyncio.timeout(10):
            served.ending.set()
            await served.task


async def test_an_active_version_that_is_damaged_is_reported(services: Services) -> None:
    served = await services.start()
    await served.configure(manual=True)
    version = add_version(served.root)
    await promote(served, version, force=True, stage=pb.ACTIVE)
    await served.stop()
    (Registry(served.root).folder(POLICY, version) / "calibration.json").unlink()
    served = await services.start()
    report = await served.rollout()
    assert report.active.version == version
    assert "cannot be given to routers that lack it" in report.problem
    assert "calibration.json" in report.problem


async def test_answers_without_a_label_are_worth_what_the_newest_labels_of_their_model_say(services: Services) -> None:
    served = await services.start()
    await served.configure()
    expert = pb.Expert(name="small", model="tiny", gpu="L4", base_seconds=0.01, quality_prior=0.9)
    fleet = pb.SubmitOutcomesRequest(records=[pb.Record(fleet=pb.Fleet(policy=POLICY, at=1.7e9, experts=[expert]))])
    names = [f"a{number}" for number in range(600)]
    labels = [pb.Record(label=pb.QualityLabel(id=name, policy=POLICY, quality=0.3)) for name in names[100:]]
    await served.submit(fleet, batch(names), pb.SubmitOutcomesRequest(records=labels))
    await served.stop()
    served = await services.start()
    version = add_version(served.root)
    await promote(served, version)

    async def known() -> bool:
        outcomes = [pb.Record(outcome=one.outcome) for one in batch([f"b{len(sent)}"]).records]
        sent.append(1)
        for one in outcomes:
            one.outcome.ClearField("quality")
        await served.submit(pb.SubmitOutcomesRequest(records=outcomes))
        control = (await served.rollout()).candidate.canary.control
        total = control.mean_qos * control.requests
        known_before, gained[0] = gained[0], total
        return abs(total - known_before - 0.3) < 1e-3

    sent: list[int] = []
    gained = [0.0]
    await eventually(known, "the yardstick is the newest labels' mean")
