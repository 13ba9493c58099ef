import dataclasses

import numpy as np
import pytest

from pointsman_policy.evaluation.contestants import CONSTANT, PEERS, Contestant, line_up, situation_for
from pointsman_policy.evaluation.materials import packaged
from pointsman_policy.evaluation.preparation import prepare
from pointsman_policy.evaluation.suite import suite
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.simulator.scenario import Scenario

FIRST = line_up()[0].name


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    materials = packaged()
    (chosen,) = (one for one in suite(materials, 200) if one.name == "belief x0.7")
    return prepare([chosen], materials.folder)[chosen.name]


def who(name: str) -> Contestant:
    return next(one for one in line_up() if one.name == name)


def test_every_picker_runs_once_as_itself() -> None:
    plain = [one.name for one in line_up() if one.knowledge == "predicted" and one.name in PICKERS]
    assert sorted(plain) == sorted(PICKERS)
    assert len({one.name for one in line_up()}) == len(line_up())


def test_peers_subjects_and_references_have_their_roles() -> None:
    roles = {one.name: one.role for one in line_up()}
    assert {name for name, role in roles.items() if role == "peer"} == set(PEERS)
    assert roles[FIRST] == roles["ImpactGreedy"] == "subject"
    assert roles[CONSTANT] == "constant"
    assert [one.knowledge for one in line_up() if one.role == "reference"] == ["true lengths", "clairvoyant"]


def test_tuned_rules_run_beside_the_defaults() -> None:
    contestants = {one.name: one for one in line_up({"StaticPrior": (0.8,)})}
    assert contestants["StaticPrior"].picker.parameters == PICKERS["StaticPrior"].parameters
    assert contestants["StaticPrior (tuned)"].picker.parameters == (0.8,)
    assert contestants["StaticPrior (tuned)"].of == "StaticPrior"


def test_constant_parameters_are_the_same_at_every_load_and_can_be_tuned() -> None:
    parameters = PICKERS["ImpactGreedy"].parameters
    assert len(who(CONSTANT).picker.parameters) < len(parameters)
    tuned = {one.name: one for one in line_up({CONSTANT: parameters})}
    assert tuned[CONSTANT].picker.parameters == parameters
    assert f"{CONSTANT} (tuned)" not in tuned


def test_what_happens_is_the_same_whatever_a_contestant_knows(scenario: Scenario) -> None:
    situations = [situation_for(one, scenario, 0.9, 1) for one in line_up()]
    for situation in situations[1:]:
        np.testing.assert_array_equal(situation.requests.arrival_at, situations[0].requests.arrival_at)
        np.testing.assert_array_equal(situation.requests.output_tokens, situations[0].requests.output_tokens)
        np.testing.assert_array_equal(situation.quality, situations[0].quality)
        np.testing.assert_array_equal(situation.fleet.coefficients, situations[0].fleet.coefficients)


def test_true_lengths_are_all_that_is_added(scenario: Scenario) -> None:
    plain, told = (situation_for(who(name), scenario, 0.9, 1) for name in (FIRST, f"{FIRST}, true lengths"))
    np.testing.assert_array_equal(told.requests.predicted_output_tokens, told.requests.output_tokens)
    assert not np.array_equal(plain.requests.predicted_output_tokens, plain.requests.output_tokens)
    np.testing.assert_array_equal(told.requests.predicted_quality, plain.requests.predicted_quality)
    np.testing.assert_array_equal(told.fleet.believed_coefficients, plain.fleet.believed_coefficients)
    assert told.visibility == plain.visibility


def test_the_clairvoyant_knows_everything(scenario: Scenario) -> None:
    told = situation_for(who(f"{FIRST}, clairvoyant"), scenario, 0.9, 1)
    np.testing.assert_array_equal(told.requests.predicted_output_tokens, told.requests.output_tokens)
    np.testing.assert_allclose(told.requests.predicted_quality, told.quality)
    np.testing.assert_array_equal(told.fleet.believed_coefficients, told.fleet.coefficients)
    assert told.visibility.telemetry_interval == 0


def test_without_a_predictor_every_request_looks_alike(scenario: Scenario) -> None:
    told = situation_for(who(f"{FIRST}, no predictor"), scenario, 0.9, 1)
    assert (told.requests.predicted_quality == told.requests.predicted_quality[:1]).all()
    assert (told.requests.predicted_output_tokens == told.requests.predicted_output_tokens[:1]).all()


def test_without_dead_reckoning_only_that_is_missing(scenario: Scenario) -> None:
    plain, told = (situation_for(who(name), scenario, 0.9, 1) for name in (FIRST, f"{FIRST}, no dead reckoning"))
    assert plain.visibility.dead_reckoning
    assert not told.visibility.dead_reckoning
    assert told.visibility.telemetry_interval == plain.visibility.telemetry_interval


def test_a_trained_policy_takes_its_subjects_place_or_runs_as_an_ablation() -> None:
    other = dataclasses.replace(PICKERS["ImpactGreedy"], version="other")
    contestants = {one.name: one for one in line_up(trained={"ImpactGreedy": other, "without graph": other})}
    assert contestants["ImpactGreedy"].picker.version == "other"
    assert contestants[CONSTANT].picker.version == "other"
    assert contestants["without graph"].role == "ablation"
    assert contestants["without graph"].of == FIRST
