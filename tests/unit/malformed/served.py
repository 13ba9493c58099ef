"""What callers and gateways send over gRPC, to a real server with a real routing core behind it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from tests.unit.malformed.case import Trial
from tests.unit.routing import Core, endpoint
from tests.unit.serving.conftest import (
    CHAT_HEADERS,
    chat,
    request_body,
    request_headers,
)

from pointsman.envoy.v3 import external_processor_pb2 as pb
from pointsman.routing.v1 import routing_pb2
from pointsman_operator.errors import DROPPED_REASON_HEADER
from pointsman_operator.serving import ext_proc, routing_service
from pointsman_operator.serving.destinations import Destinations
from pointsman_operator.serving.server import RouterServer, ServerSettings

MAX_BODY_BYTES = 2_000
ADDRESS = "10.0.0.1:8000"


@dataclass(frozen=True)
class Call:
    """A call of RoutingService; bytes are sent as they are."""

    method: str
    request: Message | bytes


@dataclass(frozen=True)
class Http:
    """A request as a gateway hands it over, BUFFERED."""

    body: bytes = field(default_factory=chat)
    headers: dict[str, str] = field(default_factory=dict)
    path: str = "/v1/chat/completions"
    subset: object = None

    def messages(self) -> list[pb.ProcessingRequest]:
        headers = {**CHAT_HEADERS, ":path": self.path, **self.headers}
        return [request_headers(headers, mode="BUFFERED", subset=self.subset), request_body(self.body)]


Messages = Sequence[pb.ProcessingRequest | bytes]
"""A whole ext_proc stream; bytes are sent as they are."""

Take = Callable[[grpc.aio.Channel, Any], Awaitable[str]]
"""Sends an input and returns what comes back, in words."""


@asynccontextmanager
async def _served(take: Take, good: object, _: Path) -> AsyncIterator[Trial]:
    """Serve two experts. A malformed input leaves no decision open; a good one on the same connection is answered."""
    core = Core([endpoint("a"), endpoint("b")])
    destinations = Destinations(core.router, core.metrics, max_body_bytes=MAX_BODY_BYTES)
    server = RouterServer(core.router, core.metrics, destinations, ServerSettings(addresses=("127.0.0.1:0",)))
    (port,) = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:

        async def give(given: Any) -> str:
            before = core.router.open_decisions()
            seen = await take(channel, given)
            assert core.router.open_decisions() == before
            return seen

        async def works() -> None:
            assert ADDRESS in await take(channel, good)
            assert core.value("routing_errors_total", surface="ext_proc") == 0
            assert core.value("routing_errors_total", surface="grpc") == 0

        yield Trial(give, works)
    await server.drain(0.0, 0.0)


async def call(channel: grpc.aio.Channel, given: Call) -> str:
    """Call RoutingService."""
    method = channel.unary_unary(f"/{routing_service.SERVICE_NAME}/{given.method}", _as_is, _as_is)
    request = given.request if isinstance(given.request, bytes) else given.request.SerializeToString()
    try:
        return str(routing_pb2.RouteResponse.FromString(await method(request)))
    except grpc.aio.AioRpcError as error:
        return _status(error)


async def converse(channel: grpc.aio.Channel, given: Messages | Http) -> str:
    """Hold an ext_proc stream."""
    messages = given.messages() if isinstance(given, Http) else given
    encoded = [one if isinstance(one, bytes) else one.SerializeToString() for one in messages]
    process = channel.stream_stream(f"/{ext_proc.SERVICE_NAME}/Process", _as_is, _as_is)
    try:
        answers = [pb.ProcessingResponse.FromString(answer) async for answer in process(iter(encoded))]
    except grpc.aio.AioRpcError as error:
        return _status(error)
    last = answers[-1]
    return _immediate(last.immediate_response) if last.HasField("immediate_response") else str(last.dynamic_metadata)


def _as_is(message: bytes) -> bytes:
    return message


def _status(error: grpc.aio.AioRpcError) -> str:
    trailers: Any = error.trailing_metadata()
    reason = dict(trailers).get(DROPPED_REASON_HEADER)
    return f"{error.code().name}: {error.details()}" + (f" ({DROPPED_REASON_HEADER}: {reason})" if reason else "")


def _immediate(answer: pb.ImmediateResponse) -> str:
    error = json.loads(answer.body)["error"]
    assert error["code"] == answer.status.code
    headers = {one.header.key: one.header.raw_value.decode() for one in answer.headers.set_headers}
    assert headers.pop("content-type") == "application/json"
    shown = "".join(f" ({key}: {value})" for key, value in headers.items())
    return f"{answer.status.code} {error['type']}: {error['message']}{shown}"


def served(take: Take, good: object) -> Callable[[Path], AbstractAsyncContextManager[Trial]]:
    """Return the trial of a surface of the gRPC server."""
    return partial(_served, take, good)
