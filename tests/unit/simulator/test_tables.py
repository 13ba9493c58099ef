import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pointsman_policy.errors import DocumentError
from pointsman_policy.simulator.tables import ScoreTable, read_score_table

SCORES = """dataset,prompt_id,model,score,out_tokens
x,1,small,0.5,10
x,1,large,1,30
x,2,small,0,12
x,2,large,0.75,
x,3,small,0.25,9
"""
PROMPTS = 'prompt_id,prompt,prompt_tokens\n2,"two\nlines, and a comma",5\n1,one,1\n9,nine,3\n'


def write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return path


def table(tmp_path: Path, scores: str = SCORES, prompts: str | None = PROMPTS) -> ScoreTable:
    prompts_path = None if prompts is None else write(tmp_path, "prompts.csv", prompts)
    return read_score_table(write(tmp_path, "scores.csv", scores), prompts_path)


def test_scores_become_a_dense_table_with_gaps(tmp_path: Path) -> None:
    read = table(tmp_path, prompts=None)
    assert read.prompt_ids == ("1", "2", "3")
    assert read.models == ("small", "large")
    np.testing.assert_array_equal(read.score, np.array([[0.5, 1], [0, 0.75], [0.25, np.nan]], np.float32))
    np.testing.assert_array_equal(read.out_tokens, np.array([[10, 30], [12, np.nan], [9, np.nan]], np.float32))
    assert read.prompts is None


def test_prompts_are_joined_and_those_without_scores_left_out(tmp_path: Path) -> None:
    read = table(tmp_path)
    assert read.prompt_ids == ("1", "2")
    assert read.prompts == ("one", "two\nlines, and a comma")
    assert read.prompt_tokens is not None
    assert read.prompt_tokens.tolist() == [1, 5]


def test_the_same_table_is_read_from_parquet_jsonl_and_csv(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt_id": 1, "model": "small", "score": 0, "out_tokens": 10},
        {"prompt_id": 1, "model": "large", "score": 1, "out_tokens": None},
    ]
    columns = pa.Table.from_pylist(rows).set_column(1, "model", pa.array(["small", "large"]).dictionary_encode())
    pq.write_table(columns, tmp_path / "scores.parquet")
    write(tmp_path, "scores.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write(tmp_path, "scores.csv", "prompt_id,model,score,out_tokens\n1,small,0,10\n1,large,1,\n")
    for name in ("scores.parquet", "scores.jsonl", "scores.csv"):
        read = read_score_table(tmp_path / name)
        assert (read.prompt_ids, read.models) == (("1",), ("small", "large"))
        np.testing.assert_array_equal(read.score, [[0, 1]])
        np.testing.assert_array_equal(read.out_tokens, [[10, np.nan]])


def test_lengths_may_be_missing_altogether(tmp_path: Path) -> None:
    read = table(tmp_path, "prompt_id,model,score\n1,small,0.5\n", None)
    assert np.isnan(read.out_tokens).all()
    assert len(read.select(["small"], with_lengths=False)) == 1
    with pytest.raises(DocumentError, match="has no out_tokens for small"):
        read.select(["small"], with_lengths=True)


def test_long_prompts_are_read_whole(tmp_path: Path) -> None:
    text = "x" * 3_000_000
    assert table(tmp_path, prompts=f"prompt_id,prompt,prompt_tokens\n1,{text},9\n").prompts == (text,)


def test_the_prompts_column_may_be_called_question(tmp_path: Path) -> None:
    assert table(tmp_path, prompts=PROMPTS.replace("prompt,", "question,")).prompts is not None


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ("", "cannot be parsed"),
        ("prompt_id,model,score\n", "has no rows"),
        ("prompt_id,score\n1,1\n", "lacks the column 'model' (found prompt_id, score)"),
        ("prompt_id,model,score\n1,a,1.5\n", "row 1: score is 1.5, not from 0 to 1; rescale"),
        ("prompt_id,model,score\n1,a,1\n2,a,-0.5\n", "row 2: score is -0.5"),
        ("prompt_id,model,score\n1,a,inf\n", "row 1: score is inf"),
        ("prompt_id,model,score\n1,a,1\n2,a,good\n", "column 'score' must be numbers, not string (row 2 is 'good')"),
        ("prompt_id,model,score\n1,a,true\n", "column 'score' must be numbers, not bool"),
        ("prompt_id,model,score\n1,a,\n", "has no score at all"),
        ("prompt_id,model,score\n1,a,1\n1,b,1\n1,a,0\n", "row 3: a second row for prompt_id '1' and model 'a'"),
        ("prompt_id,model,score,out_tokens\n1,a,1,-4\n", "row 1: out_tokens is -4"),
        ("prompt_id,model,score\n1,,1\n", "row 1: model is missing"),
        ("prompt_id,model,score\n1,a\n", "cannot be parsed"),
        ("prompt_id,model,score,score\n1,a,1,1\n", "names the column 'score' twice"),
    ],
)
def test_wrong_scores_are_refused_with_their_place(tmp_path: Path, scores: str, expected: str) -> None:
    with pytest.raises(DocumentError) as caught:
        table(tmp_path, scores, None)
    assert expected in str(caught.value)
    assert "scores.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        ("prompt_id,prompt_tokens\n1,4\n", "lacks the column 'prompt'"),
        ("prompt_id,prompt,prompt_tokens\n7,seven,2\n", "no prompt_id is also in"),
        ("prompt_id,prompt,prompt_tokens\n1,a,2\n1,b,2\n", "row 2: a second row for prompt_id '1'"),
        ("prompt_id,prompt,prompt_tokens\n1,a,-2\n", "row 1: prompt_tokens is -2"),
        ("prompt_id,prompt,prompt_tokens\n1,a,2\n2,b,\n", "row 2: prompt_tokens is missing"),
    ],
)
def test_wrong_prompts_are_refused_with_their_place(tmp_path: Path, prompts: str, expected: str) -> None:
    with pytest.raises(DocumentError) as caught:
        table(tmp_path, prompts=prompts)
    assert expected in str(caught.value)
    assert "prompts.csv" in str(caught.value)


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"must end in \.parquet, \.csv or \.jsonl"):
        read_score_table(write(tmp_path, "scores.txt", SCORES))
    with pytest.raises(DocumentError, match="cannot be read"):
        read_score_table(tmp_path / "absent.csv")
    with pytest.raises(DocumentError, match="cannot be parsed"):
        read_score_table(write(tmp_path, "scores.parquet", SCORES))
    with pytest.raises(DocumentError, match="cannot be parsed"):
        read_score_table(write(tmp_path, "scores.jsonl", '{"prompt_id": 1, '))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DocumentError, match="cannot be read"):
        read_score_table(tmp_path / "folder.csv")


def test_a_selection_keeps_prompts_that_all_models_answered(tmp_path: Path) -> None:
    read = table(tmp_path, prompts=None)
    both = read.select(["large", "small"], with_lengths=False)
    assert both.prompt_ids == ("1", "2")
    np.testing.assert_array_equal(both.score, np.array([[1, 0.5], [0.75, 0]], np.float32))
    assert read.select(["large", "small"], with_lengths=True).prompt_ids == ("1",)
    assert read.select(["small"], with_lengths=True).prompt_ids == ("1", "2", "3")


def test_a_selection_without_common_prompts_or_of_unknown_models_is_refused(tmp_path: Path) -> None:
    read = table(tmp_path, "prompt_id,model,score\n1,a,1\n2,b,1\n", None)
    with pytest.raises(DocumentError, match="no prompt has score of all of a, b"):
        read.select(["a", "b"], with_lengths=False)
    with pytest.raises(DocumentError, match="has no model 'c'; it has a, b"):
        read.select(["c"], with_lengths=False)


def test_a_model_is_found_by_its_architecture_if_only_one_fits(tmp_path: Path) -> None:
    rows = "".join(
        f"1,{model},1\n" for model in ("gemma-2-2b-it", "Llama-3.1-8B", "Meta-Llama-3.1-8B-Instruct", "q-it", "q")
    )
    read = table(tmp_path, "prompt_id,model,score\n" + rows, None)
    assert read.find_model("gemma-2-2b") == "gemma-2-2b-it"
    assert read.find_model("Llama-3.1-8B") == "Llama-3.1-8B"
    assert read.find_model("llama-3.1-8b") is None
    assert read.find_model("mpt-7b") is None


def test_a_split_is_disjoint_complete_and_repeatable(tmp_path: Path) -> None:
    rows = "".join(f"{prompt},a,1\n" for prompt in range(10))
    read = table(tmp_path, "prompt_id,model,score\n" + rows, None)
    fit, evaluation = read.split(np.random.default_rng(3), 0.3)
    assert len(fit) == 3
    assert sorted([*fit, *evaluation]) == list(range(10))
    again, _ = read.split(np.random.default_rng(3), 0.3)
    np.testing.assert_array_equal(fit, again)


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_neither_side_of_a_split_is_empty(tmp_path: Path, fraction: float) -> None:
    read = table(tmp_path, prompts=None)
    assert all(len(rows) >= 1 for rows in read.split(np.random.default_rng(0), fraction))
