"""Strict YAML documents: every mistake is reported with its place in the file and what was expected there."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

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

_PATTERNS_IN_WORDS = {r"^\S+$": "must be at least one character, without spaces"}


def name_pattern(longest: int) -> str:
    """Return the pattern of names as Kubernetes takes them, of at most `longest` characters, for a field of a model."""
    pattern = rf"^[a-z0-9]([-a-z0-9.]{{0,{longest - 2}}}[a-z0-9])?$"
    _PATTERNS_IN_WORDS[pattern] = (
        f"must be 1 to {longest} lower-case letters, digits, '-' or '.', with a letter or digit at both ends"
    )
    return pattern


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
        raise DocumentError(str(path), f"is not valid YAML{_describe_yaml(error)}") from error
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
        items = [dict(item) for item in error.errors()]
        problems = [_describe(model, item) for item in items if not _follows_from_others(item, items)]
        raise DocumentError(source, "; ".join(problems)) from error


def _describe_yaml(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f" at line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return f": {' '.join(str(error).split())}"


def _follows_from_others(item: dict[str, Any], items: Sequence[dict[str, Any]]) -> bool:
    """Tell whether a list is said to be too short only because its items are wrong."""
    place = item["loc"]
    return item["type"] == "too_short" and any(
        len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in items
    )


def _describe(model: type[Document], item: dict[str, Any]) -> str:
    path = ""
    for step in item["loc"]:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else str(step)
    if item["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(item["loc"][-1]), _fields_at(model, item["loc"][:-1]), n=1)
        return f"{path}: unknown field; {f'did you mean {close[0]}?' if close else 'remove it or check its spelling'}"
    if item["type"] == "missing":
        return f"{path}: required field is missing"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "string_pattern_mismatch":
        message = _PATTERNS_IN_WORDS.get(item["ctx"]["pattern"], message)
    shown = item.get("input")
    if isinstance(shown, str | int | float | bool) and len(str(shown)) <= 60:
        return f"{path}: {message} (got {shown!r})" if path else f"{message} (got {shown!r})"
    return f"{path}: {message}" if path else message


def _fields_at(model: type[Document], path: Sequence[str | int]) -> list[str]:
    """Return the fields that may stand where a path leads."""
    for step in path:
        if isinstance(step, str):
            inner = next(
                (_document_in(one.annotation) for one in model.model_fields.values() if one.alias == step), None
            )
            if inner is None:
                return []
            model = inner
    return [str(field.alias) for field in model.model_fields.values()]


def _document_in(annotation: object) -> type[Document] | None:
    """Return the document model of a field's type, whatever is around it."""
    if get_origin(annotation) is None:
        return annotation if isinstance(annotation, type) and issubclass(annotation, Document) else None
    return next((found for inner in get_args(annotation) if (found := _document_in(inner))), None)
