"""What a gateway sends: the messages of ext_proc as functions of plain values."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from google.protobuf import json_format

from pointsman.envoy.v3 import external_processor_pb2 as pb
from pointsman_operator.conformance import names

CHUNK_BYTES: Final = 64 << 10
"""Most bytes of body that a gateway sends in one message."""
LARGE_BODY_BYTES: Final = 1 << 20
UNKNOWN_FIELD: Final = b"\xfa\x7c\x0bfrom later!"
"""Field 1999, length-delimited: some later version's."""

FULL_DUPLEX: Final = "FULL_DUPLEX_STREAMED"
BUFFERED: Final = "BUFFERED"
CHAT: Final = {
    ":method": "POST",
    ":scheme": "http",
    ":authority": "gateway.example",
    ":path": "/v1/chat/completions",
    "content-type": "application/json",
    "user-agent": "pointsman-conformance",
}
GET: Final = {**CHAT, ":method": "GET", ":path": "/conformance"}
_REQUEST_NUMBERS = itertools.count(1)


def chat_body(model: str, text: str = "Which track leads to the harbour?", **fields: Any) -> bytes:
    """Return a chat completion's body; `fields` are added to it."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 16, **fields}
    return json.dumps(body, ensure_ascii=False).encode()


def large_body(model: str) -> bytes:
    """Return a chat completion of at least `LARGE_BODY_BYTES`."""
    return chat_body(model, "All aboard! " * (LARGE_BODY_BYTES // 12 + 1))


def long_text() -> str:
    """Return a prompt that takes several messages."""
    return "Mind the gap. " * (3 * CHUNK_BYTES // 14)


def header_map(headers: Mapping[str, str | bytes], *, in_value: bool = False) -> pb.HeaderMap:
    """Return headers as a gateway writes them: in `raw_value`, or in the older field `value`."""
    written = pb.HeaderMap()
    for key, value in headers.items():
        if in_value:
            written.headers.add(key=key, value=value if isinstance(value, str) else value.decode())
        else:
            written.headers.add(key=key, raw_value=value.encode() if isinstance(value, str) else value)
    return written


def request_headers(
    headers: Mapping[str, str | bytes] = CHAT,
    *,
    mode: str | None = FULL_DUPLEX,
    end_of_stream: bool = False,
    metadata: Mapping[str, Any] | None = None,
    in_value: bool = False,
) -> pb.ProcessingRequest:
    """Return the first message of a stream.

    Args:
        headers: The request's headers; an ``x-request-id`` is added if there are any.
        mode: How both bodies are sent, by the name of the mode; None = not told, as old gateways do.
        end_of_stream: The request has no body.
        metadata: Dynamic metadata of the request: JSON values by name, by namespace.
        in_value: Write headers in the field `value`.
    """
    numbered = {**headers, "x-request-id": f"conformance-{next(_REQUEST_NUMBERS)}"} if headers else headers
    message = pb.ProcessingRequest(
        request_headers=pb.HttpHeaders(headers=header_map(numbered, in_value=in_value), end_of_stream=end_of_stream)
    )
    if mode is not None:
        # A gateway that buffers requests, as our sidecar does, has no use for the response leg.
        answer_mode = mode if mode == FULL_DUPLEX else "NONE"
        config = pb.ProtocolConfiguration(request_body_mode=mode, response_body_mode=answer_mode)
        message.protocol_config.CopyFrom(config)
    _set_metadata(message, metadata or {})
    return message


def subset_hint(value: object) -> dict[str, Any]:
    """Return the metadata by which a gateway restricts a pick; `value` is any JSON value."""
    return {names.SUBSET_NAMESPACE: {names.SUBSET: value}}


def request_body(body: bytes, *, end_of_stream: bool = True) -> pb.ProcessingRequest:
    """Return a piece of the request's body."""
    return pb.ProcessingRequest(request_body=pb.HttpBody(body=body, end_of_stream=end_of_stream))


def request_chunks(body: bytes, size: int = CHUNK_BYTES) -> Iterator[pb.ProcessingRequest]:
    """Yield the request's body in pieces of `size` bytes, the last of which ends the stream."""
    for piece, last in _pieces(body, size):
        yield request_body(piece, end_of_stream=last)


def request_trailers() -> pb.ProcessingRequest:
    """Return trailers that end a request."""
    return pb.ProcessingRequest(request_trailers=pb.HttpTrailers(trailers=header_map({"x-checksum": "1"})))


def response_headers(
    headers: Mapping[str, str | bytes], *, served: str = "", end_of_stream: bool = False
) -> pb.ProcessingRequest:
    """Return the head of the answer; `served` is the "ip:port" that gave it, empty = the gateway does not say."""
    message = pb.ProcessingRequest(
        response_headers=pb.HttpHeaders(headers=header_map(headers), end_of_stream=end_of_stream)
    )
    _set_metadata(message, {names.LOAD_BALANCER_NAMESPACE: {names.SERVED: served}} if served else {})
    return message


def response_body(body: bytes, *, end_of_stream: bool = True) -> pb.ProcessingRequest:
    """Return a piece of the answer's body."""
    return pb.ProcessingRequest(response_body=pb.HttpBody(body=body, end_of_stream=end_of_stream))


def response_chunks(body: bytes, size: int = CHUNK_BYTES) -> Iterator[pb.ProcessingRequest]:
    """Yield the answer's body in pieces of `size` bytes, the last of which ends the stream."""
    for piece, last in _pieces(body, size):
        yield response_body(piece, end_of_stream=last)


def response_trailers() -> pb.ProcessingRequest:
    """Return trailers that end an answer."""
    return pb.ProcessingRequest(response_trailers=pb.HttpTrailers(trailers=header_map({"grpc-status": "0"})))


def events(count: int) -> Sequence[bytes]:
    """Return the events of a streamed chat completion: `count` tokens, usage and the end mark."""
    tokens = [_event({"choices": [{"index": 0, "delta": {"content": f"tok{n} 🚂"}}]}) for n in range(count)]
    usage = {"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 7 + count}
    return [*tokens, _event({"choices": [], "usage": usage}), b"data: [DONE]\n\n"]


def completion() -> bytes:
    """Return the body of a whole chat completion."""
    choices = [{"index": 0, "message": {"role": "assistant", "content": "Track 3."}, "finish_reason": "stop"}]
    return json.dumps({"id": "1", "choices": choices, "usage": {"completion_tokens": 4}}).encode()


def _event(fields: Mapping[str, Any]) -> bytes:
    event = {"id": "1", "object": "chat.completion.chunk", **fields}
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


def _set_metadata(message: pb.ProcessingRequest, metadata: Mapping[str, Any]) -> None:
    for namespace, fields in metadata.items():
        json_format.ParseDict(fields, message.metadata_context.filter_metadata[namespace])


def _pieces(body: bytes, size: int) -> Iterator[tuple[bytes, bool]]:
    for start in range(0, max(len(body), 1), size):
        yield body[start : start + size], start + size >= len(body)
