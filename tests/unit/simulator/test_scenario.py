import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from pointsman_policy.errors import DocumentError
from pointsman_policy.experts import ExpertList
from pointsman_policy.latency.profiles import ProfileSource
from pointsman_policy.simulator.changes import Change
from pointsman_policy.simulator.scenario import Scenario, read_scenario
from pointsman_policy.simulator.scenario_document import ScenarioDocument
from pointsman_policy.simulator.situation import build_changes
from pointsman_policy.simulator.workload import build_workload

SCORES = "prompt_id,model,score,out_tokens\n" + "".join(
    f"{prompt},{model},0.5,{100 + prompt}\n" for prompt in range(8) for model in ("gemma-2-2b-it", "other")
)
PROMPTS = "prompt_id,prompt,prompt_tokens\n" + "".join(f"{prompt},text {prompt},{prompt + 1}\n" for prompt in range(8))
PROFILES = (
    "gpu,model,kv_capacity_tokens,L4_c0_ms,L4_c_seq_ms,L4_c_ctx_ms,L4_c_prefill_ms\n"
    "L40S,gemma-2-2b,342471,7.1,0.01,1.6e-4,0.022\n"
)
SCENARIO: dict[str, Any] = {
    "name": "two",
    "profiles": "profiles.csv",
    "experts": [
        {"name": "fast", "model": "gemma-2-2b", "gpu": "L40S", "speed": 2.0, "replicas": 2},
        {
            "name": "own",
            "model": "house",
            "qualityModel": "other",
            "kvCapacityTokens": 9_000,
            "maximumRunning": 8,
            "iterationTime": {
                "baseMilliseconds": 10,
                "perSequenceMilliseconds": 0.1,
                "perContextTokenMilliseconds": 0.001,
                "perPrefillTokenMilliseconds": 0.05,
            },
        },
    ],
    "quality": {"scores": "scores.csv", "prompts": "prompts.csv"},
    "beliefScalePercent": 70,
}


def write(tmp_path: Path, document: object) -> Path:
    (tmp_path / "scores.csv").write_text(SCORES)
    (tmp_path / "prompts.csv").write_text(PROMPTS)
    (tmp_path / "profiles.csv").write_text(PROFILES)
    (tmp_path / "trace.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,1,1\n1,1,1\n")
    path = tmp_path / "scenario.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return path


def changed(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(SCENARIO), **changes}


def read(tmp_path: Path, **changes: Any) -> Scenario:
    return read_scenario(write(tmp_path, changed(**changes)))


def test_replicas_become_experts_of_their_own(tmp_path: Path) -> None:
    scenario = read(tmp_path)
    assert [expert.name for expert in scenario.experts] == ["fast-0", "fast-1", "own"]
    assert scenario.quality_models == ("gemma-2-2b-it", "other")
    assert scenario.table is not None
    assert scenario.table.models == scenario.quality_models


def test_truth_is_profile_times_speed_and_belief_is_truth_times_scale(tmp_path: Path) -> None:
    fast, _, own = read(tmp_path).experts
    assert fast.source is ProfileSource.PROFILE
    assert fast.coefficients.base_seconds == pytest.approx(0.0071 / 2)
    assert fast.believed.base_seconds == pytest.approx(0.0071 / 2 * 0.7)
    assert fast.kv_capacity_tokens == 342_471
    assert own.source is ProfileSource.EXPERT
    assert own.coefficients.per_prefill_token_seconds == pytest.approx(5e-5)
    assert (own.kv_capacity_tokens, own.maximum_running) == (9_000, 8)


def test_changes_are_placed_in_the_time_of_arrivals(tmp_path: Path) -> None:
    slower = {"atPercent": 25, "expert": "fast-1", "kind": "pace", "iterationTimePercent": 250}
    scenario = read(tmp_path, changes=[LOST, slower, {**LOST, "atPercent": 75, "kind": "added"}], requests=8)
    workload = build_workload(scenario, 1.0, seed=0)
    end = workload.arrival_seconds[-1]
    assert build_changes(scenario, workload) == (
        Change(0.5 * end, 2, "lost"),
        Change(0.25 * end, 1, "pace", 2.5),
        Change(0.75 * end, 2, "added"),
    )


def test_the_tightest_per_token_target_counts(tmp_path: Path) -> None:
    assert read(tmp_path).token_seconds_objective == pytest.approx(0.03)
    both = {"normalizedTimePerOutputTokenMilliseconds": 40, "timePerOutputTokenMilliseconds": 25}
    assert read(tmp_path, objectives=both).token_seconds_objective == pytest.approx(0.025)
    assert read(tmp_path, objectives={"timeToFirstTokenMilliseconds": 9}).token_seconds_objective == 0


EXPERT = SCENARIO["experts"][0]
LOGNORMAL = {"prompt": {"kind": "lognormal"}, "output": {"kind": "lognormal"}}


LOST = {"atPercent": 50, "expert": "own", "kind": "lost"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"experts": []}, "experts: Tuple should have at least 1 item"),
        ({"experts": [EXPERT, EXPERT]}, "two experts have the name 'fast'"),
        ({"experts": [{**EXPERT, "replicas": 0}]}, "experts[0].replicas: Input should be greater than or equal to 1"),
        ({"experts": [{**EXPERT, "speed": 0}]}, "experts[0].speed: Input should be greater than 0"),
        ({"experts": [{**EXPERT, "speed": float("nan")}]}, "experts[0].speed"),
        ({"experts": [{**EXPERT, "qualityModel": "gone"}]}, "experts[0]:"),
        ({"experts": [{**EXPERT, "qualityModel": "gone"}]}, "set qualityModel to one of gemma-2-2b-it, other"),
        ({"expert": []}, "expert: unknown field"),
        ({"arrivals": {"kind": "trace"}}, "arrivals.trace is needed for arrivals.kind trace"),
        ({"arrivals": {"kind": "uniform"}}, "arrivals.kind: Input should be 'poisson', 'bursty', 'diurnal' or 'trace'"),
        ({"arrivals": {"kind": "trace", "trace": "gone.csv"}}, "gone.csv: cannot be read"),
        ({"arrivals": {"rates": "r.csv"}}, "arrivals.rates belong to arrivals.kind diurnal"),
        ({"arrivals": {"kind": "diurnal", "rates": "gone.csv"}}, "gone.csv: cannot be read"),
        ({"objectiveClasses": [{"sharePercent": 60}] * 2}, "the shares of objectiveClasses add up to 120 %"),
        ({"lengths": {"prompt": {"kind": "fromTrace"}}}, "arrivals.trace is needed for lengths fromTrace"),
        ({"quality": {"scores": "scores.csv"}}, "quality.prompts is needed for lengths.prompt.kind fromPrompts"),
        ({"quality": {}}, "give exactly one of scores, mixInstruct and synthetic, not none"),
        ({"quality": {"prompts": "prompts.csv", "mixInstruct": "m.jsonl"}}, "prompts belong to scores"),
        ({"quality": {"scores": "gone.csv"}, "lengths": LOGNORMAL}, "gone.csv: cannot be read"),
        (
            {
                "quality": {"synthetic": {"meanPercent": {"gemma-2-2b": 50}}},
                "lengths": {"prompt": {"kind": "lognormal"}},
            },
            "lengths.output.kind fromScores needs quality.scores",
        ),
        (
            {"quality": {"synthetic": {"meanPercent": {"gemma-2-2b": 50}}}, "lengths": LOGNORMAL},
            "experts[1]: quality.synthetic.meanPercent has no model 'other'",
        ),
        (
            {"quality": {"synthetic": {"meanPercent": {"a": 95}, "spreadPercent": 30}}, "lengths": LOGNORMAL},
            "spreadPercent 30 is too much for a mean of 95 (a)",
        ),
        (
            {"quality": {**SCENARIO["quality"], "predictor": {"kind": "fromTable"}}},
            "predictor.kind fromTable needs mixInstruct",
        ),
        ({"requests": 0}, "requests: Input should be greater than or equal to 1"),
        ({"requests": 1.5}, "requests: Input should be a valid integer"),
        ({"loadFactors": []}, "loadFactors: Tuple should have at least 1 item"),
        ({"loadFactors": [-1]}, "loadFactors[0]: Input should be greater than 0"),
        ({"beliefScalePercent": 0}, "beliefScalePercent: Input should be greater than or equal to 1"),
        ({"objectives": {"qualityFloorPercent": 101}}, "objectives.qualityFloorPercent: Input should be less than"),
        ({"admission": {"mode": "Sometimes"}}, "admission.mode: Input should be 'Never'"),
        ({"changes": [{**LOST, "expert": "fast"}]}, "there is no expert 'fast'; experts are fast-0, fast-1, own"),
        ({"changes": [{**LOST, "atPercent": 101}]}, "changes[0].atPercent: Input should be less than or equal to 100"),
        ({"changes": [LOST, {**LOST, "atPercent": 60}]}, "'own' is lost at 60 %, but it is gone already"),
        ({"changes": [{**LOST, "kind": "added"}] * 2}, "'own' is added at 50 %, but it is there already"),
        ({"changes": [{**LOST, "kind": "pace"}]}, "changes[0]: kind pace needs iterationTimePercent"),
        ({"changes": [{**LOST, "iterationTimePercent": 200}]}, "iterationTimePercent belongs to kind pace"),
    ],
)
def test_a_wrong_scenario_is_refused_with_its_place(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read(tmp_path, **changes)
    assert expected in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "must hold exactly one YAML document, found 0"),
        ("a: 1\n---\nb: 1\n", "must hold exactly one YAML document, found 2"),
        ("- a\n", "must be a mapping"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_scenario_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(DocumentError, match=expected):
        read_scenario(write(tmp_path, text))


def keys(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield field.alias or name
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from keys(part)


@pytest.mark.parametrize("document", [ScenarioDocument, ExpertList])
def test_the_format_page_names_every_key(document: type[BaseModel]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "file-formats.md").read_text("utf-8")
    assert [key for key in keys(document) if key not in page] == []
