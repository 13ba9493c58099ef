import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pointsman_operator.demo.settings import DemoSettings
from pointsman_operator.demo.workload import DemoWorkload, load_plan, read_workload, write_answers
from pointsman_policy.errors import DocumentError
from pointsman_policy.experts import Expert
from pointsman_policy.simulator.server.answers import read_answers


def test_the_packaged_scenario_is_the_default(tmp_path: Path) -> None:
    workload = read_workload(DemoSettings(out=tmp_path, seconds=20.0))
    assert workload.scenario.name == "demo"
    assert workload.load == workload.scenario.document.load_factors[0]
    assert len(workload.scenario.experts) >= 3
    assert workload.span_seconds == pytest.approx(20.0, rel=0.05)


def test_a_higher_load_sends_more_requests_in_the_same_time(settings: DemoSettings) -> None:
    low, high = (
        read_workload(dataclasses.replace(settings, requests=None, seconds=60.0, load=load)) for load in (0.5, 1.0)
    )
    assert len(high.requests) == pytest.approx(2 * len(low.requests), abs=1)


def test_the_same_seed_gives_the_same_requests(settings: DemoSettings) -> None:
    one, same = read_workload(settings), read_workload(settings)
    other = read_workload(dataclasses.replace(settings, seed=2))
    np.testing.assert_array_equal(one.requests.prompt_index, same.requests.prompt_index)
    assert (one.requests.prompt_index != other.requests.prompt_index).any()


def test_a_trace_gives_arrivals_and_nothing_else(settings: DemoSettings, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,999,999\n1,999,999\n5,999,999\n")
    workload = read_workload(dataclasses.replace(settings, trace=trace, requests=3))
    gaps = np.diff(workload.requests.arrival_seconds)
    assert max(gaps) == pytest.approx(4 * min(gaps)) or max(gaps) == pytest.approx(2 * min(gaps))
    assert workload.requests.prompt_tokens.max() < 999
    assert workload.requests.output_tokens.max() < 999


def test_own_scores_replace_the_quality_of_the_packaged_scenario(files: Path) -> None:
    scores = files / "scores.jsonl"
    text = scores.read_text().replace("Llama-3.1-8B", "meta-llama/Meta-Llama-3.1-8B-Instruct")
    scores.write_text(text.replace('"gemma-2-2b"', '"gemma-2-2b-it"') + _scores_of("gemma-2-9b-it"))
    workload = read_workload(DemoSettings(out=files, scores=scores, prompts=files / "prompts.jsonl", seconds=5.0))
    assert set(workload.scenario.quality_models) == {
        "gemma-2-2b-it",
        "meta-llama/Meta-Llama-3.1-8B-Instruct",
        "gemma-2-9b-it",
    }
    assert all("of prompt" in prompt for prompt in workload.prompts)


def test_scores_without_the_fleets_models_name_the_models_they_have(files: Path) -> None:
    with pytest.raises(DocumentError, match=r"has no model 'gemma-2-9b'.*gemma-2-2b, Llama-3\.1-8B"):
        read_workload(DemoSettings(out=files, scores=files / "scores.jsonl", prompts=files / "prompts.jsonl"))


def test_scores_and_prompts_come_together(settings: DemoSettings, files: Path) -> None:
    with pytest.raises(DocumentError, match=r"--scores: .*give --prompts as well"):
        read_workload(dataclasses.replace(settings, scores=files / "scores.jsonl"))
    with pytest.raises(DocumentError, match=r"--prompts: .*give --scores as well"):
        read_workload(dataclasses.replace(settings, prompts=files / "prompts.jsonl"))


@pytest.mark.parametrize(
    "change",
    [
        {"lengths": {"prompt": {"kind": "lognormal"}}},
        {
            "quality": {"synthetic": {"meanPercent": {"gemma-2-2b": 40, "Llama-3.1-8B": 60}}},
            "lengths": {"prompt": {"kind": "lognormal"}, "output": {"kind": "lognormal"}},
        },
    ],
)
def test_a_scenario_without_prompts_to_send_is_refused(
    settings: DemoSettings, change_scenario: Callable[..., None], change: dict[str, object]
) -> None:
    change_scenario(**change)
    with pytest.raises(DocumentError, match="the demo sends real prompts"):
        read_workload(settings)


def test_one_request_in_ten_is_plain_and_has_no_first_token_to_wait_for(workload: DemoWorkload) -> None:
    plan = load_plan(workload, "http://127.0.0.1:8080", ("edge-a",), 45.0)
    plain = [index for index, request in enumerate(plan.requests) if not request.streamed]
    assert plain == [9, 19, 29]
    for index, request in enumerate(plan.requests):
        told = {"x-llm-d-slo-ttft-ms": "0", "x-llm-d-slo-tpot-ms": "0"}
        assert (told.items() <= request.headers.items()) == (index in plain)
        assert workload.objectives[index].tolist() == [0.0 if index in plain else 2.0, 0.0, 0.03]


def test_the_priority_travels_in_a_header(workload: DemoWorkload) -> None:
    plan = load_plan(workload, "http://127.0.0.1:8080", ("edge-a",), 45.0)
    told = [request.headers.get("x-llm-d-inference-objective") for request in plan.requests]
    assert told == ["-1" if priority < 0 else None for priority in workload.requests.priority]
    assert {"-1", None} == set(told)


def test_emulated_experts_know_the_answers_that_the_workload_has(workload: DemoWorkload, tmp_path: Path) -> None:
    scores, prompts = tmp_path / "answers.jsonl", tmp_path / "asked.jsonl"
    write_answers(workload, scores, prompts)
    book = read_answers(scores, prompts, seed=0)
    for model, column in workload.expert_of().items():
        expert = Expert(name="any", endpoint="127.0.0.1:1", model=model)
        for index, prompt in enumerate(workload.prompts):
            answer = book.lookup(expert, prompt)
            assert answer.prompt_tokens == workload.requests.prompt_tokens[index]
            assert answer.output_tokens == workload.requests.output_tokens[index, column]
            assert answer.score == workload.requests.quality[index, column]


def _scores_of(model: str) -> str:
    return "".join(
        f'{{"prompt_id": "p{index}", "model": "{model}", "score": 0.9, "out_tokens": 7}}\n' for index in range(40)
    )
