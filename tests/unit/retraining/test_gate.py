from dataclasses import replace

import numpy as np
import pytest
from tests.unit.twin.experience import make_experience, make_situation

from pointsman_policy.experience.dataset import Experience
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.pickers.trained import as_picker
from pointsman_policy.registry.calibration import Calibration, ExpertCalibration
from pointsman_policy.registry.version import GateReport
from pointsman_policy.retraining.contenders import Contender, of_packaged, of_rule, packaged_policy
from pointsman_policy.retraining.evidence import Evidence, gather, split, split_point
from pointsman_policy.retraining.gate import judge
from pointsman_policy.twin.calibration import calibrate

_COEFFICIENTS = ("base_seconds", "per_sequence_seconds", "per_context_token_seconds", "per_prefill_token_seconds")


@pytest.fixture(scope="module")
def experience() -> Experience:
    """One expert is 1.6 times slower than declared, and the large model is worse than the small one."""
    situation = make_situation(count=3_000, rate=16.0, pace=(1.0, 1.6, 1.0), quality=(0.45, 0.45, 0.35))
    return make_experience(situation)


@pytest.fixture(scope="module")
def evidence(experience: Experience) -> Evidence:
    found = gather(experience, split_point(experience), seed=1)
    return replace(found, twin=replace(found.twin, requests=600), seeds=range(4))


@pytest.fixture(scope="module")
def calibration(experience: Experience) -> Calibration:
    return calibrate(split(experience, split_point(experience))[0])


def _judged(candidate: Contender, evidence: Evidence) -> GateReport:
    return judge(candidate, of_packaged("ImpactGreedy"), evidence)


def _candidate(calibration: Calibration) -> Contender:
    return replace(of_rule(calibration), name="candidate")


def _slower(known: ExpertCalibration, factor: float) -> ExpertCalibration:
    return known.model_copy(update={name: factor * getattr(known, name) for name in _COEFFICIENTS})


def test_a_candidate_that_knows_better_passes(evidence: Evidence, calibration: Calibration) -> None:
    report = _judged(_candidate(calibration), evidence)
    assert report.passed, report.summary
    assert report.gain_lower_bound > 0.0
    assert report.candidate_qos > report.active_qos + 0.01
    assert len(report.scenarios) == 8
    assert 0.0 < report.replay_agreement < 1.0
    assert "better than the active version" in report.summary


def test_what_serves_already_is_no_better_than_itself(evidence: Evidence) -> None:
    report = _judged(of_packaged("ImpactGreedy"), evidence)
    assert not report.passed
    assert "not surely better than the active version" in report.summary
    assert report.replay_agreement == 1.0


def test_a_candidate_from_outcomes_with_wrong_times_is_refused(experience: Experience, evidence: Evidence) -> None:
    training = split(experience, split_point(experience))[0]
    wrong = {name: training[name].copy() for name in ("duration_seconds", "ttft_seconds")}
    half = np.isin(training.text("expert"), ["expert-0", "expert-2"])
    for values in wrong.values():
        values[half] *= 5.0
    poisoned = replace(training, columns={**training.columns, **wrong})
    report = _judged(_candidate(calibrate(poisoned)), evidence)
    assert not report.passed
    assert "latency of expert-0" in report.summary
    assert "latency of expert-2" in report.summary
    assert "latency of expert-1" not in report.summary


def test_a_candidate_from_inverted_labels_is_refused(experience: Experience, evidence: Evidence) -> None:
    training = split(experience, split_point(experience))[0]
    poisoned = replace(training, columns={**training.columns, "quality": 1.0 - training["quality"]})
    report = _judged(_candidate(calibrate(poisoned)), evidence)
    assert not report.passed
    assert "quality of small-2b: said to be 0.55" in report.summary


def test_the_calibrations_of_unlike_experts_in_each_others_place_are_refused(
    evidence: Evidence, calibration: Calibration
) -> None:
    known = calibration.experts
    swapped = {**known, "expert-0": known["expert-2"], "expert-2": known["expert-0"]}
    report = _judged(_candidate(calibration.model_copy(update={"experts": swapped})), evidence)
    assert not report.passed
    assert "latency of expert-2" in report.summary


def test_beliefs_far_from_what_is_declared_are_refused(evidence: Evidence, calibration: Calibration) -> None:
    known = calibration.experts
    report = _judged(
        _candidate(calibration.model_copy(update={"experts": {**known, "expert-0": _slower(known["expert-0"], 12.0)}})),
        evidence,
    )
    assert not report.passed
    assert "times as long as declared" in report.summary


def test_a_network_that_takes_late_for_in_time_is_refused(evidence: Evidence, calibration: Calibration) -> None:
    good = packaged_policy("HanActor")
    turned = {
        name: -10.0 * values if name.startswith("scorer.last") else values for name, values in good.weights.items()
    }
    assert any((turned[name] != good.weights[name]).any() for name in turned)
    report = _judged(Contender("candidate", as_picker(replace(good, weights=turned)), calibration), evidence)
    assert not report.passed
    assert "worse than ImpactGreedy with the same beliefs" in report.summary


def test_a_candidate_that_breaks_down_in_a_stored_state_is_refused(
    evidence: Evidence, calibration: Calibration
) -> None:
    rule = PICKERS["ImpactGreedy"]
    broken = replace(rule, parameters=tuple(np.nan for _ in rule.parameters))
    report = _judged(Contender("candidate", broken, calibration), evidence)
    assert not report.passed
    assert "cannot decide in a stored state" in report.summary


def test_the_same_evidence_gives_the_same_verdict(evidence: Evidence, calibration: Calibration) -> None:
    assert _judged(_candidate(calibration), evidence) == _judged(_candidate(calibration), evidence)
