import itertools

import pytest

from pointsman_operator.demo.lanes import Lane, build_lanes
from pointsman_operator.demo.workload import DemoWorkload
from pointsman_policy.simulator.answers import split_prompts


@pytest.fixture
def lanes(workload: DemoWorkload) -> tuple[Lane, ...]:
    ports = itertools.count(1000)
    return build_lanes(workload, ("RoundRobin", "SloFilteredQuality"), lambda host: f"{host}:{next(ports)}")


def test_each_rule_has_names_and_addresses_of_its_own(lanes: tuple[Lane, ...]) -> None:
    assert [lane.model_name for lane in lanes] == ["edge-round-robin", "edge-slo-filtered-quality"]
    experts = [expert for lane in lanes for expert in lane.experts]
    assert len({expert.name for expert in experts}) == len({expert.endpoint for expert in experts}) == 6
    assert lanes[0].experts[0].name == "small.round-robin"
    assert lanes[1].experts[0].labels == {"pointsman.io/rule": "slo-filtered-quality"}


def test_fleets_are_twins(lanes: tuple[Lane, ...]) -> None:
    for one, other in zip(lanes[0].experts, lanes[1].experts, strict=True):
        own = {"name": other.name, "endpoint": other.endpoint, "labels": other.labels}
        assert one.model_copy(update=own) == other


def test_beliefs_come_from_prompts_that_are_not_sent(workload: DemoWorkload, lanes: tuple[Lane, ...]) -> None:
    table = workload.scenario.table
    assert table is not None
    fit, evaluation = split_prompts(workload.scenario)
    assert set(workload.requests.prompt_index.tolist()) <= set(evaluation.tolist())
    expert = lanes[0].experts[0]
    column = table.models.index("gemma-2-2b")
    assert expert.output_tokens_prior == round(float(table.out_tokens[fit, column].mean()))
    assert expert.quality_prior_percent == 25


def test_true_and_believed_speed_are_told_apart(lanes: tuple[Lane, ...], workload: DemoWorkload) -> None:
    for expert, scenario_expert in zip(lanes[0].experts, workload.scenario.experts, strict=True):
        believed, true = expert.iteration_time, expert.simulation.iteration_time
        assert believed is not None
        assert true is not None
        assert believed.base_milliseconds == pytest.approx(scenario_expert.believed.base_seconds * 1e3)
        assert true.base_milliseconds == pytest.approx(scenario_expert.coefficients.base_seconds * 1e3)
        assert (expert.kv_capacity_tokens, expert.maximum_running) == (scenario_expert.kv_capacity_tokens, 4)
