"""Versions of policies on the router's own disk, and what was last assigned, to go on without the policy service.

Of each policy there is a folder ``<namespace>/<name>``: ``assignment.json``, and a folder for each version, as
`pointsman_policy.registry.version` writes it. All of it can be fetched again.
"""

import json
import logging
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import Field

from pointsman_policy.documents import Document, parse
from pointsman_policy.errors import DocumentError
from pointsman_policy.experience.policy_key import policies_in, policy_folder
from pointsman_policy.registry.version import PolicyVersion, read_version

_LOGGER = logging.getLogger(__name__)

_SCHEMA = 1
_ASSIGNMENT = "assignment.json"
_UNFINISHED = "."


class VersionName(Document):
    """Names a version and its content."""

    version: str = Field(pattern="^[0-9a-f]{12}$")
    digest: str = Field(pattern="^[0-9a-f]{64}$")


class KeptAssignment(Document):
    """What runs for a policy; what ran before serves if that is damaged."""

    schema_version: int = _SCHEMA
    active: VersionName | None = None
    candidate: VersionName | None = None
    previous: VersionName | None = None
    canary_percent: int = Field(default=0, ge=0, le=100)
    exploration_percent: int = Field(default=0, ge=0, le=100)
    store_prompts: bool = False

    @property
    def versions(self) -> tuple[VersionName, ...]:
        """Those that it needs."""
        return tuple(one for one in (self.active, self.candidate, self.previous) if one is not None)


class KeptVersions:
    """The folder. Methods block on the disk; several routers must not share one.

    Args:
        folder: Made when needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def policies(self) -> list[str]:
        """Return the keys of the policies of which anything is kept."""
        return policies_in(self._folder)

    def read(self, policy: str, name: VersionName) -> PolicyVersion | None:
        """Return a version; None = it is not kept.

        Raises:
            DocumentError: If it is damaged, or is another one than its name says.
        """
        folder = policy_folder(self._folder, policy) / name.version
        return _read(folder, name) if folder.exists() else None

    def add(self, policy: str, name: VersionName, files: Mapping[str, bytes]) -> PolicyVersion:
        """Check a version and keep it; what was there of it is replaced.

        Args:
            policy: The policy's key.
            name: What the files must amount to.
            files: Content by path, as in `pointsman_policy.registry.version.FILES`.

        Raises:
            DocumentError: If the files are damaged, are another version, or are nothing that this program can run.
            OSError: If they cannot be written.
        """
        folder = policy_folder(self._folder, policy)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f"{_UNFINISHED}{name.version}-") as work:
            made = Path(work) / name.version
            for path, content in files.items():
                (made / path).parent.mkdir(parents=True, exist_ok=True)
                (made / path).write_bytes(content)
            version = _read(made, name)
            if (folder / name.version).exists():
                (folder / name.version).rename(Path(work) / "old")
            made.rename(folder / name.version)
        return version

    def assignment(self, policy: str) -> KeptAssignment:
        """Return what was last assigned to a policy; the packaged policy if that is not known.

        Raises:
            DocumentError: If what is kept of it cannot be read.
        """
        path = policy_folder(self._folder, policy) / _ASSIGNMENT
        try:
            value = json.loads(path.read_bytes())
        except FileNotFoundError:
            return KeptAssignment()
        except (OSError, ValueError, RecursionError) as error:
            raise DocumentError(str(path), "cannot be read; the policy service has to tell it again") from error
        if not isinstance(value, dict) or value.get("schemaVersion") != _SCHEMA:
            raise DocumentError(str(path), "is of another schema; the policy service has to tell it again")
        return parse(KeptAssignment, value, str(path))

    def keep(self, policy: str, assignment: KeptAssignment) -> None:
        """Note what is assigned to a policy, and delete its other versions.

        Raises:
            OSError: If that cannot be written.
        """
        folder = policy_folder(self._folder, policy)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=_UNFINISHED) as work:
            made = Path(work) / _ASSIGNMENT
            made.write_text(json.dumps(assignment.model_dump(mode="json", by_alias=True)) + "\n", "utf-8")
            made.replace(folder / _ASSIGNMENT)
        _delete_others(folder, {_ASSIGNMENT, *(one.version for one in assignment.versions)})


def _read(folder: Path, name: VersionName) -> PolicyVersion:
    version = read_version(folder)
    if version.digest != name.digest:
        raise DocumentError(
            str(folder), f"is another version than {name.version} (its digest is {version.digest}); fetch it again"
        )
    return version


def _delete_others(folder: Path, kept: Collection[str]) -> None:
    """Delete versions that nobody needs, and what a killed process left."""
    for path in folder.iterdir():
        if path.name not in kept:
            _LOGGER.debug("Deleting %s", path)
            shutil.rmtree(path, ignore_errors=True)
