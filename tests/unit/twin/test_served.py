import numpy as np
import pytest
from tests.unit.twin.runs import TRUE, make_experience

from pointsman_policy.twin.served import Served, decode_rows, first_token_rows


@pytest.mark.parametrize("expert", [0, 1])
def test_true_coefficients_explain_how_long_answers_took(expert: int) -> None:
    rows = decode_rows(make_experience().served(expert), TRUE[expert])
    ratio = rows.seconds / (rows.terms @ TRUE[expert])
    assert len(ratio) > 300
    assert np.percentile(ratio, [2, 50, 98]) == pytest.approx([1.0, 1.0, 1.0], abs=0.03)


def test_iterations_are_shared_out_alike_by_coefficients_that_are_all_twice_too_large() -> None:
    served = make_experience().served(0)
    rows, others = decode_rows(served, TRUE[0]), decode_rows(served, 2.0 * TRUE[0])
    assert np.median(np.abs(others.terms @ TRUE[0] / (rows.terms @ TRUE[0]) - 1.0)) < 0.02


def test_true_coefficients_explain_first_tokens_on_average() -> None:
    rows = first_token_rows(make_experience().served(0))
    ratio = rows.seconds / (rows.terms @ TRUE[0])
    assert len(ratio) > 300
    assert np.mean(ratio) == pytest.approx(1.0, abs=0.03)


def test_a_request_alone_is_explained_to_the_last_digit() -> None:
    base, per_sequence, per_context, per_prefill = TRUE[0]
    first = 5.0 + base + per_sequence + (per_context + per_prefill) * 400.0
    decoding = sum(base + per_sequence + per_context * (400.0 + k) for k in range(1, 100))
    lone = [(5.0 + 10.0 * k, first + 10.0 * k, first + 10.0 * k + decoding, 400.0, 100.0) for k in range(40)]
    arrival, start, end, prompt, output = np.array(lone).T
    served = Served(arrival, start, end, prompt, output, np.ones(40, np.bool_))
    rows = decode_rows(served, TRUE[0])
    assert rows.seconds == pytest.approx(rows.terms @ TRUE[0], rel=1e-4)
    starts = first_token_rows(served)
    assert starts.seconds == pytest.approx(starts.terms @ TRUE[0], rel=1e-9)


def test_what_ran_beside_requests_that_have_not_ended_is_left_out() -> None:
    served = make_experience().served(0)
    margin = np.quantile(served.end_at - served.arrival_at, 0.9)
    rows = decode_rows(served, TRUE[0])
    assert rows.at.max() < served.end_at.max() - margin
    assert rows.at.min() > served.arrival_at.min() + margin
