import os
from pathlib import Path

import numpy as np
import pytest

from pointsman_policy.errors import DocumentError
from pointsman_policy.simulator.traces import RateSeries, Trace, read_rates, read_trace

HEADER = "arrival_s,prompt_tokens,output_tokens\n"
SHARED_TRACES = Path(os.environ.get("POINTSMAN_DATA", Path(__file__).parents[4] / "shared" / "data")) / "traces"


def trace(*arrivals: float) -> Trace:
    count = len(arrivals)
    return Trace("test", np.array(arrivals), np.arange(1, count + 1), np.arange(count) * 10)


def test_a_trace_is_read(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(HEADER + "0.5,10,3\n0.5,20,0\n\n3,30,9\n")
    read = read_trace(path)
    assert read.arrival_seconds.tolist() == [0.5, 0.5, 3]
    assert read.prompt_tokens.tolist() == [10, 20, 30]
    assert read.output_tokens.tolist() == [3, 0, 9]
    assert read.rate == pytest.approx(2 / 2.5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        (HEADER, "must hold at least two requests at different times"),
        (HEADER + "1,1,1\n1,1,1\n", "must hold at least two requests at different times"),
        ("arrival_s,prompt_tokens\n1,2\n", "line 1: lacks the column(s) output_tokens"),
        (HEADER + "1,5,5\n0.5,5,5\n", "line 3, column arrival_s: 0.5 comes before 1 of the line above"),
        (HEADER + "-1,5,5\n", "line 2, column arrival_s: must be from 0"),
        (HEADER + "nan,5,5\n", "line 2, column arrival_s: must be a finite number (got 'nan')"),
        (HEADER + "1e400,5,5\n", "line 2, column arrival_s: must be a finite number"),
        (HEADER + "1,x,5\n", "line 2, column prompt_tokens: must be a finite number (got 'x')"),
        (HEADER + "1,5,2.5\n", "line 2, column output_tokens: must be a whole number"),
        (HEADER + "1,5,-2\n", "line 2, column output_tokens: must be from 0"),
        (HEADER + "1,5\n", "line 2: has 2 cells"),
        (HEADER + "1,5,\n", "line 2, column output_tokens: is empty"),
    ],
)
def test_a_wrong_trace_is_refused_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(DocumentError) as caught:
        read_trace(path)
    assert expected in str(caught.value)


def test_compressing_time_changes_the_rate_and_nothing_else() -> None:
    faster = trace(0, 1, 4, 5).at_rate(6)
    assert faster.rate == pytest.approx(6)
    np.testing.assert_allclose(np.diff(faster.arrival_seconds), np.array([1, 3, 1]) * 0.1)
    assert faster.prompt_tokens.tolist() == [1, 2, 3, 4]


def test_a_window_starts_at_zero() -> None:
    window = trace(0, 1, 4, 5).window(1, 2)
    assert window.arrival_seconds.tolist() == [0, 3]
    assert window.prompt_tokens.tolist() == [2, 3]
    assert window.output_tokens.tolist() == [10, 20]


def test_a_window_beyond_the_end_repeats_the_trace_after_a_mean_gap() -> None:
    window = trace(0, 1, 5, 6).window(2, 7)
    np.testing.assert_allclose(window.arrival_seconds, [0, 1, 3, 4, 8, 9, 11])
    assert window.prompt_tokens.tolist() == [3, 4, 1, 2, 3, 4, 1]


def test_requests_that_come_at_once_stay_together_at_any_rate() -> None:
    assert trace(0, 0, 0, 9).window(0, 3).at_rate(4).arrival_seconds.tolist() == [0, 0, 0]
    assert trace(0, 9).window(1, 1).at_rate(4).arrival_seconds.tolist() == [0]


@pytest.mark.skipif(not SHARED_TRACES.exists(), reason="needs the recorded traces of the shared data")
@pytest.mark.parametrize(("name", "rate", "variation"), [("conv", 5.56, 1.07), ("code", 3.14, 13.6)])
def test_recorded_traces_are_read(name: str, rate: float, variation: float) -> None:
    read = read_trace(SHARED_TRACES / f"azure_{name}_2023_first_half.csv")
    gaps = np.diff(read.at_rate(7).arrival_seconds)
    assert read.rate == pytest.approx(rate, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(variation, rel=0.1)


RATES = "t_s,other,rps\n"


def test_rates_are_read_by_their_column_and_a_day_wraps_around(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    path.write_text(RATES + "".join(f"{21_600 * k},9,{k}\n" for k in range(6)))
    series = read_rates(path, "rps")
    assert series.step_seconds == 21_600
    assert series.day(1).tolist() == [1, 2, 3, 4]
    assert series.day(4).tolist() == [4, 5, 0, 1]


def test_a_day_without_requests_is_replaced_by_the_whole_series() -> None:
    series = RateSeries("test", 43_200, np.array([0.0, 0.0, 1.0]))
    assert series.day(0).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (RATES, "must hold at least two rows"),
        (RATES + "0,1,0\n600,1,0\n", "a rate above 0 in rps"),
        ("t_s,other\n0,1\n", "line 1: lacks the column(s) rps"),
        (RATES + "0,1,1\n600,1,1\n1300,1,1\n", "line 4, column t_s: 1300 after 600; rows must be in equal steps"),
        (RATES + "0,1,1\n600,1,-2\n", "line 3, column rps: must be from 0"),
    ],
)
def test_wrong_rates_are_refused_with_their_place(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "rates.csv"
    path.write_text(text)
    with pytest.raises(DocumentError) as caught:
        read_rates(path, "rps")
    assert expected in str(caught.value)


@pytest.mark.skipif(not SHARED_TRACES.is_dir(), reason="the shared data is not here")
def test_measured_rates_are_read() -> None:
    series = read_rates(SHARED_TRACES / "servegen_rate_10min.csv", "m-large_rps")
    assert (len(series), series.step_seconds, len(series.day(2_000))) == (2_016, 600, 144)
