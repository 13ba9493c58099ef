import gc
import math
import pickle
from typing import Any

import numpy as np
import pytest
from tests.unit.routing import EXPIRY_SECONDS, LABELS, Core, ObedientPicker, endpoint, policy

from pointsman_operator.decision import Decision, ObjectiveOverrides, Outcome, OutcomeStatus
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.errors import NoExpertError, ShedError, UnknownDecisionError, UnknownModelError
from pointsman_policy.errors import DocumentError

A, B, C = "10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"
LABEL = {"policy": "edge/chat", "picker": "Obedient"}


@pytest.fixture
def core() -> Core:
    return Core([endpoint("a"), endpoint("b"), endpoint("c")])


def addresses(decision: Decision) -> list[str]:
    return [one.address for one in decision.endpoints]


# From query to decision


def test_a_decision_lists_the_pick_first_and_the_others_by_score(core: Core) -> None:
    core.picker.scores = (0.2, 0.9, 0.4)
    decision = core.route()
    assert addresses(decision) == [B, C, A]
    assert (decision.policy, decision.picker, decision.policy_version) == ("edge/chat", "Obedient", "3")
    assert decision.fallbacks == ()
    assert str(decision.reason).startswith("b, by Obedient: what the test says (predicted TTFT ")


def test_equal_scores_are_listed_by_fewest_requests(core: Core) -> None:
    core.picker.scores = (1.0, 0.5, 0.5)
    core.sample(B, running=5)
    core.sample(C, running=2)
    assert addresses(core.route()) == [A, C, B]


def test_at_most_four_endpoints_are_listed() -> None:
    core = Core([endpoint(name) for name in "abcdef"])
    assert len(core.route().endpoints) == 4


def test_ids_are_never_given_out_twice(core: Core) -> None:
    ids = {core.route().id for _ in range(100)}
    assert len(ids) == 100
    later = Core([endpoint("a")], started_at=1_000.5)
    assert later.route().id not in ids  # although its seed is the same
    assert Core([endpoint("a")]).route().id in ids  # two routers that start at once need seeds of their own


@pytest.mark.parametrize(
    ("model", "rewrite", "listed"),
    [
        ("edge-chat", None, [A, B]),
        ("auto", "model-a", [A, B]),
        ("", None, [A, B, C]),
    ],
)
def test_a_name_is_rewritten_unless_the_pick_accepts_it_and_the_list_holds_who_knows_it(
    model: str, rewrite: str | None, listed: list[str]
) -> None:
    shared = ("model-a", "edge-chat")
    core = Core(
        [
            endpoint("a", served_model_names=shared),
            endpoint("b", served_model_names=("model-b", *shared)),
            endpoint("c", served_model_names=("model-c",)),
        ]
    )
    core.picker.scores = (0.9, 0.5, 0.4)
    decision = core.route(model)
    assert (decision.model_rewrite, addresses(decision)) == (rewrite, listed)


def test_an_expert_without_the_alias_is_followed_only_by_twins_of_it() -> None:
    core = Core(
        [
            endpoint("a", model="real", served_model_names=("real",)),
            endpoint("b"),
            endpoint("c", model="real", served_model_names=("real",)),
        ]
    )
    core.picker.scores = (0.9, 0.8, 0.1)
    decision = core.route()
    assert (decision.model_rewrite, addresses(decision)) == ("real", [A, C])


@pytest.mark.parametrize("model", ["auto", ""])
def test_auto_means_the_only_policy_there_is(core: Core, model: str) -> None:
    assert core.route(model).policy == "edge/chat"
    core.router.configure([policy(), policy("code")], [endpoint("a")])
    with pytest.raises(UnknownModelError, match="models: edge-chat, edge-code"):
        core.route(model)


@pytest.mark.parametrize("model", ["auto", ""])
def test_of_several_policies_the_gateways_subset_tells_which_is_meant(core: Core, model: str) -> None:
    apart = [endpoint("a", labels={"model": "chat"}), endpoint("b", labels={"model": "code"})]
    chat = policy(experts={"selector": {"matchLabels": {"model": "chat"}}})
    code = policy("code", experts={"selector": {"matchLabels": {"model": "code"}}})
    core.router.configure([chat, code], apart)
    assert core.route(model, subset=frozenset({B})).policy == "edge/code"
    for subset in (frozenset({A, B}), frozenset({"10.9.9.9:80"}), frozenset[str]()):
        with pytest.raises(UnknownModelError, match="models: edge-chat, edge-code"):
            core.route(model, subset=subset)


def test_an_unknown_model_is_named_with_those_that_there_are(core: Core) -> None:
    with pytest.raises(UnknownModelError, match=r"no RouterPolicy serves the model 'gpt-5'; models: edge-chat"):
        core.route("gpt-5")
    assert core.router.open_decisions() == 0


def test_the_subset_of_the_gateway_bounds_pick_and_list(core: Core) -> None:
    core.picker.scores = (0.9, 0.5, 0.4)
    assert addresses(core.route(subset=frozenset({C, B, "10.9.9.9:80"}))) == [B, C]
    with pytest.raises(NoExpertError, match="not in the gateway's endpoint subset"):
        core.route(subset=frozenset({"10.9.9.9:80"}))
    with pytest.raises(NoExpertError, match="subset is empty"):
        core.route(subset=frozenset())
    assert core.value("dropped_requests_total", policy="edge/chat", reason="rejected-no-endpoints") == 2


def test_what_is_not_ready_or_too_small_is_not_picked() -> None:
    core = Core([endpoint("a", context_length_tokens=500), endpoint("b", ready=False), endpoint("c")])
    core.picker.scores = (0.9, 0.8, 0.1)
    assert addresses(core.route(prompt_tokens=400, max_output_tokens=100)) == [A, C]
    decision = core.route(prompt_tokens=400, max_output_tokens=101)
    assert addresses(decision) == [C]
    excluded = {one.endpoint.name: one.exclusion for one in core.router.explain(decision.id).candidates}
    assert excluded == {"a": "prompt and answer exceed its context length", "b": "not ready", "c": ""}


def test_the_quality_floor_holds_where_some_expert_reaches_it() -> None:
    objectives = {"qualityFloorPercent": 70}
    endpoints = [endpoint("a", quality_prior_percent=50), endpoint("b", quality_prior_percent=80)]
    core = Core(endpoints, [policy(objectives=objectives)])
    core.picker.scores = (0.9, 0.1)
    decision = core.route()
    assert addresses(decision) == [B]
    assert core.router.explain(decision.id).candidates[-1].exclusion == "predicted quality below the floor"
    assert addresses(core.route(subset=frozenset({A}))) == [A]


def test_a_policy_that_selects_nothing_says_so() -> None:
    core = Core([endpoint("a", labels={})])
    with pytest.raises(NoExpertError, match="selects no expert; check its selector"):
        core.route()
    assert core.router.not_ready() == "no expert is ready for edge/chat"


def test_the_text_stands_in_for_a_token_count(core: Core) -> None:
    decision = core.route(prompt_tokens=0, prompt="x" * 400)
    assert core.router.explain(decision.id).prompt_tokens == 100


@pytest.mark.parametrize(
    ("mode", "priority", "may_drop"),
    [
        ("Never", -1, False),
        ("ShedSheddable", 0, False),
        ("ShedSheddable", -1, True),
        ("ShedHopeless", 0, True),
        ("ShedHopeless", 5, True),
    ],
)
def test_admission_says_which_requests_may_be_shed(mode: str, priority: int, *, may_drop: bool) -> None:
    core = Core([endpoint("a")], [policy(admission={"mode": mode})])
    core.route(priority=priority)
    assert bool(core.picker.seen[-1].request[0]["may_drop"]) == may_drop


def test_a_shed_request_leaves_nothing_open(core: Core) -> None:
    core.picker.drops = True
    with pytest.raises(ShedError, match="retry later or relax the objectives"):
        core.route()
    assert core.router.open_decisions() == 0
    assert core.in_flight() == {"a": 0, "b": 0, "c": 0}
    assert core.value("dropped_requests_total", policy="edge/chat", reason="rejected-saturated") == 1


def test_a_request_may_override_its_objectives(core: Core) -> None:
    decision = core.route(objectives=ObjectiveOverrides(ttft_seconds=0.5, ntpot_seconds=0))
    assert core.router.explain(decision.id).objectives == ObjectiveOverrides(0.5, 0, 0)
    request = core.picker.seen[-1].request[0]
    assert (request["ttft_objective_seconds"], request["ntpot_objective_seconds"]) == (0.5, 0)
    assert core.router.explain(core.route().id).objectives == ObjectiveOverrides(0, 0, 0.03)


# From decision to outcome


def test_a_decision_is_open_until_its_end_is_reported(core: Core) -> None:
    decision = core.route()
    assert core.in_flight() == {"a": 1, "b": 0, "c": 0}
    assert core.view("a").running_requests == 1
    core.clock.now += 2
    core.report(decision, ttft_seconds=0.1, duration_seconds=2.0, output_tokens=100)
    assert core.in_flight() == {"a": 0, "b": 0, "c": 0}
    assert core.router.open_decisions() == 0
    assert core.value("finished_requests_total", **LABEL, status="completed") == 1
    assert core.value("request_ntpot_seconds_sum", policy="edge/chat") == pytest.approx(0.02)
    assert core.value("request_tpot_seconds_sum", policy="edge/chat") == pytest.approx(1.9 / 99)
    assert core.value("request_ttft_seconds_sum", policy="edge/chat") == pytest.approx(0.1)
    assert core.value("slo_attained_requests_total", **LABEL) == 1
    assert core.value("qos_total", **LABEL) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("status", "fields", "judged", "attained", "qos"),
    [
        (OutcomeStatus.COMPLETED, {"duration_seconds": 2.0, "output_tokens": 100}, 1, 1, 0.6),
        (OutcomeStatus.COMPLETED, {"duration_seconds": 2.0, "output_tokens": 100, "quality": 0.9}, 1, 1, 0.9),
        (OutcomeStatus.COMPLETED, {"duration_seconds": 4.0, "output_tokens": 100}, 1, 0, 0),
        (OutcomeStatus.COMPLETED, {}, 0, 0, 0),
        (OutcomeStatus.FAILED, {}, 1, 0, 0),
        (OutcomeStatus.CANCELLED, {"duration_seconds": 9.0, "output_tokens": 1}, 0, 0, 0),
    ],
)
def test_an_outcome_is_judged_by_what_is_known_of_it(
    core: Core, status: OutcomeStatus, fields: dict[str, float], judged: int, attained: int, qos: float
) -> None:
    core.report(core.route(), status, **fields)
    assert core.value("slo_judged_requests_total", **LABEL) == judged
    assert core.value("slo_attained_requests_total", **LABEL) == attained
    assert core.value("qos_total", **LABEL) == pytest.approx(qos)


def test_only_the_first_end_counts(core: Core) -> None:
    decision = core.route()
    core.report(decision, OutcomeStatus.CANCELLED)
    core.report(decision, OutcomeStatus.COMPLETED, output_tokens=9)
    core.report(decision, OutcomeStatus.IN_PROGRESS, output_tokens=9)
    outcome = core.router.explain(decision.id).outcome
    assert outcome is not None
    assert outcome.status is OutcomeStatus.CANCELLED
    assert core.value("finished_requests_total", **LABEL, status="completed") == 0
    assert core.in_flight()["a"] == 0


def test_a_decision_that_was_not_made_here_is_unknown(core: Core) -> None:
    with pytest.raises(UnknownDecisionError, match="'elsewhere-1'"):
        core.router.explain("elsewhere-1")
    with pytest.raises(UnknownDecisionError, match="'elsewhere-1'"):
        core.router.report(Outcome("elsewhere-1", OutcomeStatus.COMPLETED))


def test_a_request_that_another_endpoint_served_is_counted_there(core: Core) -> None:
    decision = core.route()
    core.report(decision, OutcomeStatus.IN_PROGRESS, endpoint=B)
    assert core.in_flight() == {"a": 0, "b": 1, "c": 0}
    core.report(decision, endpoint=B, output_tokens=3)
    assert core.in_flight() == {"a": 0, "b": 0, "c": 0}
    other = core.route()
    core.report(other, endpoint=C, output_tokens=3)
    assert core.in_flight() == {"a": 0, "b": 0, "c": 0}
    third = core.route()
    core.report(third, OutcomeStatus.IN_PROGRESS, endpoint="10.9.9.9:80")
    assert core.in_flight() == {"a": 1, "b": 0, "c": 0}


def test_a_sample_counts_a_moved_request_only_where_it_was_served(core: Core) -> None:
    decision = core.route()
    core.clock.now += 1
    core.report(decision, OutcomeStatus.IN_PROGRESS, endpoint=B)
    core.clock.now += 1
    core.sample(A, running=1, age=1.5)  # someone else's, taken when ours was at B already
    assert core.view("a").running_requests == 1


def test_progress_sharpens_the_picture_of_a_request(core: Core) -> None:
    decision = core.route()
    core.clock.now += 1
    core.report(decision, OutcomeStatus.IN_PROGRESS, ttft_seconds=0.4, output_tokens=50)
    core.route()
    state = core.picker.seen[-1]
    slot = state.running[0][0]
    assert slot["generated_tokens"] == pytest.approx(50)
    assert slot["decode_age_seconds"] == pytest.approx(0.6)
    assert slot["age_seconds"] == pytest.approx(1)


def test_a_silent_decision_expires_and_a_speaking_one_does_not(core: Core) -> None:
    silent, speaking = core.route(), core.route()
    core.clock.now += EXPIRY_SECONDS - 1
    core.report(speaking, OutcomeStatus.IN_PROGRESS, output_tokens=5_000)
    late = core.route()
    core.router.expire()
    assert core.router.open_decisions() == 3
    core.clock.now += 1
    core.router.expire()
    assert core.router.open_decisions() == 2
    assert core.in_flight()["a"] == 2
    assert core.value("expired_decisions_total") == 1
    core.clock.now += EXPIRY_SECONDS
    core.router.expire()
    assert core.router.open_decisions() == 0
    for decision in (silent, speaking, late):
        assert core.router.explain(decision.id).outcome is None


def test_an_end_that_comes_after_expiry_still_counts(core: Core) -> None:
    decision = core.route()
    core.clock.now += EXPIRY_SECONDS
    core.router.expire()
    core.report(decision, OutcomeStatus.IN_PROGRESS, output_tokens=1)
    assert core.router.explain(decision.id).outcome is None
    core.report(decision, output_tokens=100, duration_seconds=2.0)
    assert core.value("finished_requests_total", **LABEL, status="completed") == 1
    outcome = core.router.explain(decision.id).outcome
    assert outcome is not None
    assert outcome.output_tokens == 100
    assert core.in_flight()["a"] == 0


def test_many_decisions_may_be_open_at_once(core: Core) -> None:
    decisions = [core.route() for _ in range(4_200)]
    assert core.in_flight()["a"] == 4_200
    with pytest.raises(UnknownDecisionError, match="keeps its last 4096 decisions"):
        core.router.explain(decisions[0].id)
    for decision in decisions:
        core.report(decision)
    assert core.router.open_decisions() == core.in_flight()["a"] == 0


# Load samples


def test_requests_that_an_expert_no_longer_has_are_closed(core: Core) -> None:
    for _ in range(3):
        core.route()
        core.clock.now += 1
    core.sample(A, running=1)
    assert core.in_flight()["a"] == 3
    core.clock.now += 1
    core.sample(A, running=1)
    assert core.in_flight()["a"] == 1
    assert core.value("expired_decisions_total") == 2
    assert core.router.open_decisions() == 1


def test_one_sample_closes_nothing_nor_do_two_with_a_better_one_between(core: Core) -> None:
    core.route()
    for running in (0, 1, 0, 1, 0):
        core.clock.now += 0.8
        core.sample(A, running=running)
    assert core.in_flight()["a"] == 1


def test_what_is_on_its_way_or_speaks_is_not_taken_for_lost(core: Core) -> None:
    speaking = core.route()
    core.clock.now += 10
    core.sample(A, running=0)
    core.clock.now += 0.5
    core.report(speaking, OutcomeStatus.IN_PROGRESS, output_tokens=9)
    core.route()
    core.clock.now += 0.5
    core.sample(A, running=0)
    assert core.in_flight()["a"] == 2


def test_ends_that_are_reported_late_close_nothing_else(core: Core) -> None:
    long = core.route()
    for _ in range(20):
        short = core.route()
        core.clock.now += 0.3
        core.sample(A, running=1)  # the short one has ended, its report is on its way
        core.report(short)
    assert core.router.explain(long.id).outcome is None
    assert core.in_flight()["a"] == 1
    assert core.value("expired_decisions_total") == 0


def test_a_sample_that_does_not_say_how_many_there_are_closes_nothing(core: Core) -> None:
    core.route()
    for _ in range(3):
        core.clock.now += 2
        core.sample(A, running=None, waiting=None)
    assert core.in_flight()["a"] == 1


def test_load_by_others_is_what_a_sample_counts_beyond_our_own(core: Core) -> None:
    core.route()
    core.clock.now += 1
    core.sample(A, running=4, waiting=2)
    assert core.view("a").running_requests == pytest.approx(5)
    assert core.view("a").waiting_requests == pytest.approx(1)
    assert core.view("a").telemetry_age_seconds == 0
    assert core.view("b").telemetry_age_seconds is None


def test_stale_samples_are_forgotten_with_what_they_said(core: Core) -> None:
    core.sample(A, running=4)
    core.clock.now += 14
    core.router.expire()
    assert core.view("a").running_requests == 4
    core.clock.now += 2
    core.router.expire()
    assert core.view("a").running_requests == 0
    assert core.view("a").telemetry_age_seconds == pytest.approx(16)


def test_samples_of_the_past_and_of_strangers_are_left_alone(core: Core) -> None:
    core.sample(A, running=4)
    core.sample(A, running=9, age=5)
    core.sample("10.9.9.9:80", running=3)
    assert core.view("a").running_requests == 4


# Changes of policies and experts


def test_a_change_of_experts_keeps_what_is_open_and_how_many_arrive(core: Core) -> None:
    for _ in range(50):
        core.route()
        core.clock.now += 0.1
    before = core.picker.seen[-1].request[0]
    core.router.configure(core.policies, [endpoint("b"), endpoint("a", quality_prior_percent=90)])
    assert core.in_flight() == {"b": 0, "a": 50}
    core.picker.scores = (0, 1)
    core.route()
    after = core.picker.seen[-1].request[0]
    assert after["sequence"] == before["sequence"] + 1
    assert after["load_ratio"] == pytest.approx(before["load_ratio"], rel=0.6)
    assert after["load_ratio"] > 0


def test_a_removed_expert_is_not_picked_any_more_though_requests_are_open_there(core: Core) -> None:
    decision = core.route()
    assert addresses(decision)[0] == A
    core.router.configure(core.policies, [endpoint("b"), endpoint("c")])
    assert A not in addresses(core.route())
    assert core.router.endpoints("edge/chat") != ()
    core.report(decision, endpoint=A, output_tokens=10)
    assert core.router.open_decisions() == 1
    explanation = core.router.explain(decision.id)
    assert [one.endpoint.name for one in explanation.candidates] == ["a", "b", "c"]


def test_an_expert_that_comes_back_has_its_open_requests_still(core: Core) -> None:
    decision = core.route()
    core.router.configure(core.policies, [endpoint("b")])
    core.router.configure(core.policies, [endpoint("b"), endpoint("a")])
    assert core.in_flight() == {"b": 0, "a": 1}
    core.report(decision)
    core.router.configure(core.policies, [endpoint("b")])
    core.router.configure(core.policies, [endpoint("b"), endpoint("a")])
    assert core.in_flight() == {"b": 0, "a": 0}


def test_rows_are_used_again_and_hold_more_experts_than_there_were_at_first() -> None:
    core = Core([endpoint("a")])
    for generation in range(40):
        fresh = [endpoint(f"x{index}", endpoint=f"10.1.{generation}.{index}:80") for index in range(1, 31)]
        core.router.configure(core.policies, fresh)
        core.sample(fresh[0].address, running=7)
        assert [view.running_requests for _, view in core.router.views()] == [7] + [0] * 29
        core.report(core.route())


def test_policies_come_and_go(core: Core) -> None:
    core.router.configure([policy(), policy("code")], [endpoint("a")])
    assert core.router.models() == ("edge-chat", "edge-code")
    decision = core.route("edge-code")
    assert core.in_flight() == {"a": 1}
    core.router.configure([policy()], [endpoint("a")])
    assert core.router.endpoints("edge/code") == ()
    core.report(decision)
    assert core.router.open_decisions() == 0
    core.router.configure([], [endpoint("a")])
    assert core.router.not_ready() == "no RouterPolicy is configured"
    with pytest.raises(UnknownModelError, match="none yet"):
        core.route()


def test_policies_share_what_is_known_of_their_experts() -> None:
    code = policy("code", experts={"selector": {"matchLabels": {"gpu": "l4"}}})
    core = Core([endpoint("a", labels={**LABELS, "gpu": "l4"}), endpoint("b")], [policy(), code])
    core.route("edge-code")
    assert core.view("a", "edge-chat").in_flight == 1
    assert [view.endpoint.name for view in core.router.experts("edge-code")[1]] == ["a"]


def test_profiles_that_cannot_be_read_change_nothing(core: Core, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("profiles") / "none.csv"
    with pytest.raises(DocumentError, match=r"none\.csv"):
        core.router.configure([policy("code")], [endpoint("b")], path)
    assert core.router.models() == ("edge-chat",)
    assert addresses(core.route()) == [A, B, C]


def test_a_picker_that_fails_is_stood_in_for(core: Core) -> None:
    core.picker.error = RuntimeError("no model")
    decision = core.route()
    assert decision.picker == "FewestRequests"
    assert decision.fallbacks == ("Obedient: failed (RuntimeError: no model)",)
    assert core.value("fallback_picks_total", picker="Obedient", reason="error") == 1


def test_a_new_chain_is_used_from_the_next_request_on(core: Core) -> None:
    other = ObedientPicker(name="Other", scores=(0, 1))
    core = Core([endpoint("a"), endpoint("b")], pickers={"Other": other})
    assert core.route().picker == "Obedient"
    core.router.configure([policy(picker="Other")], [endpoint("a"), endpoint("b")])
    decision = core.route()
    assert (decision.picker, addresses(decision)[0]) == ("Other", B)


# What is kept


def test_candidates_are_explained_best_first(core: Core) -> None:
    core.picker.scores = (0.1, 0.7, 0.4)
    core.clock.now += 1
    decision = core.route(subset=frozenset({A, C}))
    core.clock.now += 3
    explanation = core.router.explain(decision.id)
    assert [one.endpoint.name for one in explanation.candidates] == ["c", "a", "b"]
    assert [one.score for one in explanation.candidates] == [0.4, 0.1, None]
    assert explanation.age_seconds == 3
    best = explanation.candidates[0]
    assert best.quality == pytest.approx(0.6)
    assert best.output_tokens == 100
    assert 0 < best.ttft_seconds < 0.1
    assert 0 <= best.slo_probability <= 1
    assert math.isfinite(best.impact)


def test_no_prompt_is_kept(core: Core) -> None:
    marker = "MARKER-of-a-prompt"
    decision = core.route(prompt=marker + " and more", prompt_tokens=0)
    core.report(core.route(prompt=marker), output_tokens=5)
    core.route(prompt=marker)
    pickled = pickle.dumps([core.router.explain(decision.id), decision])
    assert marker.encode() not in pickled
    held = [one for one in reachable(core.router) if issubclass(type(one), str) and marker in str(one)]
    assert not held


def reachable(root: object) -> list[object]:
    seen: dict[int, object] = {}
    queue = [root]
    while queue:
        one = queue.pop()
        if id(one) in seen or issubclass(type(one), type(gc) | type | np.dtype):
            continue
        seen[id(one)] = one
        queue.extend(gc.get_referents(one))
    return list(seen.values())


def test_a_policy_is_reported_with_its_experts_their_load_and_its_score() -> None:
    experts = [endpoint("a"), endpoint("b"), endpoint("c"), endpoint("d", ready=False)]
    core = Core(experts)
    core.sample("10.0.0.1:8000", 1, age=2.0)
    core.sample("10.0.0.2:8000", 1, age=20.0)
    core.report(core.route(), duration_seconds=1.0, output_tokens=100)
    core.report(core.route(), duration_seconds=9.0, output_tokens=100)
    core.report(core.route(), OutcomeStatus.CANCELLED)
    (report,) = core.router.reports()
    assert (report.policy, report.model_name, report.picker, report.policy_version) == (
        "edge/chat",
        "edge-chat",
        "Obedient",
        "3",
    )
    assert (report.experts, report.ready_experts, report.fresh_experts) == (4, 3, 1)
    assert report.oldest_telemetry_age_seconds == pytest.approx(20.0)
    assert (report.judged_requests, report.met_requests) == (2, 1)


def test_without_any_sample_a_policy_has_no_telemetry_age() -> None:
    (report,) = Core([endpoint("a")]).router.reports()
    assert (report.fresh_experts, report.oldest_telemetry_age_seconds) == (0, None)


def test_the_score_of_a_policy_outlives_its_changes_but_not_the_policy() -> None:
    core = Core([endpoint("a")])
    core.report(core.route(), duration_seconds=1.0, output_tokens=100)
    core.router.configure([policy(admission={"mode": "ShedHopeless"})], [endpoint("a")])
    assert core.router.reports()[0].judged_requests == 1
    core.router.configure([], [])
    core.router.configure(core.policies, [endpoint("a")])
    assert core.router.reports()[0].judged_requests == 0


def made_for(name: str, key: str, **fields: Any) -> Endpoint:
    return Endpoint(endpoint(name, **fields).expert, "edge", key)


def test_of_two_policies_with_one_model_name_the_first_keeps_it_and_both_have_their_keys() -> None:
    core = Core([])
    policies = [policy("old", modelName="edge-chat"), policy("young", modelName="edge-chat")]
    core.router.configure(policies, [made_for("a", "edge/old"), made_for("b", "edge/young")])
    assert core.route("edge-chat").endpoints[0].name == "a"
    assert core.route("edge/old").endpoints[0].name == "a"
    assert core.route("edge/young").endpoints[0].name == "b"
    assert core.router.models() == ("edge-chat", "edge/young")
    assert {one.policy: one.model_name for one in core.router.reports()} == {
        "edge/old": "edge-chat",
        "edge/young": "",
    }
    with pytest.raises(UnknownModelError, match="models: edge-chat, edge/young"):
        core.route("auto")


def test_no_model_name_takes_another_policys_key() -> None:
    core = Core([])
    policies = [policy("thief", modelName="edge/chat"), policy("chat")]
    core.router.configure(policies, [made_for("a", "edge/thief"), made_for("b", "edge/chat")])
    assert core.route("edge/chat").endpoints[0].name == "b"


def test_one_pod_of_two_policies_has_one_load() -> None:
    core = Core([])
    policies = [policy("one"), policy("two", telemetry={"source": "DirectScrape", "staleAfterMilliseconds": 60_000})]
    shared = [made_for("a", "edge/one"), made_for("a", "edge/two", engine="sglang")]
    core.router.configure(policies, [*shared, made_for("b", "edge/two")])
    core.route("edge-one")
    core.sample("10.0.0.1:8000", 5)
    views = {(key, view.endpoint.name): view for key, view in core.router.views()}
    assert views["edge/one", "a"].in_flight == views["edge/two", "a"].in_flight == 1
    assert views["edge/one", "a"].endpoint is not views["edge/two", "a"].endpoint
    assert views["edge/two", "a"].running_requests >= 5
    core.clock.now += 20
    core.router.expire()  # too old for one of the policies; its pod's load is not forgotten while the other believes it
    assert core.view("a", "edge-one").running_requests > 1
    core.clock.now += 50
    core.router.expire()
    assert core.view("a", "edge-two").running_requests <= 1
    core.router.configure([policies[1]], shared[1:])
    assert core.view("a", "edge-two").in_flight == 1
