"""Files that change all at once: a folder of links into a hidden folder, which one rename replaces.

It is how a kubelet lays out ConfigMaps and Secrets, so programs that watch ``..data`` see what they expect.
"""

import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CURRENT = "..data"


@dataclass(frozen=True)
class File:
    """What a file holds, and its permission bits."""

    content: bytes
    mode: int = 0o644


class AtomicFolder:
    """A folder whose files are replaced together."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written: Mapping[str, File] | None = None

    def write(self, files: Mapping[str, File]) -> bool:
        """Make the folder hold exactly these files (by relative path); return whether that changed anything."""
        if files == self._written:
            return False
        fresh = self.folder / f"..{secrets.token_hex(6)}"
        fresh.mkdir(parents=True)
        for name, file in files.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content)
            path.chmod(file.mode)
        self._make_current(fresh)
        self._link({Path(name).parts[0] for name in files})
        self._written = dict(files)
        return True

    def _make_current(self, fresh: Path) -> None:
        current = self.folder / CURRENT
        stale = current.resolve() if current.is_symlink() else None
        link = self.folder / "..data_new"
        link.symlink_to(fresh.name)
        link.replace(current)
        if stale is not None:
            shutil.rmtree(stale, ignore_errors=True)

    def _link(self, names: set[str]) -> None:
        present = {path.name for path in self.folder.iterdir() if not path.name.startswith("..")}
        for name in present - names:
            (self.folder / name).unlink()
        for name in names - present:
            (self.folder / name).symlink_to(f"{CURRENT}/{name}")
