"""Versions at work: who decides on which request, by which beliefs, and what is recorded of it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.routing import Core, ObedientPicker, endpoint, policy

from pointsman_operator.assignment import Assignment, Installed, in_canary, install
from pointsman_operator.decision import Outcome, OutcomeStatus, RouteQuery
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.errors import ShedError, UnknownDecisionError
from pointsman_operator.learning import Learning, Sample
from pointsman_operator.trace import Trace
from pointsman_policy.experts import IterationTime
from pointsman_policy.registry.calibration import Calibration, ExpertCalibration, ModelCalibration
from pointsman_policy.registry.version import PolicyVersion
from pointsman_policy.runtime.exported import ARTEFACTS, read_exported_policy
from pointsman_policy.state import RoutingState

PICKER = "ImpactGreedy"
"""A picker that learns, by its name; here one that does as told."""
SLOW = ExpertCalibration(
    base_seconds=0.04,
    per_sequence_seconds=1e-4,
    per_context_token_seconds=1e-7,
    per_prefill_token_seconds=1e-5,
    outcomes=300,
)


@dataclass
class Notebook:
    """Records what the router says."""

    fleets: list[dict[str, list[str]]] = field(default_factory=list)
    ends: list[tuple[Trace, Outcome | None]] = field(default_factory=list)
    drops: list[tuple[str, list[str], Learning]] = field(default_factory=list)
    labels: list[tuple[str, str, float]] = field(default_factory=list)

    def configured(self, fleets: Sequence[tuple[str, Sequence[Endpoint]]], profiles: Path | None) -> None:
        self.fleets.append({key: [one.name for one in endpoints] for key, endpoints in fleets})

    def sample(self, policy: str, query: RouteQuery, state: RoutingState, store_prompt: bool) -> Sample:
        return Sample(False, state.expert.tobytes(), b"features", query.prompt if store_prompt else "")

    def dropped(
        self,
        decision_id: str,
        policy: str,
        picker: str,
        state: RoutingState,
        experts: Sequence[str],
        learning: Learning,
    ) -> None:
        self.drops.append((policy, list(experts), learning))

    def finished(self, trace: Trace, outcome: Outcome | None) -> None:
        self.ends.append((trace, outcome))

    def labelled(self, decision_id: str, policy: str, quality: float) -> None:
        self.labels.append((decision_id, policy, quality))


def installed(version: str, *scores: float, **calibration: Any) -> tuple[Installed, ObedientPicker]:
    picker = ObedientPicker(name=PICKER, version=version, scores=scores)
    return Installed(version, picker, Calibration(**calibration)), picker


class Fleet(Core):
    """Two experts, a policy whose picker learns, and a notebook."""

    def __init__(self, **spec: Any) -> None:
        self.packaged = ObedientPicker(name=PICKER, version="packaged", scores=(2.0, 1.0))
        self.notebook = Notebook()
        super().__init__(
            [endpoint("a"), endpoint("b")],
            [policy(picker=PICKER, **spec)],
            {PICKER: self.packaged},
            recorder=self.notebook,
        )

    def assign(self, **fields: Any) -> None:
        self.router.assign("edge/chat", Assignment(**fields))


def test_the_packaged_policy_decides_until_there_is_another() -> None:
    fleet = Fleet()
    decision = fleet.route()
    assert (decision.endpoints[0].name, decision.policy_version) == ("a", "packaged")
    active, picker = installed("v1", 1.0, 2.0)
    fleet.assign(active=active)
    decision = fleet.route()
    assert (decision.endpoints[0].name, decision.policy_version) == ("b", "v1")
    assert fleet.router.reports()[0].policy_version == "v1"
    fleet.assign()
    assert fleet.route().policy_version == "packaged"
    assert picker.seen


def test_versions_do_not_touch_a_picker_that_does_not_learn() -> None:
    core = Core([endpoint("a"), endpoint("b")])
    core.router.assign("edge/chat", Assignment(active=installed("v1", 1.0, 2.0)[0]))
    assert core.route().policy_version == "3"


def test_an_assignment_waits_for_its_policy_and_outlives_a_new_configuration() -> None:
    fleet = Fleet()
    fleet.router.configure([], [])
    fleet.assign(active=installed("v1", 1.0, 2.0)[0])
    fleet.router.configure(fleet.policies, [endpoint("a"), endpoint("b"), endpoint("c")])
    assert fleet.route().policy_version == "v1"


def test_a_version_goes_by_its_calibration() -> None:
    fleet = Fleet()
    models = {"model-a": ModelCalibration(quality=0.3, output_tokens=50.0, labels=30, outcomes=300)}
    active, picker = installed("v1", 2.0, experts={"a": SLOW}, models=models)
    fleet.assign(active=active)
    fleet.route()
    state = picker.seen[-1]
    assert state.expert["base_seconds"] == pytest.approx([0.04, 0.01])
    assert state.candidate["predicted_quality"] == pytest.approx([0.3, 0.6])
    assert state.candidate["predicted_output_tokens"] == pytest.approx([50, 100])
    assert fleet.view("a").endpoint.expert.iteration_time.base_milliseconds == pytest.approx(40.0)
    assert fleet.notebook.fleets == [{"edge/chat": ["a", "b"]}]


@pytest.mark.parametrize("percent", [5, 25, 100])
def test_a_canary_gets_its_share_and_each_request_always_the_same_version(percent: int) -> None:
    fleet = Fleet()
    fleet.assign(candidate=installed("v2", 1.0, 2.0)[0], canary_percent=percent)
    ids = [f"request-{number}" for number in range(3_000)]
    arms = {}
    for request_id in ids:
        decision = fleet.route(request_id=request_id)
        fleet.report(decision)
        arms[request_id] = decision.policy_version
    share = Counter(arms.values())["v2"] / len(ids)
    assert share == pytest.approx(percent / 100, abs=0.02)
    assert all(fleet.route(request_id=one).policy_version == arms[one] for one in ids[:50])
    other = Fleet()
    other.assign(candidate=installed("v2", 1.0, 2.0)[0], canary_percent=percent)
    assert all(other.route(request_id=one).policy_version == arms[one] for one in ids[:50])


def test_requests_without_an_id_are_told_apart_by_their_prompts() -> None:
    fleet = Fleet()
    fleet.assign(candidate=installed("v2", 1.0, 2.0)[0], canary_percent=50)
    versions = {prompt: fleet.route(prompt=prompt).policy_version for prompt in map(str, range(40))}
    assert set(versions.values()) == {"v2", "packaged"}
    assert all(fleet.route(prompt=prompt).policy_version == version for prompt, version in versions.items())


def test_a_wider_canary_keeps_the_requests_that_it_had() -> None:
    requests = [str(number) for number in range(2_000)]
    narrow, wide = ({one for one in requests if in_canary("v2", one, percent)} for percent in (5, 25))
    assert narrow < wide
    assert {one for one in requests if in_canary("v3", one, 5)} != narrow


def test_what_is_recorded_names_version_and_arm() -> None:
    fleet = Fleet()
    fleet.assign(active=installed("v1", 2.0)[0], candidate=installed("v2", 1.0, 2.0)[0], canary_percent=50)
    for number in range(40):
        fleet.report(fleet.route(request_id=str(number)), ttft_seconds=0.1, duration_seconds=1.0, output_tokens=100)
    arms = {(trace.learning.version, trace.learning.arm) for trace, _ in fleet.notebook.ends}
    assert arms == {("v1", "control"), ("v2", "canary")}
    assert len(fleet.notebook.ends) == 40


def test_a_candidate_in_shadow_says_what_it_would_have_done() -> None:
    fleet = Fleet()
    candidate, picker = installed(
        "v2", 1.0, 2.0, models={"model-a": ModelCalibration(quality=0.2, labels=30, outcomes=9)}
    )
    fleet.assign(candidate=candidate)
    decision = fleet.route()
    fleet.report(decision)
    assert decision.endpoints[0].name == "a"
    trace, _ = fleet.notebook.ends[0]
    assert trace.learning.arm == "control"
    assert trace.learning.shadow is not None
    assert (trace.learning.shadow.version, trace.learning.shadow.expert) == ("v2", "b")
    assert trace.learning.shadow.predicted_gain == pytest.approx(0.4, abs=0.01)
    load = fleet.packaged.seen[-1].request["load_ratio"], picker.seen[-1].request["sequence"]
    assert fleet.route().endpoints[0].name == "a"
    assert picker.seen[-1].request["sequence"] == load[1] + 1  # it counts no arrival of its own


def test_a_candidate_in_shadow_is_asked_at_a_bounded_rate() -> None:
    fleet = Fleet()
    candidate, picker = installed("v2", 1.0, 2.0)
    fleet.assign(candidate=candidate)
    picker.seen.clear()
    for _ in range(200):
        fleet.route()
    assert len(picker.seen) == 20
    fleet.clock.now += 1.0
    for _ in range(200):
        fleet.route()
    assert len(picker.seen) == 40


def test_a_candidate_that_fails_disturbs_nobody() -> None:
    fleet = Fleet()
    candidate, picker = installed("v2", 1.0, 2.0)
    picker.error = ValueError("a bad network")
    fleet.assign(candidate=candidate)
    assert fleet.route().endpoints[0].name == "a"
    fleet.assign(candidate=candidate, canary_percent=100)
    decision = fleet.route()
    assert decision.picker == "FewestRequests"
    assert decision.policy_version == "v2"


def test_drops_and_expiries_are_recorded() -> None:
    fleet = Fleet(admission={"mode": "ShedHopeless"})
    fleet.packaged.drops = True
    with pytest.raises(ShedError):
        fleet.route()
    ((key, experts, learning),) = fleet.notebook.drops
    assert (key, experts, learning.arm) == ("edge/chat", ["a", "b"], "control")
    fleet.packaged.drops = False
    forgotten = fleet.route()
    fleet.clock.now += 200.0
    fleet.router.expire()
    assert fleet.notebook.ends[-1][0].decision.id == forgotten.id
    assert fleet.notebook.ends[-1][1] is None


def test_an_answer_may_be_judged_after_its_end_once() -> None:
    fleet = Fleet()
    with_outcome, later, long_ago = fleet.route(), fleet.route(), fleet.route()
    fleet.report(with_outcome, output_tokens=10, quality=0.9)
    fleet.report(with_outcome, quality=0.2)
    fleet.report(later, output_tokens=10)
    fleet.report(later, quality=0.7)
    fleet.router.label(later.id, 0.1)
    assert fleet.notebook.labels == [(later.id, "edge/chat", 0.7)]
    fleet.report(long_ago)
    for _ in range(4_200):
        fleet.report(fleet.route())
    fleet.report(long_ago, quality=0.5)
    assert fleet.notebook.labels[1:] == [(long_ago.id, "edge/chat", 0.5)]
    with pytest.raises(UnknownDecisionError, match="made elsewhere"):
        fleet.router.label("elsewhere-1", 0.5)


def test_exploration_is_told_with_its_chance() -> None:
    fleet = Fleet()
    fleet.assign(exploration_percent=100)
    for _ in range(40):
        fleet.report(fleet.route(), OutcomeStatus.COMPLETED, output_tokens=10)
        fleet.clock.now += 1.0
    learned = [trace.learning for trace, _ in fleet.notebook.ends]
    assert {one.propensity for one in learned} == {0.5}
    assert 8 < sum(one.explored for one in learned) < 32
    explored = next(trace for trace, _ in fleet.notebook.ends if trace.learning.explored)
    assert explored.decision.endpoints[0].name == "b"
    assert "tried for learning" in str(explored.decision.reason)


def test_a_swap_loses_no_open_request() -> None:
    fleet = Fleet()
    before = fleet.route()
    fleet.assign(active=installed("v1", 1.0, 2.0, experts={"a": SLOW})[0])
    assert fleet.in_flight() == {"a": 1, "b": 0}
    fleet.report(before, output_tokens=10)
    assert fleet.in_flight() == {"a": 0, "b": 0}
    assert fleet.notebook.ends[0][0].learning.version == ""


def test_a_version_is_made_ready_with_its_own_name() -> None:
    exported = read_exported_policy(ARTEFACTS / "han")
    version = PolicyVersion("edge/chat", 0.0, "", 10, exported, Calibration(), digest="ab" * 32)
    ready = install(version)
    assert (ready.version, ready.picker.name, ready.picker.version) == ("abababababab", "HanActor", "abababababab")
    core = Core([endpoint("a"), endpoint("b")], [policy(picker=PICKER)], {PICKER: ObedientPicker(name=PICKER)})
    core.router.assign("edge/chat", Assignment(active=replace(ready)))
    assert core.route().picker == "HanActor"


def test_declared_coefficients_stay_for_experts_that_no_outcome_told_of() -> None:
    fleet = Fleet()
    fleet.assign(active=installed("v1", 2.0, experts={"z": SLOW})[0])
    speed = fleet.view("a").endpoint.expert.iteration_time
    assert speed == IterationTime(
        base_milliseconds=10,
        per_sequence_milliseconds=0.1,
        per_context_token_milliseconds=0.0001,
        per_prefill_token_milliseconds=0.01,
    )
