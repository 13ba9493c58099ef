"""Real clients on the sidecar's transport: grpc, and the h2 library as an independent reading of the RFCs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from tests.unit.serving.conftest import (
    FakeRouting,
    chat,
    converse,
    eventually,
    process_stub,
    request_body,
    request_headers,
    response_body,
    response_headers,
)

from pointsman.envoy.v3 import external_processor_pb2 as pb
from pointsman_operator.decision import OutcomeStatus
from pointsman_operator.metrics import Metrics
from pointsman_operator.serving.destinations import Destinations
from pointsman_operator.serving.ext_proc import ExternalProcessor
from pointsman_operator.serving.sidecar import SidecarListener

BUFFERED = (request_headers(mode="BUFFERED"), request_body(chat()))
MAX_MESSAGE_BYTES = 64 << 20
Running = tuple[SidecarListener, grpc.aio.Channel]


@asynccontextmanager
async def listening(destinations: Destinations, address: str) -> AsyncIterator[tuple[SidecarListener, str]]:
    processor = ExternalProcessor(destinations, asyncio.get_running_loop().time)
    listener = SidecarListener(processor, MAX_MESSAGE_BYTES)
    (port,) = await listener.start((address,))
    try:
        yield listener, address if port == 1 else f"127.0.0.1:{port}"
    finally:
        listener.leave()
        listener.abort()
        await eventually(lambda: processor.open_streams == 0)


@pytest.fixture(params=["tcp", "unix"])
async def sidecar(request: pytest.FixtureRequest, destinations: Destinations, tmp_path: Path) -> AsyncIterator[Running]:
    address = "127.0.0.1:0" if request.param == "tcp" else f"unix:{tmp_path}/s"
    options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
    async with (
        listening(destinations, address) as (listener, target),
        grpc.aio.insecure_channel(target, options=options) as channel,
    ):
        yield listener, channel


def streams(metrics: Metrics, mode: str, result: str) -> float | None:
    return metrics.registry.get_sample_value("pointsman_ext_proc_streams_total", {"mode": mode, "result": result})


async def test_a_buffered_conversation(sidecar: Running, routing: FakeRouting, metrics: Metrics) -> None:
    answers = await converse(process_stub(sidecar[1]), BUFFERED)
    assert [answer.WhichOneof("response") for answer in answers] == ["request_headers", "request_body"]
    assert routing.open == {"decision-1"}
    assert streams(metrics, "BUFFERED", "ok") == 1


async def test_a_full_duplex_conversation(sidecar: Running, routing: FakeRouting) -> None:
    messages = [
        request_headers(),
        *(request_body(bytes([byte]), end_of_stream=False) for byte in chat()),
        request_body(b""),
        response_headers(),
        response_body(b"data: {}\n\ndata: [DONE]\n\n", end_of_stream=True),
    ]
    answers = await converse(process_stub(sidecar[1]), messages)
    assert [answer.WhichOneof("response") for answer in answers][-1] == "response_body"
    assert routing.outcomes[-1].status is OutcomeStatus.COMPLETED


async def test_a_client_that_ends_early_leaves_nothing_open(
    sidecar: Running, routing: FakeRouting, metrics: Metrics
) -> None:
    answers = await converse(process_stub(sidecar[1]), BUFFERED[:1])
    assert len(answers) == 1
    assert not routing.queries
    assert streams(metrics, "BUFFERED", "abandoned") == 1


async def test_a_malformed_stream_is_an_invalid_argument(sidecar: Running, metrics: Metrics) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await converse(process_stub(sidecar[1]), [request_body(b"{}")])
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "request_headers must come first" in (raised.value.details() or "")
    process: Any = sidecar[1].stream_stream
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await process("/envoy.service.ext_proc.v3.ExternalProcessor/Process")(iter([b"\xff\xff\xff\xff"])).read()
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    await eventually(lambda: metrics.registry.get_sample_value("pointsman_ext_proc_streams_open") == 0)


async def test_a_mistake_of_ours_ends_one_stream(
    sidecar: Running, destinations: Destinations, monkeypatch: pytest.MonkeyPatch, metrics: Metrics
) -> None:
    stub = process_stub(sidecar[1])
    with monkeypatch.context() as patch:
        patch.setattr(destinations, "find", None)
        patch.setattr(destinations.metrics, "failed", None)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await converse(stub, BUFFERED)
    assert raised.value.code() == grpc.StatusCode.INTERNAL
    assert streams(metrics, "BUFFERED", "failed") == 1
    assert len(await converse(stub, BUFFERED)) == 2


@pytest.mark.parametrize("size", [220_000, 8 << 20])
async def test_a_large_rewritten_body(sidecar: Running, routing: FakeRouting, size: int) -> None:
    routing.model_rewrite = "qwen"
    messages = [BUFFERED[0], request_body(chat("x" * size))]
    answers = await converse(process_stub(sidecar[1]), messages)
    assert len(answers[1].request_body.response.body_mutation.body) > size


async def test_two_hundred_streams_at_once(sidecar: Running, routing: FakeRouting) -> None:
    stub = process_stub(sidecar[1])
    conversations = await asyncio.gather(*(converse(stub, BUFFERED) for _ in range(200)))
    assert all(len(answers) == 2 for answers in conversations)
    assert len(routing.open) == 200


async def test_a_cancelled_stream_leaves_nothing_open(sidecar: Running, routing: FakeRouting, metrics: Metrics) -> None:
    call = process_stub(sidecar[1])(None)
    for message in (request_headers(), request_body(chat())):
        await call.write(message)
    assert await call.read()
    call.cancel()
    await eventually(lambda: not routing.open)
    assert routing.outcomes[-1].status is OutcomeStatus.CANCELLED
    await eventually(lambda: streams(metrics, "FULL_DUPLEX_STREAMED", "abandoned") == 1)


async def test_open_streams_may_end_after_the_listener_has_left(sidecar: Running, routing: FakeRouting) -> None:
    listener, channel = sidecar
    call = process_stub(channel)(None)
    await call.write(BUFFERED[0])
    await call.read()
    listener.leave()
    await call.write(BUFFERED[1])
    assert await call.read()
    assert await call.code() == grpc.StatusCode.OK
    await eventually(lambda: channel.get_state() is not grpc.ChannelConnectivity.READY)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await converse(process_stub(channel), BUFFERED)
    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_aborting_closes_streams_that_stay(sidecar: Running, routing: FakeRouting) -> None:
    call = process_stub(sidecar[1])(None)
    for message in (request_headers(), request_body(chat())):
        await call.write(message)
    await call.read()
    sidecar[0].abort()
    assert not routing.open
    assert await call.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("address", ["127.0.0.1", ":0", "127.0.0.1:99999", "127.0.0.1:x", "unix:/nowhere/at/all"])
async def test_an_address_that_cannot_be_listened_on_is_named(destinations: Destinations, address: str) -> None:
    listener = SidecarListener(ExternalProcessor(destinations, lambda: 0.0), MAX_MESSAGE_BYTES)
    with pytest.raises(RuntimeError, match=f"cannot listen on '{address}' for the sidecar"):
        await listener.start((address,))


@dataclass
class H2Client:
    """One stream of the h2 library, which checks every frame and header that it gets."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    state: h2.connection.H2Connection
    body: bytearray = field(default_factory=bytearray)
    headers: list[tuple[str, str]] = field(default_factory=list)
    ended: bool = False

    async def ask(self, *messages: pb.ProcessingRequest) -> None:
        """Converse on stream 1, opening the windows only as far as the answer has been read."""
        head = {":method": "POST", ":scheme": "http", ":authority": "router", ":path": "/x", "te": "trailers"}
        self.state.send_headers(1, list(head.items()))
        for message in messages:
            data = message.SerializeToString()
            self.state.send_data(1, b"\x00" + len(data).to_bytes(4, "big") + data)
        self.writer.write(self.state.data_to_send())
        while not self.ended:
            data = await self.reader.read(65_536)
            assert data
            for event in self.state.receive_data(data):
                self._take(event)
            self.writer.write(self.state.data_to_send())

    def _take(self, event: object) -> None:
        assert not isinstance(event, h2.events.ConnectionTerminated)
        if isinstance(event, h2.events.DataReceived):
            self.body += event.data or b""
            self.state.acknowledge_received_data(event.flow_controlled_length or 0, 1)
        elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
            self.headers += [(str(key), str(value)) for key, value in event.headers or ()]
        elif isinstance(event, h2.events.StreamEnded):
            self.ended = True


@pytest.fixture
async def strict(destinations: Destinations) -> AsyncIterator[H2Client]:
    async with listening(destinations, "127.0.0.1:0") as (_, address):
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        state = h2.connection.H2Connection(config)
        state.initiate_connection()
        yield H2Client(reader, writer, state)
        writer.close()
        await writer.wait_closed()


async def test_another_http2_library_understands_answer_and_trailers(strict: H2Client) -> None:
    await strict.ask(*BUFFERED)
    assert strict.headers == [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "0")]
    assert strict.body


@pytest.mark.parametrize("window", [1, 1_000, 65_535])
async def test_another_http2_library_gets_a_large_answer_without_a_dynamic_table(
    strict: H2Client, routing: FakeRouting, window: int
) -> None:
    routing.model_rewrite = "qwen" * 60_000 if window > 1 else "qwen"
    codes = h2.settings.SettingCodes
    settings: dict[h2.settings.SettingCodes | int, int] = {
        codes.HEADER_TABLE_SIZE: 0,
        codes.INITIAL_WINDOW_SIZE: window,
    }
    strict.state.update_settings(settings)
    await strict.ask(*BUFFERED)
    assert ("grpc-status", "0") in strict.headers
    assert routing.model_rewrite.encode() in strict.body


async def test_another_http2_library_understands_an_error(strict: H2Client) -> None:
    await strict.ask(request_body(b"{}"))
    assert strict.headers[:3] == [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "3")]
    assert strict.headers[3][0] == "grpc-message"
