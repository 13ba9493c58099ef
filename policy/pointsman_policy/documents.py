"""Strict YAML documents: every mistake is reported with its place in the file and what was expected there."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from pointsman_policy.errors import DocumentError


class Document(BaseModel):
    """A part of a user's document: camelCase keys, unknown keys are errors, values are never coerced silently."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True, validate_default=True
    )


DocumentT = TypeVar("DocumentT", bound=Document)


def read_yaml(path: Path) -> list[Any]:
    """Return the YAML documents of a file; empty ones are left out.

    Raises:
        DocumentError: If the file cannot be read, is not UTF-8 or is not YAML.
    """
    try:
        return [document for document in yaml.safe_load_all(path.read_text("utf-8")) if document is not None]
    except OSError as error:
        raise DocumentError(
            str(path), f"cannot be read ({error.strerror}); check the path and its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise DocumentError(str(path), f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise DocumentError(str(path), f"is not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise DocumentError(str(path), "is nested too deeply to be read; flatten it") from None


def parse(model: type[DocumentT], value: object, source: str) -> DocumentT:
    """Check a value read from a file against a document model.

    Raises:
        DocumentError: Names every wrong field with its path, such as ``experts[0].endpoint``.
    """
    if not isinstance(value, dict):
        raise DocumentError(source, f"must be a mapping with the keys of {model.__name__}, not {type(value).__name__}")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise DocumentError(source, "; ".join(_describe(dict(item)) for item in error.errors())) from error


def _describe(item: dict[str, Any]) -> str:
    path = ""
    for step in item["loc"]:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else str(step)
    if item["type"] == "extra_forbidden":
        return f"{path}: unknown field; remove it or check its spelling"
    if item["type"] == "missing":
        return f"{path}: required field is missing"
    message = item["msg"].removeprefix("Value error, ")
    shown = item.get("input")
    if isinstance(shown, str | int | float | bool) and len(str(shown)) <= 60:
        return f"{path}: {message} (got {shown!r})" if path else f"{message} (got {shown!r})"
    return f"{path}: {message}" if path else message
