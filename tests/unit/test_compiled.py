import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from pointsman_policy import compiled
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.simulator.simulation import Fleet, Requests, simulate
from pointsman_policy.state import empty_state


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the package's sources, which the digest is then taken of."""
    copy = tmp_path / "package"
    shutil.copytree(Path(compiled.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__", "data"))
    monkeypatch.setattr(compiled, "__file__", str(copy / "compiled.py"))
    return copy


def test_a_change_in_any_source_file_changes_the_cache_folder(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(package.parent / "cache"))
    before = compiled._cache_folder()
    assert compiled._cache_folder() == before
    for name in ("ledger.py", "latency/impact.py", "pickers/picker.py"):
        source = package / name
        source.write_text(source.read_text() + "\n# changed\n")
        after = compiled._cache_folder()
        assert after != before
        before = after


@pytest.mark.parametrize("folder", compiled.WITHOUT_KERNELS)
def test_folders_left_out_of_the_digest_compile_nothing(folder: str) -> None:
    for path in (Path(compiled.__file__).parent / folder).rglob("*.py"):
        text = path.read_text("utf-8")
        assert "pointsman_policy.compiled" not in text, path
        assert "import numba" not in text, path


def test_a_new_source_file_changes_the_cache_folder(package: Path) -> None:
    before = compiled._source_digest()
    (package / "pickers" / "new_rule.py").write_text("")
    assert compiled._source_digest() != before


def test_what_is_no_source_leaves_the_cache_folder(package: Path) -> None:
    before = compiled._source_digest()
    (package / "notes.txt").write_text("not code")
    assert compiled._source_digest() == before


def test_the_cache_is_for_its_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    folder = Path(compiled._cache_folder())
    assert folder.parent == tmp_path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_written_is_replaced_by_a_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("a file where the folder should be")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    folder = Path(compiled._cache_folder())
    try:
        assert tmp_path not in folder.parents
        assert os.access(folder, os.W_OK)
    finally:
        folder.rmdir()


def test_a_kernel_called_through_its_pointer_answers_as_called_directly() -> None:
    rng = np.random.default_rng(0)
    count, experts = 60, 4
    coefficients = np.full((experts, 4), 1e-9)
    coefficients[:, 0] = 1e-6  # so fast that every request finds all experts idle
    qualities = rng.random((count, experts)).astype(np.float32)
    requests = Requests(
        arrival_at=np.arange(count, dtype=np.float64),
        prompt_tokens=np.full(count, 10),
        output_tokens=np.full((count, experts), 5),
        predicted_quality=qualities,
        predicted_output_tokens=np.full((count, experts), 5, np.float32),
        objectives=np.zeros((count, 3)),
        priority=np.zeros(count, np.int64),
        quality_floor=0.0,
    )
    fleet = Fleet(coefficients, coefficients, np.zeros(experts), np.full(experts, 8), np.full(experts, 0.5))
    uniforms = np.random.default_rng(3).random(count)
    for name in ("QualityFirst", "Random", "PowerOfTwo"):
        run = simulate(fleet, requests, PICKERS[name], np.random.default_rng(3))
        for i in range(count):
            state = empty_state(experts)
            state.allowed[:] = True
            state.candidate["predicted_quality"] = qualities[i]
            assert run.expert[i] == PICKERS[name].pick(state, float(uniforms[i])).expert
