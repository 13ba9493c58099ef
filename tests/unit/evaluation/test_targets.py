import math

import pytest
from tests.unit.evaluation.made_up_suite import Quality, made_up, steady

from pointsman_policy.evaluation.contestants import Contestant, line_up
from pointsman_policy.evaluation.policies import Workload
from pointsman_policy.evaluation.standings import Standings
from pointsman_policy.evaluation.targets import Target, check_targets

FIRST = line_up()[0].name
NAMES = ["poisson", "poisson, never drop", "chat", "fresh", "stale 5 s", "belief x0.7"]


def check(found: Standings) -> dict[str, Target]:
    return {target.name: target for target in check_targets(found) if target.subject == FIRST}


def levels(**changes: float) -> Quality:
    """Return the quality of a first subject that meets every target, with some levels changed."""
    names = {
        FIRST: 0.56,
        "ImpactGreedy": 0.55 if FIRST != "ImpactGreedy" else 0.56,
        "ImpactGreedy, constant": 0.54,
        "SloFilteredQuality": 0.5,
        f"{FIRST}, true lengths": 0.57,
        f"{FIRST}, no predictor": 0.56,
    }
    return steady({**names, **changes})


def test_a_policy_that_meets_every_target_passes() -> None:
    targets = check(made_up(NAMES, levels()))
    assert {name: target.passed for name, target in targets.items() if not target.passed} == {}
    assert len(targets) >= 11
    assert targets["may drop: over the suite"].figure == pytest.approx(0.562 / 0.502)
    assert "SloFilteredQuality" in targets["may drop: over the suite"].detail


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"StaticPrior": 0.52}, {"may drop: over the suite", "never drop: over loads up to 0.9"}),
        (
            {"PowerOfTwo": 0.54},
            {"may drop: over the suite", "may drop: worst scenario", "never drop: over loads up to 0.9"},
        ),
        (
            {"WeightedScore": 0.575},
            {
                "may drop: over the suite",
                "may drop: worst scenario",
                "may drop: worst cell",
                "never drop: over loads up to 0.9",
            },
        ),
        ({f"{FIRST}, true lengths": 0.595}, {"true lengths: worst scenario"}),
        (
            {f"{FIRST}, true lengths": 0.62},
            {"true lengths: worst scenario", "true lengths: worst with long answers"},
        ),
        ({"ImpactGreedy, constant": 0.56}, {"over constant parameters: lower bound"}),
        ({f"{FIRST}, no predictor": 0.57}, {"predictor's worth over the suite"}),
    ],
)
def test_each_target_is_missed_by_its_own_shortcoming(changes: dict[str, float], missed: set[str]) -> None:
    targets = check(made_up(NAMES, levels(**changes)))
    assert {name for name, target in targets.items() if not target.passed} == missed


def test_one_bad_cell_is_found_and_named() -> None:
    def quality(contestant: Contestant, workload: Workload) -> float:
        bad = workload.scenario == "poisson" and workload.load == 1.3 and contestant.name == "LeastKv"
        peer = workload.scenario == "chat" and workload.load == 0.9 and contestant.name == "QualityFirst"
        return 0.9 if bad else 0.58 if peer else levels()(contestant, workload)

    targets = check(made_up(NAMES, quality))
    cell = targets["may drop: worst cell"]
    assert not cell.passed
    assert cell.detail.endswith("chat, load 0.9")
    assert "QualityFirst" in cell.detail


@pytest.mark.parametrize(("scenario", "share", "passed"), [("stale 5 s", 0.96, True), ("stale 5 s", 0.94, False)])
def test_stale_state_may_cost_little(scenario: str, share: float, passed: bool) -> None:
    def quality(contestant: Contestant, workload: Workload) -> float:
        return levels()(contestant, workload) * (share if workload.scenario == scenario else 1.0)

    kept = check(made_up(NAMES, quality))[f"{scenario}: kept"]
    assert kept.figure == pytest.approx(share)
    assert kept.passed == passed


@pytest.mark.parametrize(("share", "passed"), [(0.9, True), (0.8, False)])
def test_optimistic_beliefs_may_cost_more(share: float, passed: bool) -> None:
    def quality(contestant: Contestant, workload: Workload) -> float:
        return levels()(contestant, workload) * (share if workload.scenario == "belief x0.7" else 1.0)

    assert check(made_up(NAMES, quality))["belief x0.7: kept"].passed == passed


def test_what_cannot_be_told_is_no_pass() -> None:
    targets = check(made_up(["poisson"], lambda contestant, workload: 0.0))
    assert math.isnan(targets["may drop: over the suite"].figure)
    assert not targets["may drop: over the suite"].passed


def test_targets_without_their_scenarios_are_left_out() -> None:
    targets = check(made_up(["poisson, never drop"], levels()))
    assert "never drop: over loads up to 0.9" in targets
    assert not [name for name in targets if name.startswith("may drop") or name.endswith("kept")]
