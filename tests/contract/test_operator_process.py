"""The operator's process stays small: it needs no compiled kernels, and knows the pickers without loading them."""

import subprocess
import sys

from pointsman_operator.control.picker_names import picker_names
from pointsman_policy.pickers.registry import PICKERS

HEAVY = ("numba", "llvmlite", "torch", "scipy", "pandas", "pointsman_policy.simulator")


def test_the_names_read_from_the_files_are_those_of_the_pickers() -> None:
    assert picker_names() == PICKERS.keys()


def test_the_operator_imports_nothing_heavy() -> None:
    code = f"import sys, pointsman_operator.control.run; print([name for name in {HEAVY} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
