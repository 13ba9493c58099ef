import pytest

from pointsman_policy.documents import parse
from pointsman_policy.rollout.comparison import Comparison
from pointsman_policy.rollout.stages import SHADOW_DECISIONS, Evidence, advance, offer, promote, roll_back, waits_for
from pointsman_policy.rollout.state import (
    PACKAGED,
    RolloutError,
    RolloutSettings,
    RolloutState,
    Stage,
    VersionName,
)

AUTOMATIC = RolloutSettings(
    shadow_minutes=30, canary_percents=(5, 50), canary_minutes=10, canary_requests=100, maximum_slo_regression_percent=1
)
MANUAL = AUTOMATIC.model_copy(update={"manual": True})
NOW = 1_800_000_000.0
MINUTE = 60.0
FIRST, SECOND = VersionName(version="aaa", digest="a" * 64), VersionName(version="bbb", digest="b" * 64)


def seen(canary: int = 0, *, shadow: int = SHADOW_DECISIONS, canary_qos: float = 0.7) -> Evidence:
    comparison = Comparison()
    for _ in range(canary):
        comparison.observe("control", 0.7, 1.0)
        comparison.observe("canary", canary_qos, 1.0)
    return Evidence(comparison, shadow)


def offered(version: VersionName = FIRST, state: RolloutState | None = None) -> RolloutState:
    return offer(state or RolloutState(), version, passed=True, reason="beats the active one", now=NOW)


def in_canary(version: VersionName = FIRST, state: RolloutState | None = None) -> RolloutState:
    state = advance(offered(version, state), AUTOMATIC, seen(), NOW)
    state = advance(state, AUTOMATIC, seen(), NOW + 30 * MINUTE)
    assert state.candidate is not None
    assert (state.candidate.stage, state.candidate.percent) == (Stage.CANARY, 5)
    return state


def active(version: VersionName = FIRST, state: RolloutState | None = None) -> RolloutState:
    forced = promote(
        state or RolloutState(), AUTOMATIC, version, seen(), NOW, passed=True, force=True, stage=Stage.ACTIVE
    )
    assert forced.active == version
    return forced


def test_a_version_that_passed_goes_all_the_way_by_itself() -> None:
    state = in_canary()
    began = NOW + 30 * MINUTE
    assert advance(state, AUTOMATIC, seen(100), began + 9 * MINUTE) is state
    assert advance(state, AUTOMATIC, seen(99), began + 11 * MINUTE) is state
    state = advance(state, AUTOMATIC, seen(100), began + 10 * MINUTE)
    assert state.candidate is not None
    assert (state.candidate.percent, state.candidate.canary_since) == (50, began)
    assert advance(state, AUTOMATIC, seen(199), began + 30 * MINUTE) is state
    state = advance(state, AUTOMATIC, seen(200), began + 20 * MINUTE)
    assert (state.active, state.active_since, state.candidate) == (FIRST, began + 20 * MINUTE, None)
    assert [entry.stage for entry in state.history] == [
        Stage.ACTIVE,
        Stage.CANARY,
        Stage.CANARY,
        Stage.SHADOW,
        Stage.WAITING,
    ]
    assert state.history[0].reason == "not worse than the control at 50 %"
    assert state.history[1].reason.startswith("50 % of requests: ")


def test_a_shadow_that_made_no_decisions_does_not_end() -> None:
    state = advance(offered(), AUTOMATIC, seen(shadow=0), NOW)
    assert advance(state, AUTOMATIC, seen(shadow=SHADOW_DECISIONS - 1), NOW + 100 * MINUTE) is state


def test_stages_that_the_settings_leave_out_are_skipped() -> None:
    bare = RolloutSettings(shadow_minutes=0, canary_percents=())
    assert advance(offered(), bare, seen(shadow=0), NOW).active == FIRST
    assert advance(offered(), AUTOMATIC.model_copy(update={"shadow_minutes": 0}), seen(), NOW).candidate is not None


def test_a_version_that_did_not_pass_is_only_noted() -> None:
    state = offer(offered(), SECOND, passed=False, reason="loses 0.1 QoS", now=NOW)
    assert state.candidate is not None
    assert state.candidate.id == FIRST
    assert (state.history[0].stage, state.history[0].reason) == (Stage.REJECTED, "loses 0.1 QoS")
    assert offer(state, SECOND, passed=True, reason="", now=NOW) is state


def test_a_canary_that_is_worse_is_withdrawn_at_once_and_never_offered_again() -> None:
    state = in_canary()
    state = advance(state, AUTOMATIC, seen(400, canary_qos=0.2), NOW + 31 * MINUTE)
    assert (state.candidate, state.active) == (None, PACKAGED)
    assert state.history[0].stage is Stage.ROLLED_BACK
    assert "QoS is lower than the control's by" in state.history[0].reason
    assert state.stage_of("aaa") is Stage.ROLLED_BACK
    assert offered(FIRST, state) is state


def test_a_canary_that_is_worse_is_withdrawn_in_manual_mode_too() -> None:
    assert advance(in_canary(), MANUAL, seen(400, canary_qos=0.2), NOW).candidate is None


def test_a_canary_that_only_seems_worse_stays_where_it_is() -> None:
    state = in_canary()
    evidence = seen(100, canary_qos=0.68)
    assert evidence.comparison.worse_by(AUTOMATIC.margin) == ""
    assert state.candidate is not None
    assert advance(state, AUTOMATIC, evidence, NOW + 100 * MINUTE) is state
    assert waits_for(state.candidate, AUTOMATIC, evidence, NOW + 100 * MINUTE) == (
        "more requests at 5 %, because QoS seems lower than the control's"
    )


def test_manual_mode_waits_for_a_promotion_at_each_stage() -> None:
    state = offered()
    stages = []
    while state.candidate is not None:
        assert advance(state, MANUAL, seen(500), NOW + 1000 * MINUTE) is state
        state = promote(state, MANUAL, FIRST, seen(500), NOW, passed=True)
        stages.append((state.candidate.stage, state.candidate.percent) if state.candidate else state.active)
    assert stages == [(Stage.SHADOW, 0), (Stage.CANARY, 5), (Stage.CANARY, 50), FIRST]


def test_a_newer_version_takes_the_place_of_a_candidate_that_serves_nothing() -> None:
    state = offered(SECOND, advance(offered(), AUTOMATIC, seen(), NOW))
    assert state.candidate is not None
    assert (state.candidate.id, state.candidate.stage) == (SECOND, Stage.WAITING)
    assert [(entry.version, entry.stage) for entry in state.history[:2]] == [
        ("bbb", Stage.WAITING),
        ("aaa", Stage.RETIRED),
    ]


def test_a_newer_version_does_not_disturb_a_canary_and_can_be_promoted_afterwards() -> None:
    state = offered(SECOND, in_canary())
    assert state.candidate is not None
    assert state.candidate.id == FIRST
    assert state.history[0].reason.startswith("put off, because aaa is in canary")
    state = promote(roll_back(state, "not wanted", NOW), AUTOMATIC, SECOND, seen(), NOW, passed=True)
    assert state.candidate is not None
    assert (state.candidate.id, state.candidate.stage) == (SECOND, Stage.SHADOW)


def test_rolling_back_goes_from_version_to_version_down_to_the_packaged_policy() -> None:
    state = active(SECOND, active(FIRST))
    assert state.stage_of("aaa") is Stage.RETIRED
    state = roll_back(state, "slow", NOW)
    assert state.active == FIRST
    assert [(entry.version, entry.stage, entry.reason) for entry in state.history[:2]] == [
        ("bbb", Stage.ROLLED_BACK, "slow"),
        ("aaa", Stage.ACTIVE, "bbb is rolled back"),
    ]
    state = roll_back(state, "slow too", NOW)
    assert state.active == PACKAGED
    with pytest.raises(RolloutError, match="nothing to go back to"):
        roll_back(state, "again", NOW)


def test_rolling_back_withdraws_the_candidate_before_the_active_version() -> None:
    state = roll_back(in_canary(SECOND, active(FIRST)), "not wanted", NOW)
    assert (state.candidate, state.active) == (None, FIRST)


def test_a_version_goes_past_the_gate_only_by_force() -> None:
    with pytest.raises(RolloutError, match="did not pass the gate"):
        promote(RolloutState(), AUTOMATIC, FIRST, seen(), NOW, passed=False)
    state = promote(RolloutState(), AUTOMATIC, FIRST, seen(), NOW, passed=False, force=True, stage=Stage.CANARY)
    assert state.candidate is not None
    assert (state.candidate.percent, state.candidate.canary_since) == (5, NOW)
    assert state.history[0].reason == "5 % of requests: forced past the gate by hand"


@pytest.mark.parametrize(
    ("version", "force", "stage", "problem"),
    [
        (FIRST, False, None, "aaa is no candidate"),
        (PACKAGED, False, None, "the packaged policy is no candidate"),
        (SECOND, False, Stage.ACTIVE, "only a forced promotion names a stage"),
        (SECOND, True, Stage.RETIRED, "must be shadow, canary or active"),
        (SECOND, True, Stage.SHADOW, "bbb is in canary already"),
    ],
)
def test_a_promotion_that_makes_no_sense_is_refused(
    version: VersionName, force: bool, stage: Stage | None, problem: str
) -> None:
    state = in_canary(SECOND, active(FIRST))
    with pytest.raises(RolloutError, match=problem):
        promote(state, AUTOMATIC, version, seen(), NOW, passed=True, force=force, stage=stage)


def test_a_clock_that_goes_back_lets_the_stage_begin_anew() -> None:
    state = in_canary()
    back = NOW - 1e6
    state = advance(state, AUTOMATIC, seen(100), back)
    assert state.candidate is not None
    assert (state.candidate.since, state.candidate.canary_since, state.candidate.stage) == (back, back, Stage.CANARY)
    moved = advance(state, AUTOMATIC, seen(100), back + 10 * MINUTE).candidate
    assert moved is not None
    assert moved.percent == 50


def test_a_clock_that_jumps_ahead_promotes_nothing_without_requests() -> None:
    state = in_canary()
    assert advance(state, AUTOMATIC, seen(10), NOW + 1e9) is state


def test_percents_may_change_while_a_canary_runs() -> None:
    changed = AUTOMATIC.model_copy(update={"canary_percents": (1, 3, 80)})
    state = advance(in_canary(), changed, seen(100), NOW + 100 * MINUTE)
    assert state.candidate is not None
    assert state.candidate.percent == 80


def test_a_state_reads_back_from_its_json() -> None:
    state = in_canary(SECOND, active(FIRST))
    assert parse(RolloutState, state.model_dump(mode="json", by_alias=True), "state.json") == state
    assert RolloutState.model_validate_json(state.model_dump_json(by_alias=True)) == state


def test_what_it_waits_for_does_not_change_while_it_waits() -> None:
    candidate = in_canary().candidate
    assert candidate is not None
    said = {waits_for(candidate, AUTOMATIC, seen(count), NOW + 31 * MINUTE + count) for count in range(100)}
    assert said == {"100 requests at 5 %"}
    assert waits_for(candidate, AUTOMATIC, seen(100), NOW + 31 * MINUTE) == "10 minutes at 5 %"
    assert waits_for(candidate, MANUAL, seen(), NOW) == "a promotion, because rollout.mode is Manual"
