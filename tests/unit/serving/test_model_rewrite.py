"""The model's name is replaced and no other byte."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_operator.serving.model_rewrite import rewrite_model

text = st.text(st.characters(exclude_categories=["Cs"]))
texts = st.one_of(text, st.sampled_from(["model", '"model":', "\\", '\\"', '"', "{", "]", '\\\\"model":"x"']))
values = st.recursive(
    st.one_of(texts, st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
members = st.lists(st.tuples(texts, values), max_size=5)
spaces = st.text(" \t\r\n", max_size=2)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[list[bytes], str]:
    """A JSON object cut where the values of its top-level "model" keys stood, and the last one's value."""
    ensure_ascii = draw(st.booleans())
    pairs: list[tuple[str, Any, bool]] = [(key, value, False) for key, value in draw(members) if key != "model"]
    last = draw(texts)
    for name in [*draw(st.lists(texts, max_size=2)), last]:
        pairs.insert(draw(st.integers(0, len(pairs))), ("model", name, True))
    models = [value for key, value, is_model in pairs if is_model]
    pieces = ["{"]
    for index, (key, value, is_model) in enumerate(pairs):
        written = '"mod\\u0065l"' if is_model and draw(st.booleans()) else json.dumps(key, ensure_ascii=ensure_ascii)
        pieces[-1] += (", " if index else draw(spaces)) + written + draw(spaces) + ":" + draw(spaces)
        if is_model:
            pieces.append("")
        else:
            pieces[-1] += json.dumps(value, ensure_ascii=ensure_ascii)
        pieces[-1] += draw(spaces)
    pieces[-1] += "}" + draw(spaces)
    return [piece.encode() for piece in pieces], models[-1]


@given(bodies(), texts)
def test_every_byte_but_the_models_stays(body: tuple[list[bytes], str], name: str) -> None:
    pieces, old = body
    after = rewrite_model(json.dumps(old).encode().join(pieces), name)
    assert after == msgspec.json.encode(name).join(pieces)
    assert json.loads(after)["model"] == name


@given(members)
def test_an_object_without_a_model_stays_as_it_is(pairs: list[tuple[str, Any]]) -> None:
    body = json.dumps({key: value for key, value in pairs if key != "model"}).encode()
    assert rewrite_model(body, "new") == body


@given(st.binary(max_size=60))
def test_garbage_is_survived(body: bytes) -> None:
    rewrite_model(body, "new")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"model":"a"}', b'{"model":"new"}'),
        (b'{"model":"a","model" : "b"}', b'{"model":"new","model" : "new"}'),
        (b'{"x":{"model":"a"},"y":["model","a"],"model":"a"}', b'{"x":{"model":"a"},"y":["model","a"],"model":"new"}'),
        (b'{"prompt":"\\"model\\":\\"a\\"","model":"a\\\\"}', b'{"prompt":"\\"model\\":\\"a\\"","model":"new"}'),
        (b'{"n":1.0e2,"model":"a","z":"\\u00e9"}', b'{"n":1.0e2,"model":"new","z":"\\u00e9"}'),
        (b'{"model":null}', b'{"model":null}'),
        (b'{"model":"a', b'{"model":"a'),
        (b"[]", b"[]"),
        (b"", b""),
    ],
)
def test_known_cases(before: bytes, after: bytes) -> None:
    assert rewrite_model(before, "new") == after


def test_the_new_name_is_escaped() -> None:
    assert rewrite_model(b'{"model":"a"}', 'q"\\\n') == b'{"model":"q\\"\\\\\\n"}'
