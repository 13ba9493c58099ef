"""Replaces the model's name in a request body and leaves every other byte as the client sent it.

Decoding and encoding the whole body again would be slower and could change numbers, escapes and key order on the way.
So the spans of the top-level ``"model"`` values are found by walking over strings and brackets only.
"""

import re

import msgspec

_TOKEN = re.compile(rb'["{}\[\]]')
_COLON_AND_QUOTE = re.compile(rb'[ \t\r\n]*+:[ \t\r\n]*+"')
_QUOTE = b'"'[0]
_OPENING = b"{["


def rewrite_model(body: bytes, name: str) -> bytes:
    """Return the body with the string value of each top-level ``"model"`` key replaced by `name`.

    Args:
        body: A JSON object. A body without such a key, or one that is not JSON, is returned as it is.
        name: The new value, not yet escaped.
    """
    pieces: list[bytes] = []
    kept_until = 0
    for start, end in _model_values(body):
        pieces += (body[kept_until:start], msgspec.json.encode(name))
        kept_until = end
    return b"".join((*pieces, body[kept_until:])) if pieces else body


def _model_values(body: bytes) -> list[tuple[int, int]]:
    # Escaped quotes and backslashes are masked, length for length, so that a string ends at the next quote.
    masked = body.replace(rb"\\", b"__").replace(rb"\"", b"__") if b"\\" in body else body
    spans: list[tuple[int, int]] = []
    depth = position = 0
    while token := _TOKEN.search(masked, position):
        start, position = token.span()
        if masked[start] != _QUOTE:
            depth += 1 if masked[start] in _OPENING else -1
            continue
        position = masked.find(b'"', position) + 1
        if position == 0:
            break
        if depth == 1 and _is_model(body[start + 1 : position - 1]):
            value = _COLON_AND_QUOTE.match(masked, position)
            if value is None:
                continue
            position = masked.find(b'"', value.end()) + 1
            if position == 0:
                break
            spans.append((value.end() - 1, position))
    return spans


def _is_model(key: bytes) -> bool:
    if b"\\" not in key:
        return key == b"model"
    try:
        return bool(msgspec.json.decode(b'"' + key + b'"') == "model")
    except msgspec.DecodeError:
        return False
