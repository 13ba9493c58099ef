"""What holds of a rollout whatever happens, in any order."""

from contextlib import suppress

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pointsman_policy.rollout.comparison import Comparison
from pointsman_policy.rollout.stages import Evidence, advance, offer, promote, roll_back
from pointsman_policy.rollout.state import PACKAGED, Candidate, RolloutError, RolloutSettings, RolloutState, VersionName

VERSIONS = [VersionName(version=name, digest=name * 64) for name in "abcd"]
SETTINGS = st.builds(
    RolloutSettings,
    manual=st.booleans(),
    shadow_minutes=st.integers(0, 2),
    canary_percents=st.sets(st.integers(1, 100), max_size=3).map(lambda percents: tuple(sorted(percents))),
    canary_minutes=st.integers(0, 2),
    canary_requests=st.integers(1, 20),
)


class Rollout(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.state = RolloutState()
        self.settings = RolloutSettings()
        self.now = 1e9
        self.comparison = Comparison()
        self.proven = {""}
        self.by_hand: set[str] = set()

    def go_to(self, state: RolloutState) -> None:
        before, after = self.state.candidate, state.candidate
        if after is not None and self.same_canary(before, after):
            assert before is not None
            assert after.percent >= before.percent
        else:
            self.comparison = Comparison()
        self.state = state

    @staticmethod
    def same_canary(before: Candidate | None, after: Candidate) -> bool:
        return before is not None and before.id == after.id and before.percent > 0

    def evidence(self) -> Evidence:
        return Evidence(self.comparison, shadow_decisions=100)

    @rule(settings=SETTINGS)
    def configured(self, settings: RolloutSettings) -> None:
        self.settings = settings

    @rule(version=st.sampled_from(VERSIONS), passed=st.booleans())
    def offered(self, version: VersionName, passed: bool) -> None:
        before = self.state
        self.go_to(offer(before, version, passed=passed, reason="gate", now=self.now))
        if version.version in before.withdrawn:
            assert self.state is before
        elif passed:
            self.proven.add(version.version)

    @rule(seconds=st.floats(-1e4, 1e4))
    def time_goes(self, seconds: float) -> None:
        self.now += seconds
        self.go_to(advance(self.state, self.settings, self.evidence(), self.now))

    @precondition(lambda self: self.state.candidate is not None and self.state.candidate.percent > 0)
    @rule(count=st.integers(1, 60), qos=st.sampled_from([0.0, 0.7, 1.0]))
    def requests_end(self, count: int, qos: float) -> None:
        for _ in range(count):
            self.comparison.observe("control", 0.7, 1.0)
            self.comparison.observe("canary", qos, 1.0)

    @rule(version=st.sampled_from(VERSIONS), force=st.booleans())
    def promoted(self, version: VersionName, force: bool) -> None:
        passed = version.version in self.proven
        with suppress(RolloutError):
            self.go_to(
                promote(self.state, self.settings, version, self.evidence(), self.now, passed=passed, force=force)
            )
            self.by_hand.add(version.version)

    @rule()
    def rolled_back(self) -> None:
        before = self.state
        if before.candidate is None and before.active == PACKAGED:
            return
        self.go_to(roll_back(before, "by hand", self.now))
        gone = before.candidate.id if before.candidate is not None else before.active
        assert gone.version in self.state.withdrawn
        assert self.state.candidate is None

    @invariant()
    def nothing_serves_that_was_neither_proven_nor_forced(self) -> None:
        assert self.state.active.version in self.proven | self.by_hand

    @invariant()
    def nothing_withdrawn_comes_back_by_itself(self) -> None:
        candidate = self.state.candidate
        assert self.state.active.version not in self.state.withdrawn
        assert candidate is None or candidate.id.version not in set(self.state.withdrawn) - self.by_hand

    @invariant()
    def the_state_is_a_sound_document(self) -> None:
        assert len(self.state.history) <= 10
        assert RolloutState.model_validate_json(self.state.model_dump_json(by_alias=True)) == self.state

    @invariant()
    def a_candidate_is_not_active_too(self) -> None:
        assert self.state.candidate is None or self.state.candidate.id != self.state.active

    @invariant()
    def the_way_back_ends_at_the_packaged_policy(self) -> None:
        state, steps = self.state, 0
        while state.candidate is not None or state.active != PACKAGED:
            state = roll_back(state, "test", self.now)
            steps += 1
            assert steps <= len(VERSIONS) + 2


TestRollout = Rollout.TestCase
TestRollout.settings = hypothesis_settings(max_examples=40, stateful_step_count=30, deadline=None)
