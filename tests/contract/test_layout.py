"""Where things are: three import roots, what the wheel holds, and nothing of one machine in the repository."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMPORT_ROOTS = ("operator/pointsman_operator", "policy/pointsman_policy", "proto/pointsman")

BINARY = (".png", ".safetensors")
HOSTS = (
    "arxiv.org",
    "github.com",
    "json-schema.org",
    "keepachangelog.com",
    "semver.org",
    "www.apache.org",
    "www.w3.org",
)
"""The only hosts that links may name; every other URL is a placeholder or an address of the machine that runs it."""
PLACEHOLDER = re.compile(
    r"(\{.*|%s.*|p|prometheus|ip|me:secret@prometheus|localhost|127\\?\.0\\?\.0\\?\.\d+|10(\.\d+){3}|\[.*)(:\S*)?"
)
UNFINISHED = re.compile(r"T[O]DO|F[I]XME|\bX[X]X\b")
MACHINE_PATH = re.compile(r"(?<![\w.~$}])/(work|root|home|Users|mnt|srv)/\w")


def test_the_import_roots_are_packages_and_their_folders_are_not() -> None:
    for package in IMPORT_ROOTS:
        assert (ROOT / package / "__init__.py").is_file()
        assert (ROOT / package / "py.typed").is_file()
        assert not (ROOT / package).parent.joinpath("__init__.py").exists()
    found = {str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/*/__init__.py") if path.parts[-3] != ".venv"}
    assert found == set(IMPORT_ROOTS)


def test_the_folder_operator_does_not_shadow_pythons_module() -> None:
    code = "import operator; assert operator.add(1, 1) == 2"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_every_folder_of_modules_is_a_package() -> None:
    for package in IMPORT_ROOTS:
        folders = {path.parent for path in (ROOT / package).rglob("*.py")}
        assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_the_wheel_holds_the_packages_with_their_data_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = [Path(name) for name in zipfile.ZipFile(wheel).namelist()]
    tops = {name.parts[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {Path(one).name for one in IMPORT_ROOTS}
    for package in IMPORT_ROOTS:
        expected = {
            path.relative_to((ROOT / package).parent)
            for path in (ROOT / package).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        packed = {name for name in names if name.parts[0] == Path(package).name}
        assert packed == expected
    assert {name.suffix for name in names} >= {".lua", ".yaml", ".csv", ".proto", ".pyi"}
    metadata = zipfile.ZipFile(wheel).read(next(str(name) for name in names if name.name == "METADATA")).decode()
    assert "License-Expression: Apache-2.0" in metadata


def _tracked_texts() -> list[tuple[Path, str]]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    texts = []
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file() and path.suffix not in BINARY:
            texts.append((Path(name), path.read_text("utf-8")))
    return texts


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (UNFINISHED, "finish it, or open an issue"),
        (MACHINE_PATH, "a path of one machine; take it from an argument or the environment"),
    ],
    ids=["unfinished", "machine path"],
)
def test_tracked_files_are_free_of(pattern: re.Pattern[str], why: str) -> None:
    found = [
        f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {match.group()!r}"
        for path, text in _tracked_texts()
        for match in pattern.finditer(text)
    ]
    assert not found, why


def test_links_name_known_hosts_only() -> None:
    found = {
        (str(path), host)
        for path, text in _tracked_texts()
        for host in re.findall(r"https?://([^/\s\"'`<>)]+)", text)
        if host not in HOSTS and not PLACEHOLDER.fullmatch(host)
    }
    assert not found, "no host of one network belongs here; a public one is added to HOSTS"
