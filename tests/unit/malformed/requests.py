"""What gateways hand over by ext_proc: their messages, and the HTTP requests in them."""

from tests.unit.malformed.case import Case, Surface
from tests.unit.malformed.served import MAX_BODY_BYTES, Http, Messages, converse, served
from tests.unit.serving.conftest import chat, request_body, request_headers, request_trailers, response_headers

from pointsman.envoy.v3 import external_processor_pb2 as pb


def slo(name: str, value: str) -> Http:
    """A request with one header more."""
    return Http(headers={name: value})


def started(*more: pb.ProcessingRequest | bytes) -> Messages:
    """A stream whose headers are right."""
    return (request_headers(mode="BUFFERED"), *more)


def duplex(*more: pb.ProcessingRequest) -> Messages:
    """A FULL_DUPLEX_STREAMED stream whose request is right."""
    return (request_headers(), request_body(chat()), *more)


EXT_PROC = Surface(
    "ext_proc stream",
    "The status of the stream, in the gateway's log. Envoy treats it as a router that failed: "
    "with `fail_open` the request goes to "
    "an expert all the same.",
    served(converse, Http()),
    (
        Case(
            "bytes that are no message",
            (b"\xff\xff\xff",),
            "INVALID_ARGUMENT: malformed ext_proc stream: got bytes that are not a ProcessingRequest",
        ),
        Case("an empty message", (b"",), "INVALID_ARGUMENT: malformed ext_proc stream: got a message without content"),
        Case(
            "a body before the headers",
            (request_body(chat()),),
            "INVALID_ARGUMENT: malformed ext_proc stream: got request_body; request_headers must come first, and once",
        ),
        Case(
            "headers twice",
            started(request_headers(mode="BUFFERED")),
            "INVALID_ARGUMENT: malformed ext_proc stream: expected request_body, got request_headers",
        ),
        Case(
            "an empty message in place of the body",
            started(b""),
            "INVALID_ARGUMENT: malformed ext_proc stream: expected request_body, got a message without content",
        ),
        Case(
            "the answer before the request's body",
            started(response_headers()),
            "INVALID_ARGUMENT: malformed ext_proc stream: expected request_body, got response_headers",
        ),
        Case(
            "a request that goes on after its end",
            duplex(request_trailers()),
            "INVALID_ARGUMENT: malformed ext_proc stream: got request_trailers after the end of the request",
        ),
        Case(
            "the answer's headers twice",
            duplex(response_headers(), response_headers()),
            "INVALID_ARGUMENT: malformed ext_proc stream: got response_headers twice, or after the "
            "body of the response",
        ),
        Case(
            "a body mode that cannot be routed",
            (request_headers(mode="STREAMED"), request_body(chat())),
            "500 internal_error: the gateway's ext_proc request_body_mode STREAMED cannot be routed; "
            "configure BUFFERED or FULL_DUPLEX_STREAMED",
        ),
    ),
)
BODIES = Surface(
    "Request body",
    "The client gets this status with an OpenAI-style `error` as body; `type` stands before the message.",
    served(converse, Http()),
    (
        Case("empty", Http(b""), '400 invalid_request_error: the body is empty; send a JSON object with a "model"'),
        Case(
            "not JSON",
            Http(b'{"model": "edge-chat", '),
            "400 invalid_request_error: the body is not valid JSON (Input data was truncated); send "
            "one JSON object in UTF-8",
        ),
        Case(
            "not UTF-8",
            Http(b'{"model": "\xff"}'),
            "400 invalid_request_error: the body is not valid JSON ('utf-8' codec can't decode byte "
            "0xff in position 0: invalid start byte); send one JSON object in UTF-8",
        ),
        Case(
            "a list",
            Http(b"[]"),
            "400 invalid_request_error: the body does not fit this API: Expected `object`, got `array`",
        ),
        Case(
            "no model",
            Http(b'{"messages": []}'),
            '400 invalid_request_error: the body has no "model"; set it to a model name listed by GET /v1/models',
        ),
        Case(
            "a number for a model",
            Http(b'{"model": 7, "messages": []}'),
            "400 invalid_request_error: the body does not fit this API: Expected `str`, got `int` - at `$.model`",
        ),
        Case(
            "a model that no policy serves",
            Http(b'{"model": "gpt-9", "messages": []}'),
            "404 not_found_error: no RouterPolicy serves the model 'gpt-9'; models: edge-chat",
        ),
        Case(
            "messages that are no list",
            Http(b'{"model": "edge-chat", "messages": "hi"}'),
            "400 invalid_request_error: the body does not fit this API: Expected `array`, got `str` - at `$.messages`",
        ),
        Case(
            "a content that is a number",
            Http(b'{"model": "edge-chat", "messages": [{"content": 7}]}'),
            "400 invalid_request_error: the body does not fit this API: Expected `str | array | "
            "null`, got `int` - at `$.messages[0].content`",
        ),
        Case(
            "a limit that is a word",
            Http(chat(max_tokens="many")),
            "400 invalid_request_error: the body does not fit this API: Expected `int | null`, got "
            "`str` - at `$.max_tokens`",
        ),
        Case(
            "a prompt of objects",
            Http(b'{"model": "edge-chat", "prompt": [{}]}', path="/v1/completions"),
            "400 invalid_request_error: the body does not fit this API: Expected `int | str | array`, "
            "got `object` - at `$.prompt[0]`",
        ),
        Case(
            "nested too deeply",
            Http(b'{"model": "edge-chat", "x": ' + b"[" * 1_900),
            "400 invalid_request_error: the body is nested too deeply; send a flat JSON object",
        ),
        Case(
            "too large",
            Http(chat("x" * MAX_BODY_BYTES)),
            "413 invalid_request_error: the body has 2069 bytes or more, at most 2000 are taken; send a shorter prompt",
        ),
        Case(
            "an empty subset from the gateway",
            Http(subset=[]),
            "503 service_unavailable_error: the gateway's endpoint subset is empty, so no expert may "
            "be picked (x-llm-d-request-dropped-reason: rejected-no-endpoints)",
        ),
    ),
)
HEADERS = Surface(
    "Request headers",
    "As for a body.",
    served(converse, Http()),
    (
        Case(
            "an objective that is a word",
            slo("x-llm-d-slo-ttft-ms", "fast"),
            "400 invalid_request_error: header x-llm-d-slo-ttft-ms must be a number of milliseconds "
            "from 0 (no such objective) to 86400000, not 'fast'",
        ),
        Case(
            "a negative objective",
            slo("x-llm-d-slo-tpot-ms", "-30"),
            "400 invalid_request_error: header x-llm-d-slo-tpot-ms must be a number of milliseconds "
            "from 0 (no such objective) to 86400000, not '-30'",
        ),
        Case(
            "an objective without end",
            slo("x-pointsman-slo-ntpot-ms", "inf"),
            "400 invalid_request_error: header x-pointsman-slo-ntpot-ms must be a number of "
            "milliseconds from 0 (no such objective) to 86400000, not 'inf'",
        ),
        Case(
            "an objective with a unit",
            slo("x-slo-ttft-ms", "500ms"),
            "400 invalid_request_error: header x-slo-ttft-ms must be a number of milliseconds from 0 "
            "(no such objective) to 86400000, not '500ms'",
        ),
        Case(
            "a priority out of range",
            slo("x-llm-d-inference-objective", "99999"),
            "400 invalid_request_error: header x-llm-d-inference-objective must be an objective's "
            "name or a priority from -1000 to 1000, not '99999'",
        ),
    ),
)
