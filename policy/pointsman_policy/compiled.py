"""Just-in-time compiled kernels, with a cache on disk that notices every change.

Pickers, dead reckoning and the simulator are written once, as plain functions over arrays, and run compiled in
serving and in simulation alike. Numba's own cache looks only at the file of the compiled function, not at what it
calls in other files; so the cache folder here is named after a digest of all the source that kernels are made of.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


WITHOUT_KERNELS = (
    "evaluation",
    "experience",
    "learning",
    "networks",
    "prediction",
    "registry",
    "retraining",
    "rollout",
    "service",
    "twin",
)
"""Folders of the package whose code no kernel is made of or calls."""


def _source_digest() -> str:
    digest = hashlib.sha256(numba.__version__.encode())
    package = Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] in WITHOUT_KERNELS:
            continue
        digest.update(f"{path.relative_to(package)} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _cache_folder() -> str:
    """Return a folder that only this user can write: cached kernels are code."""
    base = Path(os.environ.get("NUMBA_CACHE_DIR") or Path.home() / ".cache" / "pointsman" / "kernels")
    folder = base / _source_digest()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return str(folder)
    except OSError:  # a read-only file system: kernels are compiled at every start
        return tempfile.mkdtemp(prefix="pointsman-kernels-")


numba.config.CACHE_DIR = _cache_folder()  # type: ignore[attr-defined]


_UNCOUNTED: dict[str, Any] = {"cache": True, "error_model": "numpy", "_nrt": False}
"""Options of kernels that make no array; `_nrt`, numba's counting of references, has no stub."""


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function over arrays and scalars at its first call; raises inside it are errors of the caller.

    It is inlined into every kernel that calls it. It counts no references to arrays, which would take several times as
    long as what most kernels do: therefore it must neither make an array nor return one, but may look at parts of one.
    """
    return cast("Callable[P, R]", numba.njit(forceinline=True, **_UNCOUNTED)(function))


def subroutine(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function as `compiled` does, but to be called: for long work that would take long to compile twice."""
    return cast("Callable[P, R]", numba.njit(**_UNCOUNTED)(function))


def allocating(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function as `subroutine` does, but one that may make arrays and return them.

    Only kernels of pickers and other functions of this kind may call it.
    """
    return cast("Callable[P, R]", numba.njit(cache=True, error_model="numpy")(function))


class CompiledPointer(numba.types.WrapperAddressProtocol):
    """A kernel as a value: lets compiled code call whichever kernel it is given without being compiled for each.

    Args:
        function: A plain Python function that numba can compile.
        signature: Its numba signature.
    """

    def __init__(self, function: Callable[..., Any], signature: Any) -> None:
        self._signature = signature
        self.call = numba.njit(signature, cache=True, error_model="numpy")(function)

    def __wrapper_address__(self) -> int:
        overload = self.call.overloads[self._signature.args]
        return int(overload.library.get_pointer_to_function(overload.fndesc.llvm_cfunc_wrapper_name))

    def signature(self) -> Any:
        """Return the kernel's numba signature."""
        return self._signature
