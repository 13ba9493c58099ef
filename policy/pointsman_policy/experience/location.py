"""Where a store is: one folder, and, where they are too many for it, an object store for the parts."""

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path

from pointsman_policy.documents import Document, parse
from pointsman_policy.errors import DocumentError
from pointsman_policy.experience.catalogue import Catalogue
from pointsman_policy.experience.errors import StoreInUseError
from pointsman_policy.experience.fleet import write_durably
from pointsman_policy.experience.parts import PartFolder
from pointsman_policy.experience.schema import LABELS, NAME_COLUMNS, OUTCOMES, SCHEMA_VERSION

_FILE, _LOCK = "store.json", "lock"


class _StoreDocument(Document):
    schema_version: int
    outcomes_url: str


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """Where a store is."""

    root: Path
    """Of the policy service: a folder on a local volume."""
    outcomes_url: str = ""
    """Of the parts, such as "s3://bucket/folder"; empty = in `root`."""

    @property
    def url(self) -> str:
        """Where the parts are."""
        return self.outcomes_url or str(self.root)

    def write(self) -> None:
        """Note in the root where the parts are, for processes that only know the root.

        Raises:
            DocumentError: If the root's store is of a newer version.
            OSError: If it cannot be written.
        """
        read_location(self.root)
        document = _StoreDocument(schema_version=SCHEMA_VERSION, outcomes_url=self.outcomes_url)
        write_durably(self.root / _FILE, document.model_dump_json(by_alias=True).encode())


def read_location(root: Path) -> StoreLocation:
    """Return where the store of a root is.

    Raises:
        DocumentError: If its note cannot be read or is of a newer version.
    """
    path = root / _FILE
    try:
        document = parse(_StoreDocument, json.loads(path.read_bytes()), str(path))
    except FileNotFoundError:
        return StoreLocation(root)
    except (OSError, ValueError) as error:
        raise DocumentError(str(path), f"cannot be read ({error}); remove it and start the service again") from error
    if document.schema_version > SCHEMA_VERSION:
        raise DocumentError(
            str(path),
            f"is of schema {document.schema_version}, here schemas up to {SCHEMA_VERSION} are known; update Pointsman",
        )
    return StoreLocation(root, document.outcomes_url)


def outcomes_catalogue(location: StoreLocation) -> Catalogue:
    """Return the parts of outcomes, not looked for yet."""
    return Catalogue(PartFolder(location.url, "outcomes"), OUTCOMES, "decided_at", NAME_COLUMNS)


def labels_catalogue(location: StoreLocation) -> Catalogue:
    """Return the parts of labels, not looked for yet."""
    return Catalogue(PartFolder(location.url, "labels"), LABELS, "labelled_at", ())


def lock_root(root: Path) -> int:
    """Take a root for this process alone, until it ends or closes the file that is returned.

    Raises:
        StoreInUseError: If another process has it.
        OSError: If it cannot be written to.
    """
    file = os.open(root / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise StoreInUseError(
            f"{root}: another process has this store; stop the other `pointsman policy`, or give another --root"
        ) from error
    return file
