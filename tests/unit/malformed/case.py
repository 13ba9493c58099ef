"""One malformed input, and what it means to try it."""

import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Case:
    """A row of the table."""

    wrong: str
    """What is wrong with the input, in a few words."""
    given: Any
    """The input, as its surface takes it."""
    sees: str
    """What the user gets, word for word; "…" stands for words that belong to a library."""

    def fits(self, seen: str) -> bool:
        """Tell whether this is what was to be seen."""
        return re.fullmatch(".*".join(map(re.escape, self.sees.split("…"))), seen, re.DOTALL) is not None


@dataclass(frozen=True)
class Trial:
    """A running part of the product that takes inputs."""

    give: Callable[[Any], Awaitable[str]]
    """Hand it a malformed input; returns what the user sees."""
    works: Callable[[], Awaitable[None]]
    """Assert that a good input has its effect, and that nothing of a malformed one is left."""


@dataclass(frozen=True)
class Surface:
    """A place where inputs come in."""

    name: str
    where: str
    """Where its errors are seen, and what goes on meanwhile: a sentence or two of Markdown."""
    trial: Callable[[Path], AbstractAsyncContextManager[Trial]]
    """Start what takes the inputs; files go into the folder given."""
    cases: tuple[Case, ...]


def without_folder(text: str, folder: Path) -> str:
    """Return a message with the names of files as a user would give them."""
    return text.replace(f"{folder}/", "")


def write(path: Path, content: str | bytes) -> None:
    """Write a file as it is."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
