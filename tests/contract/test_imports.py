"""What may import what: the router's image needs no torch and no simulator, layers hold, dependencies are declared."""

import ast
import functools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMPORT_ROOTS = ("operator/pointsman_operator", "policy/pointsman_policy", "proto/pointsman")

NOT_IN_THE_ROUTERS_IMAGE = re.compile(
    r"pointsman_policy\.(simulator|evaluation|networks|learning|twin|retraining|service|prediction\.fitting)\b"
    r"|pointsman_policy\.experience\.(?!packed_state$|prompt_features$)"
    r"|pointsman_operator\.(demo\b|cli\.(bench_|predictor_))"
)
BLOCKED = (
    "torch",
    "torch_geometric",
    "pyarrow",
    "matplotlib",
    "sklearn",
    "gymnasium",
    "envoy",
    "pointsman_policy.simulator",
    "pointsman_policy.networks",
    "pointsman_policy.learning",
    "pointsman_policy.evaluation",
    "pointsman_policy.twin",
    "pointsman_policy.retraining",
    "pointsman_policy.service",
)
IMPORT_ALL = """
import importlib, sys

blocked, modules = (text.split(",") for text in sys.argv[1:])

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if any(name == one or name.startswith(one + ".") for one in blocked):
            raise ImportError(f"{name} is not in this image")
        return None

sys.meta_path.insert(0, Blocker())
for module in modules:
    try:
        importlib.import_module(module)
    except Exception as error:
        print(f"{module}: {error!r}")
"""

EXTRAS = {
    "pointsman_operator.demo": ("operator", "simulator", "demo"),
    "pointsman_operator.cli.bench": ("operator", "simulator", "demo"),
    "pointsman_operator": ("operator",),
    "pointsman_policy.simulator": ("simulator",),
    "pointsman_policy.evaluation": ("simulator", "policy"),
    "pointsman_policy.learning.on_ray": ("ray",),
    "pointsman_policy.learning": ("simulator", "policy"),
    "pointsman_policy.networks": ("policy",),
    "pointsman_policy.experience": ("simulator", "policy"),
    "pointsman_policy.twin": ("simulator", "policy"),
    "pointsman_policy.retraining": ("simulator", "policy"),
    "pointsman_policy.service": ("simulator", "policy"),
    "pointsman_policy.prediction.fitting": ("policy",),
    "pointsman_policy": (),
    "pointsman": ("operator",),
}
"""Which extras of the distribution each part may rely on; the first one that fits counts."""


def modules() -> Iterator[tuple[str, Path]]:
    for package in IMPORT_ROOTS:
        folder = (ROOT / package).parent
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join(part for part in parts if part != "__init__"), path


def test_the_routers_image_needs_neither_torch_nor_the_simulator() -> None:
    names = [name for name, _ in modules() if not NOT_IN_THE_ROUTERS_IMAGE.match(name)]
    assert "pointsman_operator.cli.main" in names
    command = [sys.executable, "-c", IMPORT_ALL, ",".join(BLOCKED), ",".join(names)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


def test_the_layers_hold() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def test_no_module_uses_what_another_keeps_to_itself() -> None:
    found = [f"{name} imports {imported}" for name, path in modules() for imported in _private_imports(path)]
    assert found == []


@pytest.mark.parametrize("part", EXTRAS)
def test_every_package_that_is_imported_is_declared(part: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = _names(project["dependencies"])
    for extra in EXTRAS[part]:
        declared |= _names(project["optional-dependencies"][extra])
    known = packages_distributions()
    missing = {
        (name, top)
        for name, path in modules()
        if next(one for one in EXTRAS if name.startswith(one)) == part
        for top in {imported.partition(".")[0] for imported in _imports(path)}
        if top not in sys.stdlib_module_names and not top.startswith("pointsman")
        if not declared & {_normal(distribution) for distribution in known.get(top, [top])}
    }
    assert missing == set()


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def _private_imports(path: Path) -> Iterator[str]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pointsman"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names if alias.name.startswith("_"))


def _names(requirements: list[str]) -> set[str]:
    return {_normal(re.split(r"[^\w.-]", requirement)[0]) for requirement in requirements}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
