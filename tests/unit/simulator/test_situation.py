from pathlib import Path

import numpy as np

from pointsman_policy.documents import parse
from pointsman_policy.evaluation.emulation import emulate, run_outcomes
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.simulator.scenario import resolve_scenario
from pointsman_policy.simulator.scenario_document import ScenarioDocument
from pointsman_policy.simulator.situation import build_fleet, qos, run_situation, situation_from_scenario
from pointsman_policy.simulator.workload import build_workload

PACKAGE = Path(__file__).parents[3] / "policy" / "pointsman_policy" / "simulator"
DOCUMENT = {
    "name": "sample",
    "experts": [
        {"name": "a", "model": "gemma-2-2b", "gpu": "L4", "replicas": 2},
        {"name": "b", "model": "Llama-3.1-8B", "gpu": "A100-SXM-80G"},
    ],
    "requests": 500,
    "quality": {"scores": "data/scores.csv", "prompts": "data/prompts.csv"},
    "admission": {"mode": "ShedHopeless"},
}


def test_a_scenarios_situation_is_the_run_that_the_benchmark_makes() -> None:
    scenario = resolve_scenario(parse(ScenarioDocument, DOCUMENT, "test"), PACKAGE, "test")
    situation = situation_from_scenario(scenario, 0.9, 3)
    assert situation.may_drop
    assert len(situation) == 500
    picker = PICKERS["SloFilteredQuality"]
    run = run_situation(situation, picker, np.random.default_rng(1))
    workload = build_workload(scenario, 0.9, 3)
    same = emulate(scenario, build_fleet(scenario), workload, picker, np.random.default_rng(1))
    assert np.array_equal(run.expert, same.expert)
    assert np.array_equal(qos(situation, run), run_outcomes(workload, same).qos())
    assert 0 < qos(situation, run).mean() <= situation.quality.max()
