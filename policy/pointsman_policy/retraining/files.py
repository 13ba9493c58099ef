"""Documents in a work folder: each is there whole, or not at all."""

import json
from pathlib import Path
from typing import TypeVar

from pointsman_policy.documents import Document, parse
from pointsman_policy.errors import DocumentError

DocumentT = TypeVar("DocumentT", bound=Document)


def read_document(model: type[DocumentT], path: Path) -> DocumentT | None:
    """Return a document; None = it is not there yet.

    Raises:
        DocumentError: If it cannot be read or is damaged.
    """
    try:
        return parse(model, json.loads(path.read_bytes()), str(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DocumentError(str(path), f"cannot be read ({error}); remove the work folder and train anew") from error


def write_document(path: Path, document: Document) -> None:
    """Write a document in one step.

    Raises:
        OSError: If it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(document.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path)
