from pathlib import Path
from typing import get_args

import pytest

from pointsman_policy.errors import DocumentError
from pointsman_policy.evaluation.materials import measured, packaged
from pointsman_policy.evaluation.preparation import prepare
from pointsman_policy.evaluation.suite import LOADS, SEEDS, SERVED_LOADS, Family, suite
from pointsman_policy.simulator.scenario_document import ScenarioDocument
from pointsman_policy.simulator.workload import build_workload


def test_the_suite_covers_what_it_promises() -> None:
    scenarios = suite(packaged())
    assert len({one.name for one in scenarios}) == len(scenarios)
    assert {one.family for one in scenarios} == set(get_args(Family))
    kinds = {change.kind for one in scenarios for change in one.document.changes}
    assert kinds == {"lost", "added", "pace"}
    documents = {one.name: one.document for one in scenarios}
    assert all(document.requests >= 6_000 for document in documents.values())
    assert {len_experts(document) for document in documents.values()} >= {3, 6, 12}
    assert {document.arrivals.kind for document in documents.values()} == {"poisson", "bursty", "diurnal", "trace"}
    assert {document.belief_scale_percent for document in documents.values()} == {70, 100, 130}
    delays = {document.telemetry.delay_milliseconds for document in documents.values()}
    assert {0, 2_500} <= delays
    assert any(document.objective_classes for document in documents.values())
    assert len(SEEDS) >= 5


def len_experts(document: ScenarioDocument) -> int:
    return sum(expert.replicas for expert in document.experts)


def test_scenarios_that_serve_everything_are_twins_of_those_that_may_drop() -> None:
    scenarios = {one.name: one for one in suite(packaged())}
    twins = [one for one in scenarios.values() if one.name.endswith(", never drop")]
    assert len(twins) >= 8
    for twin in twins:
        other = scenarios[twin.name.removesuffix(", never drop")]
        assert twin.never
        assert not other.never
        assert twin.document.admission.mode == "Never"
        assert other.document.load_factors == LOADS
        assert set(SERVED_LOADS) <= set(twin.document.load_factors)
        assert twin.document.experts == other.document.experts
        assert twin.document.objectives == other.document.objectives


def test_every_reference_is_a_scenario_with_fresh_state_and_the_same_loads() -> None:
    scenarios = {one.name: one for one in suite(packaged())}
    referring = [one for one in scenarios.values() if one.reference]
    assert referring
    for one in referring:
        reference = scenarios[one.reference]
        assert reference.document.telemetry.interval_milliseconds == 0
        assert reference.document.belief_scale_percent == 100
        assert reference.document.load_factors == one.document.load_factors


def test_a_data_folder_without_a_file_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"--data: .* has no traces/azure_conv_2023_first_half\.csv"):
        measured(tmp_path)


def test_prepared_scenarios_share_what_is_equal_and_carry_predictions() -> None:
    materials = packaged()
    chosen = [one for one in suite(materials, 50) if one.name in ("poisson", "bursty", "poisson, never drop")]
    ready = prepare(chosen, materials.folder)
    tables = [scenario.table for scenario in ready.values()]
    assert tables[0] is not None
    assert tables[0] is tables[1] is tables[2]
    assert tables[0].prompts is None
    workload = build_workload(ready["poisson"], 0.5, 1)
    assert len(workload) == 50
    assert (workload.predicted_output_tokens >= 1).all()
    assert len({row.tobytes() for row in workload.predicted_output_tokens}) > 10
