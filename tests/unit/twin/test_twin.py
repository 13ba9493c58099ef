import pickle  # as multiprocessing does
from dataclasses import replace

import numpy as np
import pytest
from tests.unit.twin.experience import COEFFICIENTS, make_experience, make_situation

from pointsman_policy.experience.dataset import Experience
from pointsman_policy.learning.sources import Source
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.simulator.situation import qos, run_situation
from pointsman_policy.twin.calibration import calibrate
from pointsman_policy.twin.twin import Twin, make_twin

NOTHING = Calibration()


@pytest.fixture(scope="module")
def experience() -> Experience:
    return make_experience(make_situation(pace=(1.0, 1.0, 1.5), quality=(0.45, 0.45, 0.35)))


@pytest.fixture(scope="module")
def twin(experience: Experience) -> Twin:
    return make_twin(experience, calibrate(experience), NOTHING, seed=1)


def test_it_is_a_source_of_situations_that_repeat(twin: Twin) -> None:
    source: Source = twin
    first, again = source.situation(3), source.situation(3)
    assert np.array_equal(first.requests.arrival_at, again.requests.arrival_at)
    assert np.array_equal(first.quality, again.quality)
    assert not np.array_equal(first.quality, source.situation(4).quality)
    sent = pickle.loads(pickle.dumps(twin))  # noqa: S301
    assert np.array_equal(sent.situation(3).quality, first.quality)


def test_experts_are_as_calibrated_and_believed_as_told(experience: Experience, twin: Twin) -> None:
    fleet = twin.situation(0).fleet
    assert fleet.believed_coefficients == pytest.approx(COEFFICIENTS)
    assert fleet.coefficients[2, 0] == pytest.approx(1.5 * COEFFICIENTS[2, 0], rel=0.05)
    knowing = twin.believing(calibrate(experience)).situation(0)
    assert np.array_equal(knowing.fleet.believed_coefficients, fleet.coefficients)


def test_other_beliefs_meet_the_same_requests_and_answers(experience: Experience, twin: Twin) -> None:
    ignorant, knowing = twin.situation(5), twin.believing(calibrate(experience)).situation(5)
    assert np.array_equal(ignorant.quality, knowing.quality)
    assert np.array_equal(ignorant.requests.output_tokens, knowing.requests.output_tokens)
    assert ignorant.requests.predicted_quality[:, 2].mean() == pytest.approx(0.65, abs=0.01)
    assert knowing.requests.predicted_quality[:, 2].mean() == pytest.approx(0.35, abs=0.05)


def test_answers_are_like_those_observed(experience: Experience, twin: Twin) -> None:
    situation = twin.situation(0)
    assert situation.quality.mean(axis=0) == pytest.approx([0.45, 0.45, 0.35], abs=0.05)
    assert np.array_equal(situation.quality[:, 0], situation.quality[:, 1])  # replicas
    observed = np.nanmean(experience["output_tokens"])
    assert situation.requests.output_tokens.mean() == pytest.approx(observed, rel=0.25)
    assert set(situation.requests.prompt_tokens) <= set(experience["prompt_tokens"])


def test_loads_are_shares_of_what_the_fleet_carries(twin: Twin) -> None:
    picker = PICKERS["ShortestQueue"]
    reached = []
    for load in (0.3, 3.0):
        situation = replace(twin, loads=(load, load)).situation(0)
        reached.append(float(qos(situation, run_situation(situation, picker, np.random.default_rng(0))).mean()))
    assert reached[0] > 1.5 * reached[1]
    assert 0.1 < twin.observed_load < 2.0


def test_bursts_stay_bursts() -> None:
    situation = make_situation()
    gaps = np.where(np.arange(1_500) % 50 == 0, 4.0, 0.005)
    bursty = situation.requests._replace(arrival_at=np.cumsum(gaps))
    experience = make_experience(replace(situation, requests=bursty))
    twin = make_twin(experience, NOTHING, NOTHING, seed=0)
    drawn = np.diff(twin.situation(0).requests.arrival_at)
    assert drawn.std() > 3.0 * drawn.mean()


def test_who_may_be_shed_is_as_observed_unless_told(twin: Twin) -> None:
    assert twin.situation(0).admission == "Never"
    assert twin.admitting(["ShedHopeless"]).situation(0).admission == "ShedHopeless"


def test_a_model_never_seen_answers_as_declared(experience: Experience) -> None:
    small = experience.rows(experience.text("model") != "large-9b")
    situation = make_twin(small, NOTHING, NOTHING, seed=0).situation(0)
    assert situation.quality[:, 2] == pytest.approx(0.65)
    assert situation.requests.output_tokens[:, 2] == pytest.approx(120)


def test_there_is_no_twin_without_outcomes(experience: Experience) -> None:
    with pytest.raises(ValueError, match="without any request"):
        make_twin(experience.rows(np.zeros(len(experience), np.bool_)), NOTHING, NOTHING, seed=0)
