"""The messages of Envoy's external processing protocol that the router reads and sends, as functions of plain values.

Gateways look for the names in here, so they are those of the Endpoint Picker Protocol.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from pointsman.envoy.v3 import external_processor_pb2 as pb
from pointsman_operator.errors import DROPPED_REASON_HEADER, RouteError
from pointsman_operator.serving.openai_request import HEADER_METHOD, HEADER_PATH, HEADERS_READ

DESTINATION_KEY = "x-gateway-destination-endpoint"
"""Request header and metadata key of the pick: "ip:port[,ip:port...]" in order of preference."""
DESTINATION_NAMESPACE = "envoy.lb"
SUBSET_KEY = "x-gateway-destination-endpoint-subset"
SUBSET_NAMESPACE = "envoy.lb.subset_hint"
SERVED_KEY = "x-gateway-destination-endpoint-served"
POINTSMAN_NAMESPACE = "pointsman"
DECISION_ID_KEY = "decision_id"
MAX_RETRIES_HEADER = "x-envoy-max-retries"
"""Limits Envoy's retries of one request, so that it stays among the endpoints of the pick."""
MOST_RETRIES = 3
TEST_SELECTION_HEADER = "test-epp-endpoint-selection"
TEST_SERVED_HEADER = "x-conformance-test-served-endpoint"

BODY_CHUNK_BYTES = 62_000
"""Most bytes of body in one message; Envoy takes 64 KiB with everything around it."""

_REQUEST_HEADERS_READ = HEADERS_READ | {TEST_SELECTION_HEADER}
_RESPONSE_HEADERS_READ = frozenset((":status", "content-type", "content-encoding"))

CONTINUE_REQUEST_HEADERS = pb.ProcessingResponse(request_headers=pb.HeadersResponse(response=pb.CommonResponse()))
CONTINUE_REQUEST_TRAILERS = pb.ProcessingResponse(request_trailers=pb.TrailersResponse())
CONTINUE_RESPONSE_HEADERS = pb.ProcessingResponse(response_headers=pb.HeadersResponse(response=pb.CommonResponse()))
CONTINUE_RESPONSE_BODY = pb.ProcessingResponse(response_body=pb.BodyResponse(response=pb.CommonResponse()))
CONTINUE_RESPONSE_TRAILERS = pb.ProcessingResponse(response_trailers=pb.TrailersResponse())


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The first message of a stream."""

    headers: dict[str, str]
    """The headers that routing reads, by lower-case name."""
    subset: frozenset[str] | None
    """Endpoints that the gateway allows, None = all."""
    end_of_stream: bool
    """The request has no body."""

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.headers.get(HEADER_METHOD, "")

    @property
    def path(self) -> str:
        """The request target."""
        return self.headers.get(HEADER_PATH, "")

    @property
    def asks_for_models(self) -> bool:
        """Whether this is GET /v1/models, which the router answers itself."""
        return self.method == "GET" and self.path.partition("?")[0] == "/v1/models"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a request goes."""

    addresses: str
    """ "ip:port[,ip:port...]" in order of preference."""
    decision_id: str
    """Empty for a selection made by a conformance test."""
    body: bytes | None = None
    """What the body becomes; None = it stays as it is."""


def read_head(message: pb.ProcessingRequest) -> RequestHead:
    """Return what matters in a RequestHeaders message, read in one pass."""
    return RequestHead(
        _headers(message.request_headers.headers, _REQUEST_HEADERS_READ),
        _subset(message),
        message.request_headers.end_of_stream,
    )


def read_answer_headers(message: pb.ProcessingRequest) -> dict[str, str]:
    """Return status, content type and content encoding of a ResponseHeaders message."""
    return _headers(message.response_headers.headers, _RESPONSE_HEADERS_READ)


def read_served(message: pb.ProcessingRequest) -> str:
    """Return the "ip:port" that served the request, as the gateway says; empty if it does not."""
    metadata = message.metadata_context.filter_metadata
    if DESTINATION_NAMESPACE not in metadata:
        return ""
    fields = metadata[DESTINATION_NAMESPACE].fields
    return fields[SERVED_KEY].string_value if SERVED_KEY in fields else ""


def destination_in_headers(destination: Destination) -> pb.ProcessingResponse:
    """Answer RequestHeaders with a pick."""
    response = pb.ProcessingResponse()
    _set_destination(response.request_headers.response, response, destination)
    return response


def destination_in_body(destination: Destination) -> pb.ProcessingResponse:
    """Answer a buffered RequestBody with a pick, and with the new body if there is one."""
    response = pb.ProcessingResponse()
    common = response.request_body.response
    _set_destination(common, response, destination)
    if destination.body is not None:
        common.body_mutation.body = destination.body
    return response


def undecided_in_headers() -> pb.ProcessingResponse:
    """Let the gateway choose; a destination that the client wrote must not do it."""
    response = pb.ProcessingResponse()
    response.request_headers.response.header_mutation.remove_headers.append(DESTINATION_KEY)
    return response


def undecided_in_body() -> pb.ProcessingResponse:
    """Let the gateway choose, as `undecided_in_headers`, in answer to a buffered RequestBody."""
    response = pb.ProcessingResponse()
    response.request_body.response.header_mutation.remove_headers.append(DESTINATION_KEY)
    return response


def streamed_request_body(body: bytes, *, end_of_stream: bool) -> Iterator[pb.ProcessingResponse]:
    """Hand a body on in messages that Envoy takes; an empty body is one message."""
    for chunk, last in _chunks(body):
        response = pb.ProcessingResponse()
        streamed = response.request_body.response.body_mutation.streamed_response
        streamed.body = chunk
        streamed.end_of_stream = last and end_of_stream
        yield response


def streamed_response_body(body: bytes, *, end_of_stream: bool) -> Iterator[pb.ProcessingResponse]:
    """Hand a piece of the answer on, unchanged."""
    for chunk, last in _chunks(body):
        response = pb.ProcessingResponse()
        streamed = response.response_body.response.body_mutation.streamed_response
        streamed.body = chunk
        streamed.end_of_stream = last and end_of_stream
        yield response


def served_in_headers(served: str) -> pb.ProcessingResponse:
    """Answer ResponseHeaders and tell the client which endpoint served it, as conformance tests expect."""
    response = pb.ProcessingResponse()
    _set_header(response.response_headers.response.header_mutation, TEST_SERVED_HEADER, served.encode())
    return response


def refusal(error: RouteError) -> pb.ProcessingResponse:
    """Answer the client directly with an error as OpenAI-compatible servers write it."""
    body = {"error": {"message": str(error), "type": error.error_type, "code": error.http_status}}
    response = immediate(error.http_status, msgspec.json.encode(body), f"pointsman_{error.error_type}")
    fields = response.dynamic_metadata.fields[POINTSMAN_NAMESPACE].struct_value.fields
    fields["error"].string_value = error.error_type
    if error.dropped_reason:
        fields["dropped_reason"].string_value = error.dropped_reason
        headers = response.immediate_response.headers
        _set_header(headers, DROPPED_REASON_HEADER, error.dropped_reason.encode())
    return response


def model_list(names: tuple[str, ...]) -> pb.ProcessingResponse:
    """Answer GET /v1/models."""
    models = [{"id": name, "object": "model", "created": 0, "owned_by": "pointsman"} for name in names]
    return immediate(200, msgspec.json.encode({"object": "list", "data": models}), "pointsman_models")


def immediate(status: int, body: bytes, details: str) -> pb.ProcessingResponse:
    """Answer the client directly with a JSON body; `details` appears in the gateway's access log."""
    response = pb.ProcessingResponse()
    answer = response.immediate_response
    answer.status.code = status
    answer.body = body
    answer.details = details
    _set_header(answer.headers, "content-type", b"application/json")
    return response


def _headers(headers: pb.HeaderMap, wanted: frozenset[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for header in headers.headers:
        key = header.key
        if key in wanted or (key := key.lower()) in wanted:  # gateways send lower case, but need not
            found[key] = header.raw_value.decode("utf-8", "replace") or header.value
    return found


def _subset(message: pb.ProcessingRequest) -> frozenset[str] | None:
    metadata = message.metadata_context.filter_metadata
    if SUBSET_NAMESPACE not in metadata:
        return None
    fields = metadata[SUBSET_NAMESPACE].fields
    if SUBSET_KEY not in fields:
        return None
    hint = fields[SUBSET_KEY]
    if hint.WhichOneof("kind") == "list_value":
        addresses = [value.string_value for value in hint.list_value.values]
    else:
        addresses = hint.string_value.split(",")
    return frozenset(address.strip() for address in addresses) - {""}


def _set_destination(common: pb.CommonResponse, response: pb.ProcessingResponse, destination: Destination) -> None:
    common.clear_route_cache = True
    _set_header(common.header_mutation, DESTINATION_KEY, destination.addresses.encode())
    _set_header(common.header_mutation, MAX_RETRIES_HEADER, b"%d" % min(destination.addresses.count(","), MOST_RETRIES))
    if destination.body is not None:
        _set_header(common.header_mutation, "content-length", b"%d" % len(destination.body))
    fields = response.dynamic_metadata.fields
    fields[DESTINATION_NAMESPACE].struct_value.fields[DESTINATION_KEY].string_value = destination.addresses
    if destination.decision_id:
        decision = fields[POINTSMAN_NAMESPACE].struct_value.fields[DECISION_ID_KEY]
        decision.string_value = destination.decision_id


def _set_header(mutation: pb.HeaderMutation, key: str, value: bytes) -> None:
    option = mutation.set_headers.add()
    option.append_action = pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    option.header.key = key
    option.header.raw_value = value


def _chunks(body: bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield (piece, is the last one)."""
    if len(body) <= BODY_CHUNK_BYTES:
        yield body, True
        return
    for start in range(0, len(body), BODY_CHUNK_BYTES):
        yield body[start : start + BODY_CHUNK_BYTES], start + BODY_CHUNK_BYTES >= len(body)
