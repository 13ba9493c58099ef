"""A small endpoint picker that keeps the protocol, but for the faults that a test gives it."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.unknown_fields import UnknownFieldSet
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from pointsman.envoy.v3 import external_processor_pb2 as pb
from pointsman.envoy.v3 import external_processor_pb2_grpc as pb_grpc

POOL = ("10.0.0.1:8000", "10.0.0.2:8000", "[fd00::3]:8000")
EXT_PROC = "envoy.service.ext_proc.v3.ExternalProcessor"
DESTINATION = "x-gateway-destination-endpoint"
SUBSET = "x-gateway-destination-endpoint-subset"
PIECE_BYTES = 60_000
STRANGE_PIECE_BYTES = 1 << 20

Context = grpc.aio.ServicerContext[Any, Any]
Answers = Iterator[pb.ProcessingResponse]


class RefusedError(Exception):
    def __init__(self, status: int, reason: str = "") -> None:
        self.status = status
        self.reason = reason


@dataclass
class Request:
    """One request on its way in."""

    headers: Mapping[str, str]
    subset: Sequence[str] | None
    buffered: bool
    without_body: bool
    chunks: list[bytes] = field(default_factory=list)


@dataclass
class Picker(pb_grpc.ExternalProcessorServicer):
    """Picks in turn; `faults` are looked up wherever one of them can be committed."""

    faults: frozenset[str] = frozenset()
    shared: list[bytes] = field(default_factory=list)
    picks: int = 0
    stale: bool = False

    def has(self, fault: str) -> bool:
        return fault in self.faults

    async def Process(  # noqa: N802
        self, requests: AsyncIterator[pb.ProcessingRequest], context: Context
    ) -> AsyncIterator[pb.ProcessingResponse]:
        stream = Stream(self)
        try:
            async for message in requests:
                if self.has("knows every field") and len(UnknownFieldSet(message)):
                    raise ValueError("unknown field")
                for answer in stream.receive(message):
                    yield answer
                if stream.leaves:
                    return
        except (ValueError, KeyError) as error:
            await context.abort(grpc.StatusCode.INTERNAL, str(error))
        finally:
            self.stale = self.stale or (self.has("remembers who left") and stream.answering)
        if stream.request is None and self.has("errs without messages"):
            await context.abort(grpc.StatusCode.UNKNOWN, "no messages")

    def pick(self, request: Request) -> list[str]:
        allowed = [one for one in POOL if self._allows(request, one)]
        if not allowed:
            raise RefusedError(500 if self.has("500 without endpoints") else 503)
        self.picks += 1
        start = self.picks % len(allowed)
        ordered = allowed[start:] + allowed[:start]
        if self.has("fallbacks outside the subset"):
            ordered += [one for one in POOL if one not in ordered]
        return ordered

    def _allows(self, request: Request, endpoint: str) -> bool:
        subset = request.subset
        if subset is None or (self.has("empty subset means all") and not subset):
            return True
        if self.has("no subset without a body") and request.without_body:
            return True
        if self.has("subset by address"):
            return endpoint.rpartition(":")[0] in [one.rpartition(":")[0] for one in subset]
        return endpoint in subset


class Stream:
    def __init__(self, picker: Picker) -> None:
        self.picker = picker
        self.has = picker.has
        self.request: Request | None = None
        self.leaves = self.answering = False
        self.streaming_answer = False
        self.held: list[bytes] = []

    def receive(self, message: pb.ProcessingRequest) -> Answers:
        kind = message.WhichOneof("request")
        if self.request is None and kind != "request_headers":
            if not self.has("picks without headers"):
                raise ValueError("headers first")
            self.request = Request({}, None, False, False)
        yield from getattr(self, str(kind))(message)

    # The request

    def request_headers(self, message: pb.ProcessingRequest) -> Answers:
        head = message.request_headers
        if not message.HasField("protocol_config") and self.has("wants protocol_config"):
            raise ValueError("no protocol_config")
        buffered = message.protocol_config.request_body_mode == pb.BUFFERED and not self.has("streams only")
        self.request = Request(self._headers(head.headers), self._subset(message), buffered, head.end_of_stream)
        if head.end_of_stream and not self.has("silent without a body"):
            yield from self._route(self.request)
        elif buffered:
            yield pb.ProcessingResponse(request_headers=pb.HeadersResponse())

    def request_body(self, message: pb.ProcessingRequest) -> Answers:
        assert self.request is not None
        body = message.request_body
        chunks = self.picker.shared if self.has("one buffer for all") else self.request.chunks
        chunks.append(self._as_text(body.body) if self.has("reads pieces as text") else body.body)
        if body.end_of_stream and (body.body or not self.has("passes over empty pieces")):
            self.request.chunks, self.picker.shared = list(chunks), []
            yield from self._route(self.request)

    def request_trailers(self, message: pb.ProcessingRequest) -> Answers:
        assert self.request is not None
        if not self.has("silent on request trailers"):
            self.request.chunks, self.picker.shared = self.request.chunks + self.picker.shared, []
            yield from self._route(self.request, in_trailers=True)
            yield pb.ProcessingResponse(request_trailers=pb.TrailersResponse())

    def _route(self, request: Request, *, in_trailers: bool = False) -> Answers:
        body = b"".join(request.chunks)
        try:
            model = self._model(request, body)
            self._check(request, model)
            endpoints = self.picker.pick(request)
        except RefusedError as refused:
            if self.has("sends on what it refuses"):
                yield self._destination(request, [POOL[0]])
            yield self._refusal(refused)
            self.leaves = not self.has("goes on after a refusal")
            if self.has("goes on after a refusal"):
                yield pb.ProcessingResponse(request_body=pb.BodyResponse())
            return
        answer = self._destination(request, endpoints)
        if self.has("encodes anew") and not request.without_body:
            old, body = body, json.dumps(json.loads(body)).encode()
            length = len(old) if self.has("the old length") else len(body)
            part = answer.request_body if request.buffered else answer.request_headers
            self._set(part.response.header_mutation, "Content-Length", str(length))
        bodies = [] if request.without_body or request.buffered else list(self._streamed(body, not in_trailers))
        yield from [*bodies, answer] if self.has("bodies first") else [answer, *bodies]

    def _model(self, request: Request, body: bytes) -> object:
        if request.without_body:
            return ""
        try:
            model = json.loads(body)["model"]
        except (ValueError, TypeError, KeyError, RecursionError):
            if self.has("breaks on bad bodies"):
                raise ValueError("cannot parse") from None
            raise RefusedError(500 if self.has("500 on bad bodies") else 400, "unreadable") from None
        return model

    def _check(self, request: Request, model: object) -> None:
        if self.picker.stale:
            self.picker.stale = False
            raise RefusedError(503, "stale")
        if model == "busy":
            raise RefusedError(503 if self.has("503 when shedding") else 429, "rejected-saturated")
        if model == "empty":
            raise RefusedError(500 if self.has("500 without endpoints") else 503)
        if model == "no-such-model-conformance":
            raise RefusedError(500 if self.has("500 on unknown models") else 404)
        if not request.headers.get(":method") and self.has("wants a method"):
            raise ValueError("no method")

    def _destination(self, request: Request, endpoints: list[str]) -> pb.ProcessingResponse:
        answer = pb.ProcessingResponse()
        part = answer.request_body if request.buffered else answer.request_headers
        value = ",".join(self._spoil(request, endpoints))
        if not self.has("no header"):
            self._set(part.response.header_mutation, DESTINATION, value)
            option = part.response.header_mutation.set_headers[0]
            option.append.value = self.has("appends the header")
        else:
            part.SetInParent()
        part.response.clear_route_cache = not self.has("keeps the route")
        if not self.has("no metadata"):
            namespace = "envoy" if self.has("another namespace") else "envoy.lb"
            told = value.split(",")[-1] if self.has("tells two values") else value
            json_format.ParseDict({namespace: {DESTINATION: told}}, answer.dynamic_metadata)
        return answer

    def _spoil(self, request: Request, endpoints: list[str]) -> list[str]:
        if self.has("host names"):
            return [f"pod-{index}:8000" for index, _ in enumerate(endpoints)]
        if self.has("a single endpoint"):
            return endpoints[:1]
        if self.has("names one twice"):
            return [*endpoints, endpoints[0]]
        if self.has("follows the client") and DESTINATION in request.headers:
            return [request.headers[DESTINATION]]
        if self.has("a pod that has gone") and request.subset is None:
            return ["10.9.9.9:8000"]
        return endpoints

    def _streamed(self, body: bytes, ends: bool) -> Answers:
        if self.has("keeps the body"):
            yield pb.ProcessingResponse(request_body=pb.BodyResponse())
            return
        if self.has("forgets after 512 KiB"):
            body = body[: 512 << 10]
        size = STRANGE_PIECE_BYTES * 2 if self.has("one piece") else PIECE_BYTES
        for start in range(0, max(len(body), 1), size):
            last = start + size >= len(body)
            answer = pb.ProcessingResponse()
            piece = answer.request_body.response.body_mutation.streamed_response
            piece.body = body[start : start + size]
            piece.end_of_stream = ends and (last or self.has("ends with every piece"))
            if self.has("never ends") and start:
                piece.end_of_stream = False
            yield answer

    # The response

    def response_headers(self, message: pb.ProcessingRequest) -> Answers:
        headers = self._headers(message.response_headers.headers)
        self.answering = not message.response_headers.end_of_stream
        self.streaming_answer = "event-stream" in headers.get("content-type", "")
        if self.has("leaves after its pick"):
            self.leaves = True
            return
        if self.has("breaks on served") and "envoy.lb" in message.metadata_context.filter_metadata:
            raise ValueError("unexpected metadata")
        if self.has("wants to know who served") and "envoy.lb" not in message.metadata_context.filter_metadata:
            raise ValueError("who served?")
        if self.has("silent on empty responses") and message.response_headers.end_of_stream:
            return
        if self.has("refuses errors") and headers.get(":status") == "503":
            yield self._refusal(RefusedError(502))
            return
        answer = pb.ProcessingResponse(response_headers=pb.HeadersResponse())
        if self.has("shows served"):
            fields = message.metadata_context.filter_metadata["envoy.lb"].fields
            served = fields["x-gateway-destination-endpoint-served"].string_value
            self._set(answer.response_headers.response.header_mutation, "X-Conformance-Test-Served-Endpoint", served)
        if self.has("answers twice"):
            yield answer
        yield answer

    def response_body(self, message: pb.ProcessingRequest) -> Answers:
        body = message.response_body
        self.answering = not body.end_of_stream
        self.held.append(self._as_text(body.body) if self.has("reads answers as text") else body.body)
        holds = not self.streaming_answer or self.has("holds events")
        if holds and not body.end_of_stream:
            return
        whole, self.held = b"".join(self.held[-1:] if self.has("returns the last piece") else self.held), []
        if self.has("forgets answers after 512 KiB"):
            whole = whole[: 512 << 10]
        if self.has("trims answers"):
            whole = whole.rstrip()
        answer = pb.ProcessingResponse()
        piece = answer.response_body.response.body_mutation.streamed_response
        piece.body, piece.end_of_stream = whole, body.end_of_stream
        yield answer
        if body.end_of_stream and self.has("ends answers twice"):
            piece.body = b""
            yield answer

    def response_trailers(self, message: pb.ProcessingRequest) -> Answers:
        self.answering = False
        if not self.has("silent on response trailers"):
            yield pb.ProcessingResponse(response_trailers=pb.TrailersResponse())

    # What they share

    def _headers(self, headers: pb.HeaderMap) -> dict[str, str]:
        found = {}
        for header in headers.headers:
            value = header.raw_value.decode("utf-8", "strict" if self.has("wants UTF-8") else "replace")
            if not self.has("reads raw_value only"):
                value = value or header.value
            found[header.key if self.has("heeds case") else header.key.lower()] = value
        particular = self.has("heeds case") or self.has("reads raw_value only")
        if particular and headers.headers and not (found.get(":path") or ":status" in found):
            raise ValueError("no path")
        return found

    def _subset(self, message: pb.ProcessingRequest) -> Sequence[str] | None:
        metadata = message.metadata_context.filter_metadata
        if self.has("wants metadata that it knows"):
            for name in metadata:
                if name not in ("envoy.lb", "envoy.lb.subset_hint"):
                    raise ValueError(f"unknown namespace {name}")
        if "envoy.lb.subset_hint" not in metadata:
            return None
        fields = metadata["envoy.lb.subset_hint"].fields
        if SUBSET not in fields:
            return [] if self.has("no key means none") else None
        if fields[SUBSET].WhichOneof("kind") == "string_value":
            text = fields[SUBSET].string_value
            return None if self.has("no subset as text") else [one.strip() for one in text.split(",")]
        return [one.string_value for one in fields[SUBSET].list_value.values]

    def _refusal(self, refused: RefusedError) -> pb.ProcessingResponse:
        answer = pb.ProcessingResponse()
        answer.immediate_response.status.code = refused.status
        answer.immediate_response.body = refused.reason.encode()
        if refused.reason.startswith("rejected") and not self.has("sheds without a reason"):
            self._set(answer.immediate_response.headers, "x-llm-d-request-dropped-reason", refused.reason)
        return answer

    @staticmethod
    def _set(mutation: pb.HeaderMutation, key: str, value: str) -> None:
        mutation.set_headers.add(header=pb.HeaderValue(key=key, raw_value=value.encode()))

    @staticmethod
    def _as_text(data: bytes) -> bytes:
        return data.decode("utf-8", "replace").encode()


@asynccontextmanager
async def serving(*faults: str, credentials: "grpc.ServerCredentials | None" = None) -> AsyncIterator[str]:
    """A picker on a free port; returns its address."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 << 20)])
    picker = Picker(frozenset(faults))
    pb_grpc.add_ExternalProcessorServicer_to_server(picker, server)  # type: ignore[no-untyped-call]
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    for service in ("", "liveness", "readiness", EXT_PROC, "inference-extension"):
        unready = (picker.has("is not ready") and service in ("readiness", EXT_PROC)) or (
            picker.has("is not ready as a whole") and not service
        )
        status = health_pb2.HealthCheckResponse.NOT_SERVING if unready else health_pb2.HealthCheckResponse.SERVING
        if not (picker.has("one health service") and service):
            await health.set(service, status)
    if picker.has("any service is healthy"):
        await health.set("pointsman.conformance.NoSuchService", health_pb2.HealthCheckResponse.SERVING)
    listen = server.add_secure_port if credentials else server.add_insecure_port
    port = listen("127.0.0.1:0", *([credentials] if credentials else []))
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
