"""The files of experiments: quality tables, and the scenarios that name them."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tests.unit.malformed.case import Case, Surface
from tests.unit.malformed.tables import PROMPTS, SCORES, changed, reading

from pointsman_policy.simulator.mix_instruct import read_mix_instruct
from pointsman_policy.simulator.scenario import read_scenario
from pointsman_policy.simulator.tables import read_score_table

MIX_INSTRUCT = (
    '{"id": "a", "instruction": "Add.", "input": "1 and 1", "candidates": '
    '[{"model": "small", "text": "2", "scores": {"bertscore": 0.8}}]}\n'
)
SCENARIO = """\
name: two
experts:
  - {name: a, model: small, gpu: L4}
  - {name: b, model: large, gpu: L40S}
quality: {scores: scores.csv, prompts: prompts.csv}
"""


def _parquet(**columns: list[Any]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"prompt_id": ["1"], "model": ["small"], **columns}), file)
    return file.getvalue()


SCORES_FILE = Surface(
    "Score table",
    "As for a trace; `pointsman expert-sim` does not start with it either.",
    reading("scores.csv", SCORES, read_score_table),
    (
        Case(
            "a missing column",
            changed(SCORES, "model", "modell"),
            "scores.csv: lacks the column 'model' (found prompt_id, modell, score, out_tokens)",
        ),
        Case(
            "a score above 1",
            changed(SCORES, "0.75", "75"),
            "scores.csv: row 4: score is 75, not from 0 to 1; rescale scores to 0..1",
        ),
        Case(
            "a word for a score",
            changed(SCORES, "0.75", "good"),
            "scores.csv: column 'score' must be numbers, not string (row 4 is 'good')",
        ),
        Case(
            "two answers of one model to one prompt",
            SCORES + "1,small,0.5,10\n",
            "scores.csv: row 5: a second row for prompt_id '1' and model 'small'; keep one answer for each pair",
        ),
        Case(
            "a negative length",
            changed(SCORES, ",12", ",-12"),
            "scores.csv: row 3: out_tokens is -12, not from 0 to 1000000000; give a count of tokens",
        ),
        Case(
            "no model in a row",
            changed(SCORES, "2,large", "2,"),
            "scores.csv: row 4: model is missing; every row needs one",
        ),
        Case(
            "a row cut short",
            changed(SCORES, "2,large,0.75,20", "2,large"),
            "scores.csv: cannot be parsed as .csv (CSV parse error: Expected 4 columns, got 2: "
            "2,large); check its content and its name's ending",
        ),
    ),
)
PARQUET_FILE = Surface(
    "Score table in Parquet",
    "As above.",
    reading("scores.parquet", _parquet(score=[0.5]), read_score_table),
    (
        Case(
            "a list for a score",
            _parquet(score=[[0.5]]),
            "scores.parquet: column 'score' must be numbers, not list…",
        ),
        Case(
            "another format than its name says",
            SCORES,
            "scores.parquet: cannot be parsed as .parquet (…); check its content and its name's ending",
        ),
    ),
)
PROMPTS_FILE = Surface(
    "Prompts",
    "As for a score table.",
    reading("prompts.csv", PROMPTS, lambda path: read_score_table(path.with_name("scores.csv"), path)),
    (
        Case(
            "the prompts of another table",
            changed(PROMPTS, "\n1,", "\n8,").replace("\n2,", "\n9,"),
            "prompts.csv: no prompt_id is also in scores.csv (such as '8' here, '1' there); give the "
            "prompts of these scores",
        ),
        Case(
            "one prompt twice",
            changed(PROMPTS, "\n2,", "\n1,"),
            "prompts.csv: row 2: a second row for prompt_id '1'; keep one",
        ),
        Case(
            "no length",
            changed(PROMPTS, "two,5", "two,"),
            "prompts.csv: row 2: prompt_tokens is missing; give a count of tokens",
        ),
        Case(
            "no text",
            changed(PROMPTS, "prompt,", "text,"),
            "prompts.csv: lacks the column 'prompt' (found prompt_id, text, prompt_tokens)",
        ),
    ),
)
MIX_INSTRUCT_FILE = Surface(
    "mix-instruct file",
    "As for a score table.",
    reading("mix.jsonl", MIX_INSTRUCT, read_mix_instruct),
    (
        Case(
            "not JSON",
            MIX_INSTRUCT + "{",
            "mix.jsonl: line 2: is not JSON (Expecting property name enclosed in double quotes); the "
            "file must be JSONL",
        ),
        Case("a list for a row", "[]\n", "mix.jsonl: line 1: must be a JSON object"),
        Case(
            "no candidates",
            changed(MIX_INSTRUCT, "candidates", "answers"),
            "mix.jsonl: line 1: candidates must be a list of at least one answer",
        ),
        Case(
            "no score",
            changed(MIX_INSTRUCT, "bertscore", "bleu"),
            "mix.jsonl: line 1: candidates[0]: scores.bertscore must be a number",
        ),
        Case(
            "a score above 1",
            changed(MIX_INSTRUCT, "0.8", "8"),
            "mix.jsonl: line 1: candidates[0]: scores.bertscore is 8, not from 0 to 1",
        ),
        Case("one id twice", MIX_INSTRUCT * 2, "mix.jsonl: two rows have the id 'a'; each needs its own"),
    ),
)
SCENARIO_FILE = Surface(
    "Scenario",
    "`pointsman bench sim` and `pointsman demo` end with exit code 2 before anything has run.",
    reading("scenario.yaml", SCENARIO, read_scenario),
    (
        Case(
            "no experts",
            changed(SCENARIO, "experts:", "fleet:"),
            "scenario.yaml: experts: required field is missing; fleet: unknown field; remove it or check its spelling",
        ),
        Case(
            "a model that the score table does not have",
            changed(SCENARIO, "model: large", "model: huge"),
            "scenario.yaml: experts[1]: scores.csv has no model 'huge'; set qualityModel to one of small, large",
        ),
        Case(
            "a file that does not exist",
            changed(SCENARIO, "scores.csv", "score.csv"),
            "score.csv: cannot be read (No such file or directory); check the path and the file",
        ),
        Case(
            "two origins of quality",
            changed(SCENARIO, "prompts:", "synthetic: {meanPercent: {a: 50}}, prompts:"),
            "scenario.yaml: quality: give exactly one of scores, mixInstruct and synthetic, not scores and synthetic",
        ),
        Case(
            "arrivals of a trace without one",
            SCENARIO + "arrivals: {kind: trace}\n",
            "scenario.yaml: arrivals.trace is needed for arrivals.kind trace",
        ),
        Case(
            "a load factor of 0",
            SCENARIO + "loadFactors: [0]\n",
            "scenario.yaml: loadFactors[0]: Input should be greater than 0 (got 0)",
        ),
        Case(
            "a percentage with a fraction",
            SCENARIO + "beliefScalePercent: 0.7\n",
            "scenario.yaml: beliefScalePercent: Input should be a valid integer (got 0.7)",
        ),
    ),
)
