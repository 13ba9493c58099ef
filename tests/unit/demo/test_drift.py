import itertools
from pathlib import Path

import numpy as np
import pytest

from pointsman_operator.demo.drift import (
    DECLARED,
    INFORMED,
    LANES,
    LEARNING,
    Drift,
    drift_lanes,
    drifted,
    judged,
    poisoned,
)
from pointsman_operator.demo.lanes import Lane
from pointsman_operator.demo.settings import DemoSettings
from pointsman_operator.demo.workload import DemoWorkload, read_workload
from pointsman_policy.experts import Expert
from pointsman_policy.registry.calibration import Calibration, ExpertCalibration, ModelCalibration
from pointsman_policy.registry.version import PolicyVersion
from pointsman_policy.runtime.exported import ExportedPolicy

DRIFT = Drift(at_seconds=10.0, slow_expert="large", pace=1.6, poor_model="Llama-3.1-8B", quality_factor=0.5)


@pytest.fixture(scope="module")
def workload() -> DemoWorkload:
    return read_workload(DemoSettings(out=Path("unused"), seconds=30.0))


@pytest.fixture(scope="module")
def lanes(workload: DemoWorkload) -> dict[str, Lane]:
    ports = itertools.count(9_000)
    return {lane.slug: lane for lane in drift_lanes(workload.scenario, DRIFT, lambda host: f"{host}:{next(ports)}")}


def expert(lane: Lane, name: str) -> Expert:
    (found,) = [one for one in lane.experts if one.name == f"{name}.{lane.slug}"]
    return found


def test_only_the_poor_models_answers_change_and_only_afterwards(workload: DemoWorkload) -> None:
    changed = drifted(workload, DRIFT).requests.quality
    column = workload.expert_of()["Llama-3.1-8B"]
    after = workload.requests.arrival_seconds >= 10.0
    assert 0 < after.sum() < len(after)
    expected = workload.requests.quality.copy()
    expected[after, column] *= 0.5
    np.testing.assert_allclose(changed, expected)


def test_fleets_are_twins_but_for_what_the_informed_one_was_told(lanes: dict[str, Lane]) -> None:
    assert tuple(lanes) == LANES
    for name in ("small", "middle", "large"):
        declared, learning = expert(lanes[DECLARED], name), expert(lanes[LEARNING], name)
        own = {"name": "", "endpoint": "127.0.0.1:1", "labels": {}}
        assert declared.model_copy(update=own) == learning.model_copy(update=own)
    told, declared = expert(lanes[INFORMED], "large"), expert(lanes[DECLARED], "large")
    assert told.iteration_time is not None
    assert declared.iteration_time is not None
    ratio = told.iteration_time.base_milliseconds / declared.iteration_time.base_milliseconds
    assert ratio == pytest.approx(1.6)
    assert told.simulation == declared.simulation  # what it does at first is the same everywhere
    poor, usual = expert(lanes[INFORMED], "middle"), expert(lanes[DECLARED], "middle")
    assert poor.quality_prior_percent == pytest.approx(usual.quality_prior_percent / 2, abs=1)


def test_a_judge_judges_a_share(workload: DemoWorkload) -> None:
    judgements = judged(workload, 30, np.random.default_rng(1))
    some = [one for one in judgements if one]
    assert len(judgements) == len(workload.requests)
    assert 0.15 < len(some) / len(judgements) < 0.45
    assert set(some[0]) == set(workload.expert_of())
    assert judgements == judged(workload, 30, np.random.default_rng(1))


def test_a_poisoned_version_believes_the_opposite() -> None:
    def speed(base_seconds: float) -> ExpertCalibration:
        return ExpertCalibration(
            base_seconds=base_seconds,
            per_sequence_seconds=0.0,
            per_context_token_seconds=0.0,
            per_prefill_token_seconds=0.0,
            outcomes=1,
        )

    models = {
        "good": ModelCalibration(quality=0.8, labels=9, outcomes=9),
        "new": ModelCalibration(labels=0, outcomes=0),
    }
    known = Calibration(experts={"slow": speed(0.04), "middle": speed(0.02), "fast": speed(0.01)}, models=models)
    version = PolicyVersion("edge/chat", 0.0, "", 9, ExportedPolicy("ImpactGreedy"), known)
    found = poisoned(version).calibration
    assert {name: one.base_seconds for name, one in found.experts.items()} == {
        "slow": 0.01,
        "middle": 0.02,
        "fast": 0.04,
    }
    assert found.models["good"].quality == pytest.approx(0.2)
    assert found.models["new"].quality is None
