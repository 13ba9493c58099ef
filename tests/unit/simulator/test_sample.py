from pointsman_policy.latency.datasheets import find_model
from pointsman_policy.simulator.sample import (
    MODELS,
    data_folder,
    generate_sample,
    prompts_path,
    scenario_paths,
    scores_path,
    trace_path,
)
from pointsman_policy.simulator.scenario import read_scenario
from pointsman_policy.simulator.tables import read_score_table
from pointsman_policy.simulator.traces import read_trace
from pointsman_policy.simulator.workload import build_workload


def test_the_packaged_files_are_what_the_generator_writes() -> None:
    for name, content in generate_sample().items():
        packaged = (data_folder() / name).read_text("utf-8")
        assert packaged == content, f"{name} drifted; run python -m pointsman_policy.simulator.sample"


def test_the_packaged_files_are_small() -> None:
    assert sum(path.stat().st_size for path in data_folder().iterdir()) < 300_000


def test_the_packaged_table_is_complete_and_its_prompts_differ() -> None:
    table = read_score_table(scores_path(), prompts_path())
    assert table.models == MODELS
    assert len(table.select(MODELS, with_lengths=True)) == 400
    assert table.prompts is not None
    assert len(set(table.prompts)) == 400


def test_larger_models_answer_better_and_all_have_a_known_size() -> None:
    means = read_score_table(scores_path()).score.mean(axis=0)
    assert (means[1:] > means[:-1]).all()
    assert all(find_model(model) is not None for model in MODELS)


def test_the_packaged_trace_is_ten_minutes_of_five_requests_per_second() -> None:
    trace = read_trace(trace_path())
    assert 590 < trace.arrival_seconds[-1] <= 600
    assert 4.5 < trace.rate < 5.5


def test_every_packaged_scenario_makes_a_workload() -> None:
    assert "demo" in {path.stem for path in scenario_paths()}
    for path in scenario_paths():
        scenario = read_scenario(path)
        assert scenario.name == path.stem
        assert len(build_workload(scenario, 0.9, 1)) == scenario.document.requests
