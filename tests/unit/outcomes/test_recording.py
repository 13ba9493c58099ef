import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.routing import EXPIRY_SECONDS, UNIX_OFFSET, Core, ObedientPicker, endpoint, policy

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman_operator.decision import ObjectiveOverrides, OutcomeStatus, RouteQuery
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.errors import ShedError
from pointsman_operator.learning import Learning, Sample, ShadowOpinion
from pointsman_operator.outcomes.outcome_recorder import OutcomeRecorder
from pointsman_operator.outcomes.recording import dropped_record, fleet_record
from pointsman_operator.routerpolicy import RouterPolicy
from pointsman_policy.experience.packed_state import unpack_states
from pointsman_policy.experience.prompt_features import decode_prompts
from pointsman_policy.experts import IterationTime
from pointsman_policy.state import empty_state

PROFILES = "gpu,model,kv_capacity_tokens,L4_c0_ms,L4_c_seq_ms,L4_c_ctx_ms,L4_c_prefill_ms\nL40S,model-a,5000,{},1,1,1\n"


class Recorded:
    """A router whose decisions and outcomes are recorded."""

    def __init__(self, endpoints: Sequence[Endpoint], policies: Sequence[RouterPolicy] | None = None) -> None:
        self.records: list[pb.Record] = []
        self.recorder = OutcomeRecorder(self.records.append, self._clock, lambda: self._clock() + UNIX_OFFSET)
        self._core: Core | None = None
        self._core = Core(endpoints, policies, recorder=self.recorder)

    @property
    def core(self) -> Core:
        assert self._core is not None
        return self._core

    @property
    def outcomes(self) -> list[pb.Outcome]:
        return [one.outcome for one in self.records if one.HasField("outcome")]

    @property
    def fleets(self) -> list[pb.Fleet]:
        return [one.fleet for one in self.records if one.HasField("fleet")]

    def _clock(self) -> float:
        return 1_000.0 if self._core is None else self._core.clock.now


def finished(recorded: Recorded, **fields: Any) -> pb.Outcome:
    """Route a request, end it two seconds later, and return its record."""
    decision = recorded.core.route(prompt="How far is it?", objectives=ObjectiveOverrides(0.5, 0.02, 0.03))
    recorded.core.clock.now += 2.0
    recorded.core.report(decision, **fields)
    outcome = recorded.outcomes[-1]
    assert outcome.id == decision.id
    return outcome


def test_a_completed_request_is_recorded_with_all_that_is_known() -> None:
    recorded = Recorded([endpoint("a"), endpoint("b", quality_prior_percent=80)])
    recorded.core.picker.scores = (0.0, 1.0)
    found = finished(recorded, ttft_seconds=0.25, duration_seconds=1.5, output_tokens=50, prompt_tokens=7, quality=0.75)
    assert (found.policy, found.picker, found.expert, found.version) == ("edge/chat", "Obedient", "b", "")
    assert found.decided_at == 1_000.0 + UNIX_OFFSET
    assert (found.status, found.arm) == (pb.COMPLETED, pb.CONTROL)
    assert (found.prompt_tokens, found.output_tokens) == (7, 50)
    assert (found.ttft_seconds, found.duration_seconds, found.quality) == (0.25, 1.5, 0.75)
    objectives = (found.ttft_objective_seconds, found.tpot_objective_seconds, found.ntpot_objective_seconds)
    assert objectives == pytest.approx((0.5, 0.02, 0.03))
    assert found.prediction.quality == pytest.approx(0.8)
    assert found.prediction.output_tokens == 100
    assert 0 < found.prediction.ttft_seconds < 1
    assert 0 <= found.prediction.slo_probability <= 1
    assert (found.propensity, found.explored, found.may_drop) == (1.0, False, False)
    assert found.prompt == ""
    assert not found.HasField("shadow")


def test_the_state_and_the_prompts_features_can_be_read_back() -> None:
    recorded = Recorded([endpoint("a"), endpoint("b")])
    found = finished(recorded)
    states = unpack_states([found.state]).batches[0].states
    assert states.request["prompt_tokens"].tolist() == [[100]]
    assert states.expert.tobytes() == recorded.core.picker.seen[0].expert.tobytes()
    assert list(found.experts) == ["a", "b"]
    assert decode_prompts([found.prompt_features]).rows.tolist() == [0]


def test_what_is_not_known_is_left_unset() -> None:
    found = finished(Recorded([endpoint("a")]), output_tokens=0, prompt_tokens=0)
    for name in ("output_tokens", "ttft_seconds", "duration_seconds", "quality"):
        assert not found.HasField(name)
    assert found.prompt_tokens == 100


@pytest.mark.parametrize(
    ("status", "recorded_as"),
    [(OutcomeStatus.CANCELLED, pb.CANCELLED), (OutcomeStatus.FAILED, pb.FAILED)],
)
def test_requests_that_did_not_complete_are_recorded_too(status: OutcomeStatus, recorded_as: "pb.Status") -> None:
    assert finished(Recorded([endpoint("a")]), status=status).status == recorded_as


def test_progress_is_no_outcome() -> None:
    recorded = Recorded([endpoint("a")])
    recorded.core.report(recorded.core.route(), OutcomeStatus.IN_PROGRESS, output_tokens=3)
    assert recorded.outcomes == []


def test_a_decision_of_which_nothing_is_heard_expires() -> None:
    recorded = Recorded([endpoint("a")])
    recorded.core.route()
    recorded.core.clock.now += EXPIRY_SECONDS
    recorded.core.router.expire()
    assert [(one.status, one.expert) for one in recorded.outcomes] == [(pb.EXPIRED, "a")]
    assert recorded.outcomes[0].decided_at == 1_000.0 + UNIX_OFFSET


def test_of_an_expert_that_stepped_in_nothing_was_predicted() -> None:
    recorded = Recorded([endpoint("a"), endpoint("b")])
    recorded.core.picker.scores = (1.0, 0.0)
    found = finished(recorded, endpoint="10.0.0.2:8000", ttft_seconds=0.25)
    assert (found.expert, found.ttft_seconds) == ("b", 0.25)
    assert not found.HasField("prediction")
    assert found.propensity == 0.0


def test_an_expert_that_the_policy_does_not_know_goes_by_its_address() -> None:
    found = finished(Recorded([endpoint("a")]), endpoint="10.9.9.9:8000")
    assert found.expert == "10.9.9.9:8000"


def test_a_request_that_was_shed_is_recorded() -> None:
    recorded = Recorded([endpoint("a"), endpoint("b")], [policy(admission={"mode": "ShedHopeless"})])
    recorded.core.picker.drops = True
    with pytest.raises(ShedError):
        recorded.core.route(prompt_tokens=300)
    [found] = recorded.outcomes
    assert (found.status, found.expert, found.may_drop, found.prompt_tokens) == (pb.DROPPED, "", True, 300)
    assert found.ntpot_objective_seconds == pytest.approx(0.03)
    assert not found.HasField("prediction")
    assert list(found.experts) == ["a", "b"]
    assert found.id


def test_admission_that_may_drop_is_told_of_requests_that_were_served() -> None:
    recorded = Recorded([endpoint("a")], [policy(admission={"mode": "ShedHopeless"})])
    assert finished(recorded).may_drop


def test_prompts_are_stored_only_where_that_is_wanted_and_without_what_is_no_text() -> None:
    recorded = Recorded([endpoint("a")])
    state = empty_state(1)
    asked = RouteQuery("edge-chat", prompt="Good \ud800 morning" + "!" * 100_000)
    assert recorded.recorder.sample("edge/chat", asked, state, store_prompt=False).prompt == ""
    sample = recorded.recorder.sample("edge/chat", asked, state, store_prompt=True)
    record = dropped_record("d", "edge/chat", "p", ["a"], state, Learning(sample=sample), 1.0)
    assert record.outcome.prompt.startswith("Good ? morning!!!")
    assert len(record.outcome.prompt) == 32_768
    assert pb.Record.FromString(record.SerializeToString()) == record


def test_how_a_decision_came_about_is_told() -> None:
    learning = Learning("abc", "canary", 0.25, explored=True, shadow=ShadowOpinion("def", "b", 0.125))
    found = dropped_record("d", "edge/chat", "p", ["a"], empty_state(1), learning, 1.0).outcome
    assert (found.version, found.arm, found.propensity, found.explored) == ("abc", pb.CANARY, 0.25, True)
    assert (found.shadow.version, found.shadow.expert, found.shadow.predicted_gain) == ("def", "b", 0.125)


def test_numbers_that_are_none_never_leave_the_router() -> None:
    state = empty_state(1)
    state.request["load_ratio"] = math.inf
    learning = Learning(shadow=ShadowOpinion("def", "b", math.nan))
    found = dropped_record("d", "edge/chat", "p", ["a"], state, learning, 1.0).outcome
    assert (found.load_ratio, found.shadow.predicted_gain) == (0.0, 0.0)


def test_a_state_that_is_too_large_is_left_out() -> None:
    learning = Learning(sample=Sample(packed_state=b"s" * 300_000))
    found = dropped_record("d", "edge/chat", "p", ["a"], empty_state(1), learning, 1.0).outcome
    assert found.state == b""
    assert list(found.experts) == []


def test_a_label_that_comes_later_is_recorded() -> None:
    recorded = Recorded([endpoint("a")])
    decision = recorded.core.route()
    recorded.core.report(decision)
    recorded.core.router.label(decision.id, 0.5)
    assert recorded.records[-1].label == pb.QualityLabel(id=decision.id, policy="edge/chat", quality=0.5)


def test_states_and_prompts_are_sampled_at_a_bounded_rate() -> None:
    recorded = Recorded([endpoint("a")])
    for _ in range(1_000):
        recorded.core.report(recorded.core.route(prompt="Hello"))
        recorded.core.clock.now += 0.01
    states = sum(bool(one.state) for one in recorded.outcomes)
    prompts = sum(bool(one.prompt_features) for one in recorded.outcomes)
    assert len(recorded.outcomes) == 1_000
    assert 50 <= states <= 75
    assert 100 <= prompts <= 150


def test_a_fleet_is_recorded_as_it_is_declared_whenever_it_changes() -> None:
    speed = IterationTime(
        base_milliseconds=8,
        per_sequence_milliseconds=0.5,
        per_context_token_milliseconds=0.002,
        per_prefill_token_milliseconds=0.25,
    )
    one = endpoint("a", iteration_time=speed, kv_capacity_tokens=9_000, maximum_running=32, gpu="L40S")
    recorded = Recorded([one])
    [fleet] = recorded.fleets
    assert (fleet.policy, fleet.at) == ("edge/chat", 1_000.0 + UNIX_OFFSET)
    expert = fleet.experts[0]
    assert (expert.name, expert.model, expert.gpu, expert.maximum_running) == ("a", "model-a", "L40S", 32)
    assert (expert.base_seconds, expert.per_sequence_seconds) == pytest.approx((8e-3, 0.5e-3))
    assert (expert.per_context_token_seconds, expert.per_prefill_token_seconds) == pytest.approx((2e-6, 0.25e-3))
    assert (expert.kv_capacity_tokens, expert.quality_prior, expert.output_tokens_prior) == pytest.approx(
        (9_000, 0.6, 100)
    )
    router = recorded.core.router
    router.configure(recorded.core.policies, [one])
    assert len(recorded.fleets) == 1
    router.configure(recorded.core.policies, [one, endpoint("b")])
    assert [len(fleet.experts) for fleet in recorded.fleets] == [1, 2]
    recorded.recorder.repeat_fleets()
    assert [len(fleet.experts) for fleet in recorded.fleets] == [1, 2, 2]


def test_a_policy_that_comes_back_is_recorded_again() -> None:
    recorded = Recorded([endpoint("a")])
    recorded.core.router.configure((), [])
    recorded.recorder.repeat_fleets()
    assert len(recorded.fleets) == 1
    recorded.core.router.configure(recorded.core.policies, [endpoint("a")])
    assert len(recorded.fleets) == 2


def test_profiles_that_cannot_be_read_leave_those_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    records: list[pb.Record] = []
    recorder = OutcomeRecorder(records.append, lambda: 0.0, lambda: 0.0)
    profiles = tmp_path / "profiles.csv"
    profiles.write_text(PROFILES.format(25))
    fleet = [("edge/chat", [endpoint("a", iteration_time=None, gpu="L40S")])]
    recorder.configured(fleet, profiles)
    profiles.unlink()
    recorder.configured([*fleet, ("edge/code", fleet[0][1])], profiles)
    assert [one.fleet.experts[0].base_seconds for one in records] == pytest.approx([0.025, 0.025])
    assert "profiles.csv" in caplog.text


def test_a_fleet_of_experts_without_profiles_is_estimated() -> None:
    found = fleet_record("edge/chat", [endpoint("a", iteration_time=None, model="Qwen2.5-7B", gpu="A100")], None, 1.0)
    assert 0.001 < found.fleet.experts[0].base_seconds < 0.1


def test_recording_takes_microseconds() -> None:
    recorded = Recorded([endpoint(name) for name in "abcd"])
    assert isinstance(recorded.core.picker, ObedientPicker)
    decisions = [recorded.core.route() for _ in range(50)]
    spans = []
    for decision in decisions:
        trace = recorded.core.router._open[decision.id]
        started = time.perf_counter()
        recorded.recorder.finished(trace, None)
        spans.append(time.perf_counter() - started)
    assert np.median(spans) < 500e-6
