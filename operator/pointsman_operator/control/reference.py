"""The field reference in ``docs/routerpolicy.md``, generated from the CRD between two markers.

``python -m pointsman_operator.control.reference PAGE`` brings a page up to date; what people wrote around the markers
stays.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from pointsman_operator.control.crd import custom_resource_definition
from pointsman_operator.control.schema import Schema

BEGIN = "<!-- generated from the CRD by `make manifests`: begin -->\n"
END = "<!-- generated from the CRD by `make manifests`: end -->\n"


def with_reference(page: str) -> str:
    """Return a page with the reference between its markers replaced.

    Raises:
        ValueError: If a marker is missing.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks a marker; write these two lines where the reference belongs:\n{BEGIN}{END}")
    return f"{before}{BEGIN}\n{reference()}\n{END}{after}"


def reference() -> str:
    """Return the tables of all fields of spec and status."""
    (version,) = custom_resource_definition()["spec"]["versions"]
    properties = version["schema"]["openAPIV3Schema"]["properties"]
    return "\n\n".join(section for part in ("spec", "status") for section in _sections(part, properties[part]))


def _sections(path: str, schema: Schema) -> Iterator[str]:
    required = schema.get("required", ())
    rows = [_row(name, field, required=name in required) for name, field in schema["properties"].items()]
    table = ["| field | type | default | meaning |", "|---|---|---|---|", *rows]
    yield f"### `{path}`\n\n{_escape(schema['description'])}\n\n" + "\n".join(table)
    for name, field in schema["properties"].items():
        inner, step = (field["items"], f"{name}[]") if field["type"] == "array" else (field, name)
        if "properties" in inner:
            yield from _sections(f"{path}.{step}", inner)


def _row(name: str, field: Schema, *, required: bool) -> str:
    default = field.get("default")
    shown = "**required**" if required else "" if default in (None, {}) else f"`{_flow(default)}`"
    return f"| `{name}` | {_type(field)} | {shown} | {_escape(field['description'])}{_values(field)} |"


def _type(field: Schema) -> str:
    if field["type"] == "array":
        return f"list of {_type(field['items'])}s"
    if "additionalProperties" in field:
        return f"map of {_type(field['additionalProperties'])}s"
    return str(field["type"])


def _values(field: Schema) -> str:
    """Return what is allowed, as far as the description cannot be trusted to say it."""
    if "enum" in field:
        return f" One of {', '.join(f'`{value}`' for value in field['enum'])}."
    return ""


def _flow(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1_000).removesuffix("\n").removesuffix("\n...")


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_reference(path.read_text("utf-8")), "utf-8")
