import numpy as np
import pytest
from tests.unit.evaluation.made_up_suite import made_up, plan, run_of, steady

from pointsman_policy.evaluation.contestants import Contestant
from pointsman_policy.evaluation.policies import SuiteRun, Workload
from pointsman_policy.evaluation.standings import standings
from pointsman_policy.evaluation.targets import may_drop, served


def test_ratios_are_of_means_over_loads_not_means_of_percentages() -> None:
    def quality(contestant: Contestant, workload: Workload) -> float:
        if contestant.name == "ImpactGreedy":
            return 0.5
        return 0.49 if workload.load < 1 else 0.001

    found = made_up(["poisson"], quality)
    ratio = found.ratio("ImpactGreedy", "PowerOfTwo")
    assert ratio.value == pytest.approx(1.5 / (2 * 0.49 + 0.001))
    assert ratio.value < 2


def test_an_equal_difference_in_every_seed_leaves_no_doubt() -> None:
    found = made_up(["poisson"], steady({"ImpactGreedy": 0.6}))
    ratio = found.ratio("ImpactGreedy", "StaticPrior")
    assert (ratio.low, ratio.high) == pytest.approx((ratio.value, ratio.value))
    paired = found.difference("ImpactGreedy", "StaticPrior")
    assert paired is not None
    assert paired.interval.mean == pytest.approx(0.3)


def test_the_best_peer_is_chosen_for_each_place_anew() -> None:
    def quality(contestant: Contestant, workload: Workload) -> float:
        favoured = "StaticPrior" if workload.load == 0.5 else "WeightedScore"
        return 0.5 if contestant.name == favoured else 0.4

    found = made_up(["poisson"], quality)
    peers = [peer.name for peer in found.contestants("peer")]
    others = {title: found.against_best("ImpactGreedy", peers, where).other for title, where in found.by_cell().items()}
    assert others == {
        "poisson, load 0.5": "StaticPrior",
        "poisson, load 0.9": "WeightedScore",
        "poisson, load 1.3": "WeightedScore",
    }
    assert found.against_best("ImpactGreedy", peers).other == "WeightedScore"


def test_a_rule_without_any_qos_gives_no_ratio() -> None:
    found = made_up(["poisson"], lambda contestant, workload: 0.5 if contestant.role == "subject" else 0.0)
    assert np.isnan(found.ratio("ImpactGreedy", "QualityFirst").value)


def test_cells_are_chosen_by_admission_and_load() -> None:
    found = made_up(["poisson", "poisson, never drop"], steady({}))
    assert {workload.scenario for workload in found.workloads(may_drop)} == {"poisson"}
    assert {(workload.scenario, workload.load) for workload in found.workloads(served)} == {
        ("poisson, never drop", 0.5),
        ("poisson, never drop", 0.9),
    }


def test_what_is_kept_is_measured_against_the_reference_workload_by_workload() -> None:
    found = made_up(["fresh", "stale 5 s"], lambda contestant, workload: 0.6 if workload.scenario == "fresh" else 0.57)
    scenario = next(one for one in found.plan.scenarios if one.name == "stale 5 s")
    kept = found.retention("ImpactGreedy", scenario)
    assert kept.value == pytest.approx(0.95)
    assert kept.other == "fresh"


def test_workloads_that_not_all_have_finished_are_left_out() -> None:
    chosen = plan(["poisson"], seeds=(1,))
    first, second, _ = chosen.workloads()
    runs = [SuiteRun(first, run_of(one.name, first, 0.5)) for one in chosen.contestants]
    runs.append(SuiteRun(second, run_of("ImpactGreedy", second, 0.5)))
    assert standings(chosen, runs).workloads() == [first]
