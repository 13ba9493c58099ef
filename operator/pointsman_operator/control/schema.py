"""Structural schemas for the API server, from the models that check the same documents here.

Names, bounds, patterns, enums and defaults come from the models, descriptions from their docstrings. Cross-field rules
stay out: as CEL they would shut out old clusters, and ``oneOf`` answers with messages that help nobody; the admission
webhook and the status speak of them instead.
"""

import ast
import inspect
from functools import cache
from types import ModuleType
from typing import Any

from pointsman_policy.documents import Document

Schema = dict[str, Any]

_KEPT = ("enum", "minimum", "maximum", "minLength", "maxLength", "pattern", "minItems", "maxItems", "minProperties")
_LARGEST_INT32 = 2**31 - 1


def structural_schema(model: type[Document], description: str) -> Schema:
    """Return the schema of a document as apiextensions.k8s.io/v1 takes it.

    Args:
        model: The document's model; every field must have a docstring.
        description: Of the document as a whole.

    Raises:
        LookupError: If a field has no docstring.
        NotImplementedError: If a field's type has no counterpart in a structural schema.
    """
    generated = model.model_json_schema(by_alias=True)
    return _object(model, generated, generated.get("$defs", {}), description)


def _object(model: type[Document], generated: Schema, definitions: Schema, description: str) -> Schema:
    properties: Schema = {}
    for name, field in model.model_fields.items():
        alias = str(field.alias)
        text = _docstrings(inspect.getmodule(model)).get((model.__name__, name))
        if text is None:
            raise LookupError(f"{model.__name__}.{name} has no docstring; write below it what it means")
        properties[alias] = _value(model, generated["properties"][alias], definitions, text)
    schema: Schema = {"description": description, "type": "object", "properties": properties}
    if required := [name for name in generated.get("required", ()) if not properties[name].get("default")]:
        schema["required"] = required
    return schema


def _value(owner: type[Document], part: Schema, definitions: Schema, description: str) -> Schema:
    part = _without_null(part)
    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        model = _model(owner, name)
        fullest = max(description, _one_line(inspect.getdoc(model) or ""), key=len)
        inner = _object(model, definitions[name], definitions, fullest)
        # The defaults of what is inside are filled in by the API server, once there is an object to fill.
        return inner | ({"default": {}} if "default" in part else {})
    schema = {"description": description, **_plain(owner, part, definitions)}
    if part.get("default") not in (None, "", [], {}):
        schema["default"] = part["default"]
    return schema


def _plain(owner: type[Document], part: Schema, definitions: Schema) -> Schema:
    """Return the schema of a value without its description and default."""
    kept = {key: part[key] for key in (*_KEPT, "format") if key in part}
    kind = part.get("type") or ("string" if "const" in part else None)
    if kind == "string":
        return {"type": "string", **({"enum": [part["const"]]} if "const" in part else {}), **kept}
    if kind == "boolean":
        return {"type": "boolean"}
    if kind == "integer":
        narrow = kept.get("maximum", _LARGEST_INT32 + 1) <= _LARGEST_INT32
        return {"type": "integer", "format": "int32" if narrow else "int64", **kept}
    if kind == "array":
        return {"type": "array", "items": _item(owner, part["items"], definitions), **kept}
    if kind == "object" and isinstance(part.get("additionalProperties"), dict):
        return {
            "type": "object",
            "additionalProperties": _plain(owner, part["additionalProperties"], definitions),
            **kept,
        }
    raise NotImplementedError(f"no structural schema for {part} in {owner.__name__}")


def _item(owner: type[Document], part: Schema, definitions: Schema) -> Schema:
    if "$ref" not in part:
        return _plain(owner, part, definitions)
    name = part["$ref"].rpartition("/")[2]
    model = _model(owner, name)
    return _object(model, definitions[name], definitions, _one_line(inspect.getdoc(model) or ""))


def _without_null(part: Schema) -> Schema:
    """Return the one alternative that is not null; absent is how a document says null."""
    if "anyOf" not in part:
        return part
    (other,) = [one for one in part["anyOf"] if one.get("type") != "null"]
    return {**part, **other} if part.get("default") is not None else dict(other)


def _model(owner: type[Document], name: str) -> type[Document]:
    found: type[Document] = getattr(inspect.getmodule(owner), name)
    return found


@cache
def _docstrings(module: ModuleType | None) -> dict[tuple[str, str], str]:
    """Return the strings below the fields of a module's classes, by class and field, each as one line."""
    if module is None:
        return {}
    found = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for field, below in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                found[node.name, field.target.id] = _one_line(below.value.value)
    return found


def _one_line(docstring: str) -> str:
    return " ".join(docstring.split()).replace("``", "`")
