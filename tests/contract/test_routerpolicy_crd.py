"""The CRD and its reference are what the models say, and nothing in the CRD is newer than Kubernetes 1.20."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import Field

from pointsman_operator.control.crd import crd_yaml, custom_resource_definition
from pointsman_operator.control.reference import with_reference
from pointsman_operator.control.schema import structural_schema
from pointsman_operator.routerpolicy import parse_policy
from pointsman_policy.documents import Document
from pointsman_policy.pickers.registry import PICKERS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/routerpolicy.md"
KNOWN_TO_1_20 = {
    *("type", "format", "description", "default", "enum", "pattern", "properties", "required", "items"),
    *("additionalProperties", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties"),
    *("x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type"),
}


def _version() -> dict[str, Any]:
    (version,) = custom_resource_definition()["spec"]["versions"]
    return dict(version)


def _fields(path: str, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from _fields(f"{path}.{name}", field)
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from _fields(f"{path}[]", schema[key])


FIELDS = dict(_fields("", _version()["schema"]["openAPIV3Schema"]))


def test_the_committed_crd_is_what_the_models_generate() -> None:
    committed = (ROOT / "manifests/crd/routerpolicies.pointsman.io.yaml").read_text()
    assert committed == crd_yaml(), "run `make manifests` and commit the CRD"
    assert yaml.safe_load(committed) == custom_resource_definition()


def test_the_reference_in_the_docs_is_what_the_crd_says() -> None:
    page = PAGE.read_text()
    assert page == with_reference(page), "run `make manifests` and commit docs/routerpolicy.md"
    assert all(f"### `{part}`" in page for part in ("spec", "spec.picker", "status", "status.conditions[]"))


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks a marker"):
        with_reference("# RouterPolicy\n")


def test_every_field_is_described_and_typed() -> None:
    bare = [path for path, field in FIELDS.items() if not path.endswith("[]") and not field.get("description")]
    assert bare == [".metadata"]
    assert {field["type"] for field in FIELDS.values()} == {"object", "string", "integer", "boolean", "array"}
    assert len(FIELDS) > 50


def test_the_schema_uses_nothing_that_kubernetes_1_20_lacks() -> None:
    assert {key for field in FIELDS.values() for key in field} <= KNOWN_TO_1_20


def test_every_number_says_how_wide_it_is_and_is_bounded() -> None:
    numbers = {path: field for path, field in FIELDS.items() if field["type"] == "integer"}
    assert all("minimum" in field for field in numbers.values())
    assert all("maximum" in field for path, field in numbers.items() if path.startswith(".spec"))
    assert {field["format"] for field in numbers.values()} == {"int32", "int64"}


def test_defaults_of_the_api_server_are_those_of_the_model() -> None:
    least = {
        "apiVersion": "pointsman.io/v1alpha1",
        "kind": "RouterPolicy",
        "metadata": {"name": "chat"},
        "spec": {
            "modelName": "edge-chat",
            "experts": {"selector": {"matchLabels": {"a": "b"}}},
            "telemetry": {"prometheusUrl": "http://prometheus"},
        },
    }
    filled = {**least, "spec": _filled(least["spec"], FIELDS[".spec"])}
    assert filled["spec"] != least["spec"]
    assert parse_policy(filled, "filled", PICKERS) == parse_policy(least, "least", PICKERS)
    spec = parse_policy(least, "least", PICKERS).model_dump(by_alias=True, mode="json", exclude_none=True)["spec"]
    spec["picker"].pop("fallback")  # depends on the picker's name
    spec["training"].pop("ray")  # left out is as good as empty
    assert filled["spec"] == spec


def _filled(value: Any, schema: dict[str, Any]) -> Any:
    """Fill in defaults as the API server does."""
    if "properties" not in schema:
        return value
    defaults = {name: field["default"] for name, field in schema["properties"].items() if "default" in field}
    value = {**defaults, **value}
    return {name: _filled(inner, schema["properties"][name]) for name, inner in value.items()}


def test_columns_show_fields_that_exist() -> None:
    columns = _version()["additionalPrinterColumns"]
    assert [column["name"] for column in columns if not column.get("priority")] == [
        *("Picker", "Active", "Experts", "Fresh", "SLO", "Age")
    ]
    for column in columns:
        path = re.sub(r"\[\?\(@\.type==\"(\w+)\"\)\]", "[]", column["jsonPath"])
        assert path in {*FIELDS, ".metadata.creationTimestamp"}


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.+?)```", PAGE.read_text(), re.DOTALL))
def test_the_examples_are_valid(example: str) -> None:
    parse_policy(yaml.safe_load(example), "example", PICKERS)


class Undescribed(Document):
    """A model whose field says nothing."""

    count: int = Field(ge=0)


class Unusual(Document):
    """A model whose field has no counterpart."""

    share: float
    """A share."""


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (Undescribed, LookupError, r"Undescribed\.count has no docstring"),
        (Unusual, NotImplementedError, "no structural schema for .*number.* in Unusual"),
    ],
)
def test_what_cannot_be_in_a_crd_is_refused(model: type[Document], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        structural_schema(model, "")
