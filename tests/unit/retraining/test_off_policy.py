from dataclasses import replace

import numpy as np
import pytest
from tests.unit.twin.experience import make_experience, make_situation

from pointsman_policy.experience.dataset import Experience
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.retraining.contenders import Contender, of_rule
from pointsman_policy.retraining.off_policy import estimated_gain
from pointsman_policy.retraining.replay import replay
from pointsman_policy.simulator.situation import qos, run_situation
from pointsman_policy.twin.calibration import calibrate

_SITUATION = make_situation(count=2_500, rate=9.0, quality=(0.3, 0.3, 0.7))
RULE = of_rule(Calibration())


@pytest.fixture(scope="module")
def explored() -> Experience:
    return make_experience(_SITUATION, labelled_share=1.0, sampled_share=1.0, explored_share=0.5)


def _with(picker: str, calibration: Calibration = Calibration()) -> Contender:  # noqa: B008 - it is frozen
    return Contender(picker, PICKERS[picker], calibration)


def test_a_rule_agrees_with_itself_in_every_stored_state(explored: Experience) -> None:
    found = replay(explored, RULE, RULE)
    assert found.agreement == 1.0
    assert found.problem == ""
    assert len(found.answers) == 2_000
    assert all(answer.chance.sum() == pytest.approx(1.0) for answer in found.answers)


def test_unlike_rules_disagree_now_and_then(explored: Experience) -> None:
    assert 0.05 < replay(explored, _with("ShortestQueue"), RULE).agreement < 0.95


def test_a_candidate_decides_by_its_own_beliefs(explored: Experience) -> None:
    known = calibrate(explored)
    slow = known.experts["expert-2"].model_copy(update={"base_seconds": 0.2, "per_sequence_seconds": 0.01})
    avoiding = known.model_copy(update={"experts": {**known.experts, "expert-2": slow}})
    usual, other = (replay(explored, _with("ImpactGreedy", one), RULE) for one in (known, avoiding))
    assert np.mean([answer.chance[2] for answer in usual.answers]) > 0.5
    assert np.mean([answer.chance[2] for answer in other.answers]) == 0.0


def test_what_was_explored_tells_what_another_rule_would_have_earned(explored: Experience) -> None:
    """The truth is nearly known here: what both rules earn in the situation, though in states of their own making."""

    def mean_qos(picker: str) -> float:
        run = run_situation(_SITUATION, PICKERS[picker], np.random.default_rng(0))
        return float(qos(_SITUATION, run).mean())

    values = {}
    for name in ("ImpactGreedy", "ShortestQueue"):
        gain = estimated_gain(explored, replay(explored, _with(name), RULE).answers)
        assert gain.outcomes > 1_500
        values[name] = gain
    truth = mean_qos("ImpactGreedy") - mean_qos("ShortestQueue")
    assert values["ImpactGreedy"].mean - values["ShortestQueue"].mean == pytest.approx(truth, abs=0.12)
    assert values["ImpactGreedy"].low > 0.0
    assert values["ShortestQueue"].high < values["ImpactGreedy"].low


def test_without_exploration_outcomes_tell_nothing_of_other_choices() -> None:
    experience = make_experience(make_situation(count=300), sampled_share=1.0)
    gain = estimated_gain(experience, replay(experience, RULE, RULE).answers)
    assert gain.outcomes == 0
    assert np.isnan(gain.high)


def test_states_of_other_programs_and_damaged_ones_are_left_out(explored: Experience) -> None:
    states = explored["state"][:50].copy()
    states[0] = b"nonsense"
    states[1] = states[1][:-3]
    states[2] = None
    few = explored.rows(np.arange(50))
    few = replace(few, columns={**few.columns, "state": states})
    assert len(replay(few, RULE, RULE).answers) == 47


def test_there_may_be_no_states_at_all() -> None:
    experience = make_experience(make_situation(count=50), sampled_share=0.0)
    found = replay(experience, RULE, RULE)
    assert found.answers == ()
    assert found.agreement == 1.0
