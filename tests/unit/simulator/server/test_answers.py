from pathlib import Path

import numpy as np
import pytest

from pointsman_policy.errors import DocumentError
from pointsman_policy.experts import Expert
from pointsman_policy.simulator import sample
from pointsman_policy.simulator.server.answers import Answer, AnswerBook, estimate_prompt_tokens, read_answers
from pointsman_policy.simulator.tables import ScoreTable


def expert(name: str = "small-0", model: str = "small", tokens: int = 200, quality: int = 60) -> Expert:
    return Expert(
        name=name,
        endpoint="127.0.0.1:9000",
        model=model,
        output_tokens_prior=tokens,
        quality_prior_percent=quality,
    )


def table(
    prompts: tuple[str, ...] | None = ("What?", "Why?"), prompt_tokens: tuple[int, ...] | None = (3, 0)
) -> ScoreTable:
    return ScoreTable(
        source="scores.csv",
        prompt_ids=("a", "b"),
        models=("small", "large"),
        score=np.array([[0.25, 0.75], [0.5, np.nan]], np.float32),
        out_tokens=np.array([[12, 40], [0, np.nan]], np.float32),
        prompts=prompts,
        prompt_tokens=None if prompt_tokens is None else np.array(prompt_tokens, np.int64),
    )


def test_a_known_prompt_has_the_tables_answer() -> None:
    book = AnswerBook(table())
    assert book.lookup(expert(), "What?") == Answer(prompt_tokens=3, output_tokens=12, score=0.25)
    assert book.lookup(expert(model="large"), "What?") == Answer(prompt_tokens=3, output_tokens=40, score=0.75)


def test_replicas_of_a_model_share_the_tables_answer() -> None:
    book = AnswerBook(table())
    assert book.lookup(expert("small-0"), "What?") == book.lookup(expert("small-1"), "What?")


def test_lengths_of_the_table_are_at_least_one_token() -> None:
    answer = AnswerBook(table()).lookup(expert(), "Why?")
    assert (answer.prompt_tokens, answer.output_tokens) == (1, 1)


def test_what_the_table_lacks_is_drawn() -> None:
    drawn, book = AnswerBook(), AnswerBook(table())
    large = expert(model="large")
    assert book.lookup(large, "Why?").output_tokens == drawn.lookup(large, "Why?").output_tokens
    assert book.lookup(large, "Why?").score == drawn.lookup(large, "Why?").score
    assert book.lookup(expert(model="other"), "What?").score == drawn.lookup(expert(model="other"), "What?").score
    assert book.lookup(expert(), "Who?") == drawn.lookup(expert(), "Who?")


def test_it_tells_whose_answers_the_table_holds() -> None:
    book = AnswerBook(table())
    assert book.has_model("small")
    assert not book.has_model("other")
    assert not AnswerBook().has_model("small")


def test_prompt_tokens_are_estimated_where_the_table_has_none() -> None:
    assert AnswerBook(table(prompt_tokens=None)).lookup(expert(), "What?").prompt_tokens == 2


@pytest.mark.parametrize(("prompt", "tokens"), [("", 1), ("abcd", 1), ("abcde", 2), ("ü" * 4, 2), ("x" * 4_000, 1_000)])
def test_a_token_is_estimated_as_four_bytes(prompt: str, tokens: int) -> None:
    assert estimate_prompt_tokens(prompt) == tokens


def test_drawn_answers_depend_on_seed_expert_and_prompt_alone() -> None:
    first = AnswerBook(seed=1).lookup(expert(), "Hello")
    assert first == AnswerBook(seed=1).lookup(expert(), "Hello")
    assert first != AnswerBook(seed=2).lookup(expert(), "Hello")
    assert first != AnswerBook(seed=1).lookup(expert("small-1"), "Hello")
    assert first != AnswerBook(seed=1).lookup(expert(), "Hello!")


def test_drawn_answers_lie_around_the_priors() -> None:
    book = AnswerBook(seed=3)
    answers = [book.lookup(expert(tokens=200, quality=60), f"prompt {index}") for index in range(2_000)]
    assert np.mean([answer.output_tokens for answer in answers]) == pytest.approx(200, rel=0.05)
    assert np.median([answer.score for answer in answers]) == pytest.approx(0.6, abs=0.03)
    assert all(0 < answer.score < 1 and answer.output_tokens >= 1 for answer in answers)


@pytest.mark.parametrize("quality", [0, 100])
def test_extreme_priors_give_scores_within_range(quality: int) -> None:
    score = AnswerBook().lookup(expert(quality=quality), "Hello").score
    assert 0 <= score <= 1


def test_answers_are_read_from_files() -> None:
    book = read_answers(sample.scores_path(), sample.prompts_path(), seed=0)
    assert all(book.has_model(model) for model in sample.MODELS)


def test_without_files_all_answers_are_drawn() -> None:
    assert read_answers(None, None, 5).lookup(expert(), "x") == AnswerBook(seed=5).lookup(expert(), "x")


@pytest.mark.parametrize(
    ("scores", "prompts", "message"),
    [
        ("s.csv", None, "s.csv: scores are of use only together with prompts"),
        (None, "p.csv", "p.csv: prompts are of use only together with scores"),
    ],
)
def test_scores_and_prompts_are_given_together(scores: str | None, prompts: str | None, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        read_answers(Path(scores) if scores else None, Path(prompts) if prompts else None, 0)
