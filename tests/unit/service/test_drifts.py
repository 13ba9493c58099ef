import time

import numpy as np
from tests.unit.service.conftest import POLICY, Served, Services, eventually

from pointsman.policy.v1 import policy_pb2 as pb

BASE_SECONDS = 0.02


def fleet() -> pb.SubmitOutcomesRequest:
    experts = [
        pb.Expert(name=name, model="tiny", gpu="L4", base_seconds=BASE_SECONDS, maximum_running=8, quality_prior=0.5)
        for name in ("steady", "slowed")
    ]
    return pb.SubmitOutcomesRequest(records=[pb.Record(fleet=pb.Fleet(policy=POLICY, at=1.7e9, experts=experts))])


def answers(expert: str, pace: float, count: int = 80) -> pb.SubmitOutcomesRequest:
    """Return answers of 50 tokens, one after the other."""
    rng = np.random.default_rng(1)
    start = time.time() - 3_000
    records = []
    for number in range(count):
        seconds = BASE_SECONDS * pace * rng.normal(1.0, 0.02)
        outcome = pb.Outcome(
            id=f"{expert}-{number}",
            policy=POLICY,
            decided_at=start + 20 * number,
            arm=pb.CONTROL,
            expert=expert,
            status=pb.COMPLETED,
            prompt_tokens=10,
            output_tokens=50,
            ttft_seconds=seconds,
            duration_seconds=50 * seconds,
        )
        records.append(pb.Record(outcome=outcome))
    return pb.SubmitOutcomesRequest(records=records)


async def drifted(served: Served) -> dict[str, bool]:
    return {one.expert: one.drifted for one in (await served.rollout()).drifts}


async def test_an_expert_that_slowed_down_is_told_from_one_that_did_not(services: Services) -> None:
    served = await services.start()
    await served.configure()
    await served.submit(fleet(), answers("steady", 1.0), answers("slowed", 1.6))

    async def seen() -> bool:
        return await drifted(served) == {"steady": False, "slowed": True}

    await eventually(seen, "the drift is seen")
    ratios = {one.expert: one.ratio for one in (await served.rollout()).drifts}
    assert abs(ratios["slowed"] - 1.6) < 0.1
    assert abs(ratios["steady"] - 1.0) < 0.1


async def test_drift_is_seen_after_a_restart_and_exported(services: Services) -> None:
    served = await services.start()
    await served.configure()
    await served.submit(fleet(), answers("slowed", 1.6))
    await served.stop()
    served = await services.start()

    async def seen() -> bool:
        return await drifted(served) == {"slowed": True}

    await eventually(seen, "the drift is seen")
    page = await served.metrics()
    assert 'pointsman_policy_expert_drifted{expert="slowed",policy="edge/chat"} 1.0' in page
