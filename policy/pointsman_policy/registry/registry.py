"""The registry: every version of every policy that there is, ``versions/<namespace>/<name>/<version>/`` on the volume.

Versions are never changed, only added as a whole and deleted. A damaged one stays where people can look at it, is shown
with what is wrong, and is never given out.
"""

import os
import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pointsman_policy.errors import DocumentError
from pointsman_policy.experience.policy_key import policy_folder
from pointsman_policy.registry.version import FILES, GateReport, PolicyVersion, copy_version, read_gate, read_version

KEPT_VERSIONS: Final = 20
"""Of each policy, beside those in use."""

_VERSION = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """A version as it is found."""

    name: str
    digest: str = ""
    created_at: float = 0.0
    """Unix seconds; of a damaged one, when its folder was made."""
    parent: str = ""
    outcomes: int = 0
    gate: GateReport | None = None
    problem: str = ""
    """Why it cannot be used; empty = it can."""


class Registry:
    """Versions on a volume.

    Args:
        root: Of the policy service.
    """

    def __init__(self, root: Path) -> None:
        self._root = root / "versions"

    def folder(self, policy: str, version: str) -> Path:
        """Return where a version is, or would be.

        Raises:
            DocumentError: If the policy's key or the version's name is none.
        """
        if not _VERSION.fullmatch(version):
            raise DocumentError(
                f"version {version[:80]!r}", "must be 12 hexadecimal digits; see `pointsman policies list`"
            )
        return policy_folder(self._root, policy) / version

    def add(self, policy: str, source: Path) -> PolicyVersion:
        """Copy a version into the registry, durably and in one step; one that is there is left alone.

        Args:
            policy: Key of the policy that it must be for.
            source: Its folder.

        Raises:
            DocumentError: If it is damaged, for another policy, or cannot be copied.
        """
        version = read_version(source)
        if version.policy != policy:
            raise DocumentError(str(source), f"is a version for policy {version.policy}, not for {policy}")
        target = self.folder(policy, version.version)
        added = copy_version(source, target)
        _sync_tree(target)
        return added

    def read(self, policy: str, version: str) -> PolicyVersion:
        """Read a version.

        Raises:
            DocumentError: If there is none of that name, or it is damaged or of a newer schema.
        """
        found = read_version(self.folder(policy, version))
        if found.version != version or found.policy != policy:
            raise DocumentError(
                str(self.folder(policy, version)), f"holds version {found.version} of {found.policy}; remove it"
            )
        return found

    def contains(self, policy: str, version: str) -> bool:
        """Tell whether there is such a version, usable or not."""
        return self.folder(policy, version).is_dir()

    def gate(self, policy: str, version: str) -> GateReport | None:
        """Return the verdict on a version; None = there is none.

        Raises:
            DocumentError: If it is damaged.
        """
        return read_gate(self.folder(policy, version))

    def files(self, policy: str, version: str) -> list[tuple[str, bytes]]:
        """Return the files of a version, each with its path inside the version.

        Raises:
            DocumentError: If there is none of that name, or it is damaged or of a newer schema.
        """
        self.read(policy, version)
        folder = self.folder(policy, version)
        return [(name, (folder / name).read_bytes()) for name in FILES if (folder / name).is_file()]

    def listed(self, policy: str) -> list[ListedVersion]:
        """Return all versions of a policy, newest first; damaged ones too.

        Raises:
            DocumentError: If the policy's key is none.
        """
        folder = policy_folder(self._root, policy)
        names = [path.name for path in folder.glob("*") if _VERSION.fullmatch(path.name)] if folder.is_dir() else []
        found = [self._listed(policy, name) for name in names]
        return sorted(found, key=lambda one: (-one.created_at, one.name))

    def prune(self, policy: str, in_use: Collection[str]) -> list[str]:
        """Delete old versions, and what a crash left of versions that were being added.

        Args:
            policy: Its key.
            in_use: Versions that are kept in any case.

        Returns:
            The versions that are gone.

        Raises:
            DocumentError: If the policy's key is none.
        """
        folder = policy_folder(self._root, policy)
        for unfinished in folder.glob(".*") if folder.is_dir() else ():
            shutil.rmtree(unfinished, ignore_errors=True)
        old = [one.name for one in self.listed(policy) if one.name not in in_use][KEPT_VERSIONS:]
        for name in old:
            shutil.rmtree(folder / name, ignore_errors=True)
        return old

    def _listed(self, policy: str, name: str) -> ListedVersion:
        folder = self.folder(policy, name)
        try:
            version = self.read(policy, name)
            gate = read_gate(folder)
        except DocumentError as error:
            return ListedVersion(name, created_at=_made_at(folder), problem=str(error))
        return ListedVersion(name, version.digest, version.created_at, version.parent, version.outcomes, gate)


def _made_at(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def _sync_tree(folder: Path) -> None:
    """Wait until a folder and everything in it is on disk."""
    for path in (*folder.rglob("*"), folder, folder.parent):
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise DocumentError(str(path), f"cannot be written ({error.strerror}); free space on the volume") from error
