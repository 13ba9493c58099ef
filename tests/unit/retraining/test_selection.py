from dataclasses import replace

import pytest
from tests.unit.twin.experience import make_experience, make_situation

from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.retraining.contenders import RULE, packaged_policy
from pointsman_policy.retraining.selection import Proposal, best, proposals
from pointsman_policy.simulator.situation import Situation
from pointsman_policy.twin.calibration import calibrate
from pointsman_policy.twin.twin import Twin, make_twin


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return calibrate(make_experience(_situation()))


@pytest.fixture(scope="module")
def twin(calibration: Calibration) -> Twin:
    return replace(make_twin(make_experience(_situation()), calibration, calibration, seed=0), requests=400)


def _situation() -> Situation:
    return make_situation(count=1_500, rate=16.0, pace=(1.0, 1.6, 1.0), quality=(0.45, 0.45, 0.35))


def test_of_policies_that_are_as_good_the_rule_is_taken(twin: Twin, calibration: Calibration) -> None:
    rule = packaged_policy(RULE)
    twin_of_it = replace(rule, training={"by": "luck"}, digest="f" * 64)
    choices = (Proposal("lucky", twin_of_it, calibration), Proposal("the rule", rule, calibration))
    assert best(choices, twin).name == "the rule"


def test_a_policy_that_is_surely_better_is_taken(twin: Twin, calibration: Calibration) -> None:
    """A rule that believes everything declared, where that is wrong, against one that knows."""
    rule = packaged_policy(RULE)
    knows = replace(rule, training={"by": "knowledge"}, digest="f" * 64)
    slow = {
        name: one.model_copy(update={"base_seconds": 8 * one.base_seconds})
        for name, one in calibration.experts.items()
        if name == min(calibration.experts)
    }
    wrong = calibration.model_copy(update={"experts": {**calibration.experts, **slow}})
    choices = (Proposal("the rule", rule, wrong), Proposal("better", knows, calibration))
    assert best(choices, twin).name == "better"


def test_each_policy_is_proposed_once(calibration: Calibration) -> None:
    rule = packaged_policy(RULE)
    found = proposals(rule, {"rule": rule}, calibration)
    assert [one.name for one in found] == ["the active policy", "the packaged HanActor"]
