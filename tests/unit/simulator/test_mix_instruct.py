import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pointsman_policy.errors import DocumentError
from pointsman_policy.simulator.mix_instruct import read_mix_instruct


def row(**changes: Any) -> dict[str, Any]:
    return {
        "instruction": "Say hello",
        "input": "to Mia",
        "output": "Hello Mia",
        "candidates": [
            {
                "model": "alpaca-native",
                "text": "x" * 40,
                "decoding_method": "top_p",
                "scores": {"bertscore": 0.7, "bleurt": -1},
            },
            {"model": "chatglm-6b", "text": "", "scores": {"bertscore": 0.5}, "output_tokens": 33},
        ],
        "pred_score": [0.6, 0.4],
        "pred_output_tokens": [12.5, 30],
        **changes,
    }


def write(tmp_path: Path, *rows: object) -> Path:
    path = tmp_path / "mix.jsonl"
    path.write_text("\n".join(json.dumps(value) for value in rows) + "\n", "utf-8")
    return path


def test_scores_lengths_prompts_and_predictions_are_read(tmp_path: Path) -> None:
    table = read_mix_instruct(write(tmp_path, row(id="a"), row(id="b", input="")))
    assert table.prompt_ids == ("a", "b")
    assert table.models == ("alpaca-native", "chatglm-6b")
    assert table.prompts == ("Say hello\nto Mia", "Say hello")
    assert table.prompt_tokens is not None
    assert table.prompt_tokens.tolist() == [4, 2]
    np.testing.assert_allclose(table.score[0], [0.7, 0.5])
    np.testing.assert_allclose(table.out_tokens[0], [10, 33])
    assert table.predicted_score is not None
    assert table.predicted_out_tokens is not None
    np.testing.assert_allclose(table.predicted_score[1], [0.6, 0.4])
    np.testing.assert_allclose(table.predicted_out_tokens[1], [12.5, 30])


def test_predictions_that_some_rows_lack_are_left_out(tmp_path: Path) -> None:
    second = row()
    del second["pred_score"]
    table = read_mix_instruct(write(tmp_path, row(), second))
    assert table.predicted_score is None
    assert table.predicted_out_tokens is not None


def test_models_may_differ_between_rows(tmp_path: Path) -> None:
    one = row(
        candidates=[{"model": "koala-7b", "text": "x", "scores": {"bertscore": 1}}],
        pred_score=[1],
        pred_output_tokens=[1],
    )
    table = read_mix_instruct(write(tmp_path, row(), one))
    np.testing.assert_array_equal(np.isnan(table.score), [[False, False, True], [True, True, False]])
    assert table.predicted_score is not None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], "line 1: must be a JSON object"),
        (row(candidates=[]), "line 1: candidates must be a list"),
        (row(instruction=3), "line 1: instruction and input must be text"),
        (row(instruction="", input=""), "one of them not empty"),
        (
            row(candidates=[{"text": ""}], pred_score=[1], pred_output_tokens=[1]),
            "candidates[0]: must be an object with a model",
        ),
        (
            row(candidates=[{"model": "a", "text": ""}], pred_score=None, pred_output_tokens=None),
            "scores.bertscore must be a number",
        ),
        (row(pred_score=[0.5]), "line 1: pred_score must have one value for each candidate"),
        (row(pred_score=[0.5, 3]), "candidates[1]: predicted_score is 3, not from 0 to 1"),
        (row(pred_score=[0.5, "x"]), "candidates[1]: predicted_score must be a number"),
        (row(candidates=[row()["candidates"][0]] * 2), "candidates[1]: a second answer of 'alpaca-native'"),
    ],
)
def test_a_wrong_row_is_refused_with_its_place(tmp_path: Path, value: object, expected: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_mix_instruct(write(tmp_path, value))
    assert expected in str(caught.value)


def test_files_that_are_no_jsonl_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mix.jsonl"
    for content, expected in (
        (b'{"instruction":\n', "line 1: is not JSON"),
        (b"", "has no rows"),
        (b'{"a": "\xff"}\n', "is not UTF-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(DocumentError, match=expected):
            read_mix_instruct(path)
    with pytest.raises(DocumentError, match="cannot be read"):
        read_mix_instruct(tmp_path / "absent.jsonl")
    with pytest.raises(DocumentError, match="two rows have the id 'a'"):
        read_mix_instruct(write(tmp_path, row(id="a"), row(id="a")))
