import asyncio
import time
from pathlib import Path

import grpc
import pytest
from tests.unit.service.conftest import POLICY, Services, batch

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman_policy.experience import journal
from pointsman_policy.experience.dataset import load


async def test_batches_are_acknowledged_one_by_one_and_stored_once(services: Services) -> None:
    served = await services.start()
    responses = await served.submit(batch(["a", "b"], 7), batch(["b", "c"], 8), batch(["c", "a"], 9))
    assert [(one.sequence, one.stored, one.duplicates) for one in responses] == [(7, 2, 0), (8, 1, 1), (9, 0, 2)]
    assert (await served.rollout()).outcomes == 3


async def test_what_was_acknowledged_is_there_after_a_restart(services: Services, tmp_path: Path) -> None:
    served = await services.start()
    await served.submit(batch(["a", "b"]))
    await served.stop()
    served = await services.start()
    assert (await served.rollout()).outcomes == 2
    (response,) = await served.submit(batch(["b", "a", "c"]))
    assert (response.stored, response.duplicates) == (1, 2)
    assert sorted(load(served.root, POLICY, columns=("id",))["id"]) == ["a", "b"]


async def test_records_in_any_order_make_the_same_table(services: Services) -> None:
    served = await services.start()
    names = [f"n{number}" for number in range(50)]
    now = time.time()
    batches = [batch([name], decided_at=now + number) for number, name in enumerate(names)]
    await served.submit(*batches[::-1], *batches[10:30])
    await served.stop()
    await services.start()
    assert list(load(served.root, POLICY, columns=("id",))["id"]) == names


async def test_what_makes_no_sense_is_refused_and_the_rest_is_stored(services: Services) -> None:
    served = await services.start()
    wrong = batch(["a", "", "b"])
    wrong.records.add()
    wrong.records.add(label=pb.QualityLabel(id="a", policy=POLICY, quality=7))
    wrong.records.add(label=pb.QualityLabel(id="a", policy=POLICY, quality=0.7))
    (response,) = await served.submit(wrong)
    assert (response.stored, response.refused) == (3, 3)
    assert response.problem.startswith("id: must be 1 to 128")


async def test_a_batch_that_is_too_long_is_refused_from_there_on(services: Services) -> None:
    served = await services.start()
    (response,) = await served.submit(batch([f"n{number}" for number in range(1_003)]))
    assert (response.stored, response.refused) == (1_000, 3)
    assert "at most 1000 records" in response.problem


async def test_a_clock_that_is_wrong_is_put_right_and_counted(services: Services) -> None:
    served = await services.start()
    await served.submit(batch(["a"], decided_at=time.time() + 40 * 86_400), batch(["b"], decided_at=5.0))
    await served.stop()
    await services.start()
    experience = load(served.root, POLICY, columns=("retimed",))
    assert experience["retimed"].all()
    assert (abs(experience["decided_at"] - time.time()) < 60).all()


async def test_a_fleet_gives_outcomes_their_models(services: Services) -> None:
    served = await services.start()
    expert = pb.Expert(name="small", model="tiny", gpu="L4", base_seconds=0.01, quality_prior=0.5)
    told = pb.SubmitOutcomesRequest(records=[pb.Record(fleet=pb.Fleet(policy=POLICY, at=1.7e9, experts=[expert]))])
    await served.submit(told, batch(["a"]))
    await served.stop()
    await services.start()
    experience = load(served.root, POLICY)
    assert list(experience.text("model")) == ["tiny"]
    assert experience.fleet is not None
    assert experience.fleet.experts[0].gpu == "L4"


async def test_a_full_volume_says_so_and_takes_the_batch_later(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = await services.start()
    await served.submit(batch(["a"]))

    def no_space(file: int, content: memoryview) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(journal, "write_some", no_space)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.submit(batch(["b"]))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "free space" in str(caught.value.details())
        assert "free space" in (await served.rollout()).problem
    (response,) = await served.submit(batch(["a", "b"]))
    assert (response.stored, response.duplicates) == (1, 1)
    assert (await served.rollout()).problem == ""


async def test_many_routers_send_at_once(services: Services) -> None:
    served = await services.start()
    batches = [batch([f"{router}-{number}" for number in range(100)]) for router in range(8)]
    responses = await asyncio.gather(*(served.submit(one) for one in batches))
    assert sum(one.stored for (one,) in responses) == 800
    assert (await served.rollout()).outcomes == 800


async def test_prompts_are_kept_only_where_the_policy_says_so(services: Services) -> None:
    served = await services.start()
    await served.submit(batch(["a"], prompt="secret", prompt_features=b"hashed"))
    await served.configure(store_prompts=True)
    await served.submit(batch(["b"], prompt="no secret"))
    await served.stop()
    assert b"secret" not in b"".join(path.read_bytes() for path in (served.root / "journal").iterdir()).replace(
        b"no secret", b""
    )
    await services.start()
    experience = load(served.root, POLICY, columns=("prompt", "prompt_features"))
    assert list(experience["prompt"]) == [None, "no secret"]
    assert list(experience["prompt_features"]) == [b"hashed", None]
