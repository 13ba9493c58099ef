import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pointsman_policy.errors import DocumentError
from pointsman_policy.experts import Expert, IterationTime
from pointsman_policy.latency.profiles import (
    IterationTimeCoefficients,
    Profile,
    ProfileSource,
    ProfileTable,
    beliefs,
    capacity_requests_per_second,
    estimate_profile,
    read_profiles,
)

HEADER = "gpu,model,note,kv_capacity_tokens,L4_c0_ms,L4_c_seq_ms,L4_c_ctx_ms,L4_c_prefill_ms\n"
GOOD = "A100-SXM-80G,Llama-3.1-8B,x,415344,9.6,0.044,8.4e-5,0.052\n"
SHARED_FITS = (
    Path(os.environ.get("POINTSMAN_DATA", Path(__file__).parents[4] / "shared" / "data"))
    / "profiles"
    / "iteration_time_fits.csv"
)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "profiles.csv"
    path.write_text(text, "utf-8")
    return path


def expert(**values: object) -> Expert:
    return Expert.model_validate({"name": "a", "endpoint": "127.0.0.1:8000", "model": "Llama-3.1-8B", **values})


def test_a_profile_is_read_in_seconds(tmp_path: Path) -> None:
    profile = read_profiles(write(tmp_path, HEADER + GOOD)).find("Llama-3.1-8B", "A100-SXM-80G")
    assert profile is not None
    assert profile.coefficients.base_seconds == pytest.approx(0.0096)
    assert profile.coefficients.per_context_token_seconds == pytest.approx(8.4e-8)
    assert profile.kv_capacity_tokens == 415_344


@pytest.mark.parametrize(
    ("model", "gpu"),
    [
        ("llama-3.1-8b", "a100-sxm-80g"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "NVIDIA-A100-SXM4-80GB"),
        ("Llama-3.1-8B", "A100"),
    ],
)
def test_a_profile_is_found_under_its_usual_names(tmp_path: Path, model: str, gpu: str) -> None:
    assert read_profiles(write(tmp_path, HEADER + GOOD)).find(model, gpu) is not None


@pytest.mark.parametrize(("model", "gpu"), [("Llama-3.1-8B", ""), ("Llama-3.1-8B", "L4"), ("Llama-3.1-8B-AWQ", "A100")])
def test_what_was_not_measured_is_not_found(tmp_path: Path, model: str, gpu: str) -> None:
    assert read_profiles(write(tmp_path, HEADER + GOOD)).find(model, gpu) is None


def test_a_short_name_that_fits_two_gpus_finds_none(tmp_path: Path) -> None:
    table = read_profiles(write(tmp_path, HEADER + GOOD + GOOD.replace("SXM-80G", "PCIE-80G")))
    assert len(table) == len(list(table)) == 2
    assert table.find("Llama-3.1-8B", "A100") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("gpu,model\nA,B\n", "line 1: lacks the column(s) kv_capacity_tokens, L4_c0_ms"),
        (HEADER, "holds no profiles"),
        (HEADER + GOOD + GOOD, "line 3, column model: a second row for Llama-3.1-8B on A100-SXM-80G"),
        (HEADER + GOOD.replace("9.6", "fast"), "line 2, column L4_c0_ms: must be a finite number (got 'fast')"),
        (HEADER + GOOD.replace("9.6", "nan"), "column L4_c0_ms: must be a finite number"),
        (HEADER + GOOD.replace("9.6", "0"), "column L4_c0_ms: must be above 0"),
        (HEADER + GOOD.replace("0.044", "-1"), "column L4_c_seq_ms: must be from 0 to 10000 (got '-1')"),
        (HEADER + GOOD.replace("415344", "1.5"), "column kv_capacity_tokens: must be a whole number (got '1.5')"),
        (HEADER + GOOD.replace("Llama-3.1-8B", ""), "column model: is empty"),
        (HEADER + "A100,Llama\n", "line 2: has 2 cells where the header names 8"),
        (HEADER.replace("note", "gpu") + GOOD, "line 1: names the column 'gpu' twice"),
        (HEADER + '"A100', "is not valid CSV"),
    ],
)
def test_a_wrong_profiles_file_is_refused_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DocumentError) as caught:
        read_profiles(path)
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_or_binary_profiles_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="cannot be read"):
        read_profiles(tmp_path / "absent.csv")
    (tmp_path / "binary.csv").write_bytes(b"gpu,\xff\xfe\n")
    with pytest.raises(DocumentError, match="is not UTF-8"):
        read_profiles(tmp_path / "binary.csv")


def test_an_experts_own_coefficients_go_first() -> None:
    own = IterationTime(
        base_milliseconds=5,
        per_sequence_milliseconds=0.1,
        per_context_token_milliseconds=0,
        per_prefill_token_milliseconds=0,
    )
    table = ProfileTable([Profile("L4", "Llama-3.1-8B", IterationTimeCoefficients(1, 1, 1, 1), 77)])
    believed = beliefs(expert(gpu="L4", iteration_time=own), table)
    assert believed.source is ProfileSource.EXPERT
    assert believed.coefficients.base_seconds == pytest.approx(0.005)
    assert believed.coefficients.per_sequence_seconds == pytest.approx(0.0001)
    assert believed.kv_capacity_tokens == 77


def test_an_experts_own_kv_capacity_goes_first() -> None:
    assert beliefs(expert(gpu="L4", kv_capacity_tokens=123), None).kv_capacity_tokens == 123


def test_beliefs_fall_from_profile_to_estimate_and_say_so() -> None:
    table = ProfileTable([Profile("L4", "Llama-3.1-8B", IterationTimeCoefficients(1, 1, 1, 1), 77)])
    assert beliefs(expert(gpu="L4"), table).source is ProfileSource.PROFILE
    assert beliefs(expert(gpu="L40S"), table).source is ProfileSource.PRIOR
    assert beliefs(expert(gpu="a potato"), table).source is ProfileSource.DEFAULT
    assert beliefs(expert(model="secret", gpu="L4"), None).source is ProfileSource.DEFAULT


def test_a_weaker_gpu_a_larger_model_and_wider_weights_are_estimated_slower() -> None:
    def base(model: str, gpu: str) -> float:
        return estimate_profile(model, gpu).coefficients.base_seconds

    assert base("gemma-2-2b", "Jetson-Orin-NX-16G") > base("gemma-2-2b", "L40S")
    assert base("gemma-2-9b", "L40S") > base("gemma-2-2b", "L40S")
    assert base("gemma-2-9b", "L4") > base("gemma-2-9b-GPTQ-int4", "L4")


def test_a_model_too_large_for_its_gpu_still_gets_some_kv_capacity() -> None:
    assert estimate_profile("Llama-3.1-70B", "T4").kv_capacity_tokens == 4_096


@pytest.mark.skipif(not SHARED_FITS.exists(), reason="needs the measured profiles of the shared data")
def test_estimates_are_near_measured_profiles() -> None:
    table = read_profiles(SHARED_FITS)

    def median_error(figure: Callable[[Profile], float]) -> float:
        return float(np.median([abs(figure(estimate_profile(p.model, p.gpu)) / figure(p) - 1) for p in table]))

    errors = {
        "c0": median_error(lambda profile: profile.coefficients.base_seconds),
        "c_ctx": median_error(lambda profile: profile.coefficients.per_context_token_seconds),
        "c_prefill": median_error(lambda profile: profile.coefficients.per_prefill_token_seconds),
        "c_seq": median_error(lambda profile: profile.coefficients.per_sequence_seconds),
        "KV capacity": median_error(lambda profile: profile.kv_capacity_tokens),
    }
    assert errors["c0"] < 0.08, errors
    assert errors["c_ctx"] < 0.05, errors
    assert errors["c_prefill"] < 0.20, errors
    assert errors["c_seq"] < 0.25, errors
    assert errors["KV capacity"] < 0.02, errors


COEFFICIENTS = IterationTimeCoefficients(0.01, 1e-4, 1e-7, 5e-5)


def capacity(**changes: float) -> float:
    values: dict[str, float] = {
        "prompt_tokens": 100,
        "output_tokens": 200,
        "token_seconds": 0.03,
        "maximum_running": 1_000,
        "kv_capacity_tokens": 0,
    }
    values.update(changes)
    return capacity_requests_per_second(
        COEFFICIENTS,
        prompt_tokens=values["prompt_tokens"],
        output_tokens=values["output_tokens"],
        token_seconds=values["token_seconds"],
        maximum_running=int(values["maximum_running"]),
        kv_capacity_tokens=int(values["kv_capacity_tokens"]),
    )


def test_capacity_follows_from_the_batch_that_keeps_the_limit() -> None:
    per_sequence = 1e-4 + 1e-7 * (100 + 100) + 5e-5 * 100 / 200
    running = (0.03 - 0.01) / per_sequence
    assert capacity() == pytest.approx(running / (200 * 0.03))


@pytest.mark.parametrize(
    ("changes", "running"),
    [
        ({"maximum_running": 10}, 10),
        ({"kv_capacity_tokens": 6_000}, 20),
        ({"token_seconds": 0.005}, 1),
        ({"kv_capacity_tokens": 10}, 1),
        ({"token_seconds": 0, "maximum_running": 500}, 500),
    ],
)
def test_capacity_is_bounded_by_batch_size_and_cache_but_never_below_one_request(
    changes: dict[str, float], running: float
) -> None:
    per_sequence = 1e-4 + 1e-7 * 200 + 2.5e-5
    assert capacity(**changes) == pytest.approx(running / (200 * (0.01 + running * per_sequence)))
