"""The names of all pickers, without loading them: their kernels would cost the operator 150 MB that it never uses."""

import ast
import pkgutil
from pathlib import Path

from pointsman_policy import pickers


def picker_names() -> frozenset[str]:
    """Return the names of the pickers in this image.

    A module of ``pointsman_policy.pickers`` that defines `PICKER` is a picker, named like its module.
    """
    return frozenset(
        "".join(word.title() for word in info.name.split("_"))
        for info in pkgutil.iter_modules(pickers.__path__)
        if _is_picker(Path(pickers.__path__[0], f"{info.name}.py"))
    )


def _is_picker(path: Path) -> bool:
    return any(
        isinstance(target, ast.Name) and target.id == "PICKER"
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.Assign)
        for target in node.targets
    )
