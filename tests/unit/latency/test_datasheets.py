import pytest

from pointsman_policy.latency.datasheets import GPUS, canonical_gpu, canonical_model, find_gpu, find_model


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA-A100-SXM4-80GB", "A100-SXM-80G"),
        ("NVIDIA-A100-PCIE-40GB", "A100-40G"),
        ("NVIDIA-H100-80GB-HBM3", "H100-SXM-80G"),
        ("NVIDIA-GeForce-RTX-4090", "RTX4090"),
        ("NVIDIA-RTX-6000-Ada-Generation", "RTX6000-Ada"),
        ("Tesla-T4", "T4"),
        ("l40s", "L40S"),
        ("L4", "L4"),
        ("A10", "A10"),
        ("A100", "A100-40G"),
        ("Jetson-Orin-NX-16G", "Jetson-Orin-NX-16G"),
    ],
)
def test_gpus_are_known_by_the_names_that_people_and_nodes_use(name: str, expected: str) -> None:
    gpu = find_gpu(name)
    assert gpu is not None
    assert gpu.name == expected


@pytest.mark.parametrize("name", ["", "A100X", "T400", "MI300X", "cpu"])
def test_another_gpu_is_not_mistaken_for_a_known_one(name: str) -> None:
    assert find_gpu(name) is None


def test_each_gpu_has_a_name_of_its_own() -> None:
    assert len({canonical_gpu(gpu.name) for gpu in GPUS}) == len(GPUS)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("gemma-2-2b-it", "gemma-2-2b"),
        ("Llama-2-13b-chat-hf", "llama-2-13b"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral-7b-v0.3"),
    ],
)
def test_marks_of_owner_and_tuning_do_not_matter(name: str, expected: str) -> None:
    assert canonical_model(name) == expected


@pytest.mark.parametrize(
    ("name", "billions", "gigabytes"),
    [
        ("Phi-3.5-mini-instruct", 3.82, 7.64),
        ("Qwen2.5-7B-Instruct-AWQ", 7.62, 7.62 * 0.56),
        ("Llama-3.1-8B-FP8", 8.03, 8.03),
        ("Llama-2-13b-chat-hf", 13, 26),
        ("Mixtral-8x7B-Instruct-v0.1", 56, 112),
        ("opt-350m", 0.35, 0.7),
    ],
)
def test_a_models_size_is_listed_or_read_from_its_name(name: str, billions: float, gigabytes: float) -> None:
    size = find_model(name)
    assert size is not None
    assert size.parameters == pytest.approx(billions * 1e9)
    assert size.weight_bytes == pytest.approx(gigabytes * 1e9)
    assert size.kv_bytes_per_token > 0


@pytest.mark.parametrize("name", ["", "house-model", "v2b3", "0b"])
def test_a_name_without_a_size_gives_none(name: str) -> None:
    assert find_model(name) is None
