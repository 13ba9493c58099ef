"""From an HTTP request of the OpenAI API to the question that routing answers.

Only the fields that routing looks at are decoded, and prompts are used for prediction alone: no error message quotes
them. Bodies of known surfaces are checked strictly, because an expert would refuse them too; on paths that the router
does not know it takes what it finds and sends the rest through.
"""

import math
from collections.abc import Mapping
from typing import Final

import msgspec

from pointsman_operator.decision import ObjectiveOverrides, RouteQuery
from pointsman_operator.errors import InvalidRequestError

HEADER_METHOD = ":method"
HEADER_PATH = ":path"
TTFT_HEADERS = ("x-llm-d-slo-ttft-ms", "x-slo-ttft-ms")
TPOT_HEADERS = ("x-llm-d-slo-tpot-ms", "x-slo-tpot-ms")
NTPOT_HEADERS = ("x-pointsman-slo-ntpot-ms",)
OBJECTIVE_HEADERS = ("x-llm-d-inference-objective", "x-gateway-inference-objective")
HEADER_REQUEST_ID = "x-request-id"
HEADER_CONTENT_ENCODING = "content-encoding"
HEADER_CONTENT_TYPE = "content-type"

HEADERS_READ: Final = frozenset(
    (
        HEADER_METHOD,
        HEADER_PATH,
        HEADER_REQUEST_ID,
        HEADER_CONTENT_ENCODING,
        HEADER_CONTENT_TYPE,
        *TTFT_HEADERS,
        *TPOT_HEADERS,
        *NTPOT_HEADERS,
        *OBJECTIVE_HEADERS,
    )
)
"""The only headers that routing reads, canonical names first where there are aliases."""

_SLO_HEADERS: Final = frozenset((*TTFT_HEADERS, *TPOT_HEADERS, *NTPOT_HEADERS))
_NO_OBJECTIVES: Final = ObjectiveOverrides()

OBJECTIVE_PRIORITIES: Final[Mapping[str, int]] = {"sheddable": -1}
"""Named objectives with a priority of their own; other names mean 0, whole numbers are the priority itself."""
PRIORITY_LIMIT = 1_000
REQUEST_ID_LENGTH = 128
MAX_OBJECTIVE_MILLISECONDS = 86_400_000.0
TOKEN_COUNT_LIMIT = 1_000_000_000
BODILESS_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "DELETE", "TRACE", "CONNECT"))


class _Part(msgspec.Struct):
    text: str | None = None


class _Message(msgspec.Struct):
    content: str | list[_Part | str] | None = None


class _Body(msgspec.Struct):
    model: str = ""
    stream: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None

    def text(self) -> tuple[str, int]:
        """Return the prompt's text and, where the client sent token ids, their number."""
        return "", 0


class _Chat(_Body):
    messages: list[_Message] = msgspec.field(default_factory=list)

    def text(self) -> tuple[str, int]:
        return "\n".join(piece for message in self.messages for piece in _pieces(message)), 0


class _Completion(_Body):
    prompt: str | list[str | int | list[int]] | None = None

    def text(self) -> tuple[str, int]:
        return _text_of_items(self.prompt)


class _Input(_Body):
    input: str | list[str | int | list[int] | _Message] | None = None
    instructions: str | None = None

    def text(self) -> tuple[str, int]:
        text, tokens = _text_of_items(self.input)
        return (f"{self.instructions}\n{text}" if self.instructions else text), tokens


_SURFACES: Final[Mapping[str, msgspec.json.Decoder[_Body]]] = {
    "/chat/completions": msgspec.json.Decoder(_Chat),
    "/completions": msgspec.json.Decoder(_Completion),
    "/responses": msgspec.json.Decoder(_Input),
    "/embeddings": msgspec.json.Decoder(_Input),
}
_UNKNOWN_SURFACE: Final = msgspec.json.Decoder(_Body)


def read_request(
    method: str, path: str, headers: Mapping[str, str], body: bytes, subset: frozenset[str] | None = None
) -> RouteQuery:
    """Return what routing needs to know of a request.

    Args:
        method: The HTTP method.
        path: The request target; a query string is ignored.
        headers: Header values by lower-case name; only `HEADERS_READ` matter.
        body: The whole body as it came.
        subset: Endpoints that the gateway allows, None = all.

    Returns:
        A query. Its model is empty if the body has none to read (no body, compressed, not JSON on an unknown path).

    Raises:
        InvalidRequestError: If a header or the body of a known surface is wrong; the message says what to send.
    """
    fields = _read_body(method, path, headers, body)
    text, tokens = fields.text()
    limit = fields.max_completion_tokens or fields.max_tokens or fields.max_output_tokens or 0
    return RouteQuery(
        model=fields.model,
        prompt=text,
        prompt_tokens=tokens,
        max_output_tokens=min(max(limit, 0), TOKEN_COUNT_LIMIT),
        objectives=_objectives(headers),
        subset=subset,
        priority=_priority(headers),
        request_id=headers.get(HEADER_REQUEST_ID, "")[:REQUEST_ID_LENGTH],
        streaming=bool(fields.stream),
    )


def _read_body(method: str, path: str, headers: Mapping[str, str], body: bytes) -> _Body:
    if method in BODILESS_METHODS or headers.get(HEADER_CONTENT_ENCODING, "identity").lower() != "identity":
        return _Body()
    decoder = _SURFACES.get(_surface(path))
    if decoder is not None:
        fields = _decode(decoder, body)
        if not fields.model:
            raise InvalidRequestError('the body has no "model"; set it to a model name listed by GET /v1/models')
        return fields
    if not body or "json" not in headers.get(HEADER_CONTENT_TYPE, "json").lower():
        return _Body()
    return _decode(_UNKNOWN_SURFACE, body)


def _surface(path: str) -> str:
    path = path.partition("?")[0].rstrip("/")
    head, _, last = path.rpartition("/")
    return "/chat/completions" if last == "completions" and head.endswith("/chat") else f"/{last}"


def _decode(decoder: msgspec.json.Decoder[_Body], body: bytes) -> _Body:
    if not body:
        raise InvalidRequestError('the body is empty; send a JSON object with a "model"')
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"the body does not fit this API: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"the body is not valid JSON ({error}); send one JSON object in UTF-8") from None
    except RecursionError:
        raise InvalidRequestError("the body is nested too deeply; send a flat JSON object") from None


def _pieces(message: _Message) -> list[str]:
    content = message.content
    if content is None:
        return []
    if isinstance(content, str):
        return [content]
    return [part if isinstance(part, str) else part.text or "" for part in content]


def _text_of_items(
    items: str | list[str | int | list[int] | _Message] | list[str | int | list[int]] | None,
) -> tuple[str, int]:
    if items is None:
        return "", 0
    if isinstance(items, str):
        return items, 0
    texts: list[str] = []
    tokens = 0
    for item in items:
        if isinstance(item, int):
            tokens += 1
        elif isinstance(item, list):
            tokens += len(item)
        elif isinstance(item, str):
            texts.append(item)
        else:
            texts.extend(_pieces(item))
    return "\n".join(texts), tokens


def _objectives(headers: Mapping[str, str]) -> ObjectiveOverrides:
    if _SLO_HEADERS.isdisjoint(headers):
        return _NO_OBJECTIVES
    return ObjectiveOverrides(
        _seconds(headers, TTFT_HEADERS), _seconds(headers, TPOT_HEADERS), _seconds(headers, NTPOT_HEADERS)
    )


def _seconds(headers: Mapping[str, str], names: tuple[str, ...]) -> float | None:
    name = next((name for name in names if name in headers), None)
    if name is None:
        return None
    try:
        milliseconds = float(headers[name])
    except ValueError:
        milliseconds = math.nan
    if not 0 <= milliseconds <= MAX_OBJECTIVE_MILLISECONDS:
        raise InvalidRequestError(
            f"header {name} must be a number of milliseconds from 0 (no such objective) to "
            f"{MAX_OBJECTIVE_MILLISECONDS:.0f}, not {headers[name][:40]!r}"
        )
    return milliseconds / 1000.0


def _priority(headers: Mapping[str, str]) -> int:
    name = next((name for name in OBJECTIVE_HEADERS if name in headers), None)
    if name is None:
        return 0
    value = headers[name].strip()
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        return OBJECTIVE_PRIORITIES.get(value, 0)
    if len(digits) > 5 or not -PRIORITY_LIMIT <= int(value) <= PRIORITY_LIMIT:
        raise InvalidRequestError(
            f"header {name} must be an objective's name or a priority from -{PRIORITY_LIMIT} to {PRIORITY_LIMIT}, "
            f"not {value[:40]!r}"
        )
    return int(value)
