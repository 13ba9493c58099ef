from typing import Any

import pytest

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman_policy.experience.fleet import Fleet
from pointsman_policy.service.records import RecordError, read_fleet, read_label, read_outcome

NOW = 1_790_000_000.0
FLEET = pb.Fleet(
    policy="edge/chat", at=NOW, experts=[pb.Expert(name="small", model="tiny", gpu="L4", base_seconds=0.01)]
)


def outcome(**fields: Any) -> pb.Outcome:
    defaults: dict[str, Any] = {
        "id": "a1",
        "policy": "edge/chat",
        "decided_at": NOW - 5,
        "arm": pb.CONTROL,
        "status": pb.COMPLETED,
        "expert": "small",
    }
    return pb.Outcome(**{**defaults, **fields})


def read(given: pb.Outcome, fleet: Fleet | None = None) -> dict[str, Any]:
    return read_outcome(given, "router-1", NOW, lambda policy: fleet)


def test_model_and_gpu_come_from_the_fleet() -> None:
    row = read(outcome(), read_fleet(FLEET, NOW))
    assert (row["model"], row["gpu"], row["router"]) == ("tiny", "L4", "router-1")
    assert read(outcome())["model"] == ""
    assert read(outcome(expert="other"), read_fleet(FLEET, NOW))["model"] == ""


def test_what_is_not_known_is_none() -> None:
    row = read(outcome(ttft_seconds=0.0))
    assert row["ttft_seconds"] == 0.0
    unknown = ("duration_seconds", "quality", "output_tokens", "state", "prompt", "shadow_version", "predicted_quality")
    assert [row[name] for name in unknown] == [None] * len(unknown)


@pytest.mark.parametrize("decided_at", [0.0, -1.0, NOW + 2 * 86_400, float("nan"), float("inf"), 1e300])
def test_a_time_that_cannot_be_becomes_the_time_of_arrival(decided_at: float) -> None:
    row = read(outcome(decided_at=decided_at))
    assert (row["decided_at"], row["retimed"]) == (NOW, True)


def test_a_clock_that_is_a_little_wrong_is_believed() -> None:
    row = read(outcome(decided_at=NOW + 3_600))
    assert (row["decided_at"], row["retimed"]) == (NOW + 3_600, False)


def test_a_prediction_of_for_ever_is_not_known() -> None:
    row = read(outcome(prediction=pb.Prediction(ttft_seconds=float("inf"), quality=0.5)))
    assert (row["predicted_ttft_seconds"], row["predicted_quality"]) == (None, 0.5)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"id": ""}, "id: must be 1 to 128"),
        ({"id": "a b"}, "id: must be"),
        ({"id": "x" * 129}, "id: must be"),
        ({"policy": "chat"}, "namespace/name"),
        ({"policy": "edge/.."}, "namespace/name"),
        ({"arm": 0}, "arm: must be one of control, canary"),
        ({"status": 0}, "status: must be one of"),
        ({"status": 77}, "status: must be one of"),
        ({"quality": 1.5}, "quality: must be between 0 and 1"),
        ({"quality": float("nan")}, "quality: must be between 0 and 1"),
        ({"ttft_seconds": -0.1}, "ttft_seconds"),
        ({"duration_seconds": float("inf")}, "duration_seconds"),
        ({"output_tokens": -1}, "output_tokens"),
        ({"prompt_tokens": -1}, "prompt_tokens"),
        ({"propensity": 1.5}, "propensity"),
        ({"ttft_objective_seconds": float("nan")}, "ttft_objective_seconds"),
        ({"expert": "x" * 254}, "expert: is longer"),
        ({"state": b"x" * (256 * 1024 + 1)}, "state: is 262145 bytes"),
        ({"experts": ["a,b"]}, "experts: must be"),
        ({"prompt": "x" * (1 << 20) + "y"}, "prompt: is"),
        ({"shadow": pb.Shadow(version="x" * 254)}, "shadow.version"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_field(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(RecordError, match=problem):
        read(outcome(**fields))


@pytest.mark.parametrize("quality", [-0.1, 1.1, float("nan")])
def test_a_label_is_between_0_and_1(quality: float) -> None:
    with pytest.raises(RecordError, match="quality"):
        read_label(pb.QualityLabel(id="a", policy="edge/chat", quality=quality))


@pytest.mark.parametrize(
    "expert",
    [
        pb.Expert(name="../x", model="m"),
        pb.Expert(name="a", model=""),
        pb.Expert(name="a", model="m", base_seconds=float("nan")),
        pb.Expert(name="a", model="m", quality_prior=2.0),
    ],
)
def test_a_fleet_of_nonsense_is_refused(expert: pb.Expert) -> None:
    with pytest.raises(RecordError, match="experts"):
        read_fleet(pb.Fleet(policy="edge/chat", at=NOW, experts=[expert]), NOW)
