"""Everything on one real gRPC server: ext_proc on the wire, access log, health, reflection, draining."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.unit.serving.conftest import (
    FakeRouting,
    ManualClock,
    chat,
    converse,
    eventually,
    process_stub,
    request_body,
    request_headers,
    response_body,
    response_headers,
    serving,
    set_headers,
)

from pointsman.envoy.v3 import access_log_pb2, access_log_pb2_grpc
from pointsman.envoy.v3 import external_processor_pb2 as pb
from pointsman_operator.decision import OutcomeStatus, RouteQuery
from pointsman_operator.metrics import Metrics
from pointsman_operator.serving.destinations import Destinations
from pointsman_operator.serving.ext_proc import ExternalProcessor
from pointsman_operator.serving.server import RouterServer, ServerSettings

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
Running = tuple[RouterServer, grpc.aio.Channel]


@pytest.fixture
async def running(routing: FakeRouting, metrics: Metrics, destinations: Destinations) -> AsyncIterator[Running]:
    async with serving(routing, metrics, destinations) as pair:
        yield pair


def streams(metrics: Metrics, mode: str, result: str) -> float | None:
    return metrics.registry.get_sample_value("pointsman_ext_proc_streams_total", {"mode": mode, "result": result})


def log_entries(metrics: Metrics) -> float:
    (family,) = [item for item in metrics.registry.collect() if item.name == "pointsman_access_log_entries"]
    return sum(sample.value for sample in family.samples if sample.name.endswith("_total"))


async def answer(call: grpc.aio.StreamStreamCall[pb.ProcessingRequest, pb.ProcessingResponse]) -> pb.ProcessingResponse:
    message = await call.read()
    assert isinstance(message, pb.ProcessingResponse)
    return message


async def health(channel: grpc.aio.Channel, service: str) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    return int((await stub.Check(health_pb2.HealthCheckRequest(service=service))).status)


async def test_a_buffered_stream_is_closed_by_the_router_right_after_the_pick(
    running: Running, routing: FakeRouting, metrics: Metrics
) -> None:
    call = process_stub(running[1])(None)
    await call.write(request_headers(mode="BUFFERED"))
    first = await answer(call)
    await call.write(request_body(chat()))
    second = await answer(call)
    assert first.WhichOneof("response") == "request_headers"
    assert "x-gateway-destination-endpoint" in set_headers(second.request_body.response.header_mutation)
    assert await call.read() is grpc.aio.EOF  # type: ignore[attr-defined]
    assert await call.code() == grpc.StatusCode.OK
    assert routing.open == {"decision-1"}
    await eventually(lambda: streams(metrics, "BUFFERED", "ok") == 1)


async def test_a_full_duplex_conversation_on_the_wire(running: Running, routing: FakeRouting) -> None:
    messages = [
        request_headers(),
        *(request_body(bytes([byte]), end_of_stream=False) for byte in chat()),
        request_body(b""),
        response_headers(),
        response_body(b"data: {}\n\ndata: [DO"),
        response_body(b"NE]\n\n", end_of_stream=True),
    ]
    answers = await converse(process_stub(running[1]), messages)
    kinds = [answer.WhichOneof("response") for answer in answers]
    assert kinds == ["request_headers", "request_body", "response_headers", "response_body", "response_body"]
    assert [outcome.status for outcome in routing.outcomes][-1] is OutcomeStatus.COMPLETED
    assert routing.outcomes[-1].output_tokens == 1


async def test_a_body_of_many_megabytes_fits(running: Running) -> None:
    body = chat("x" * (20 << 20))
    answers = await converse(process_stub(running[1]), [request_headers(mode="BUFFERED"), request_body(body)])
    assert answers[1].request_body.response.clear_route_cache


async def test_a_client_that_resets_the_stream_leaves_nothing_open(
    running: Running, routing: FakeRouting, metrics: Metrics
) -> None:
    call = process_stub(running[1])(None)
    for message in (request_headers(), request_body(chat())):
        await call.write(message)
    assert await call.read()
    assert routing.open
    call.cancel()
    await eventually(lambda: not routing.open)
    assert routing.outcomes[-1].status is OutcomeStatus.CANCELLED
    await eventually(lambda: streams(metrics, "FULL_DUPLEX_STREAMED", "abandoned") == 1)


async def test_an_out_of_order_stream_is_an_invalid_argument(running: Running, metrics: Metrics) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await converse(process_stub(running[1]), [request_body(b"{}")])
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "request_headers must come first" in (raised.value.details() or "")
    await eventually(lambda: streams(metrics, "FULL_DUPLEX_STREAMED", "malformed") == 1)
    assert metrics.registry.get_sample_value("pointsman_ext_proc_streams_open") == 0


@pytest.mark.parametrize(
    ("messages", "result"),
    [
        ([request_headers(), request_body(chat()), response_headers(end_of_stream=True)], "ok"),
        ([request_headers(), request_body(chat(model="nobody"))], "ok"),
        ([request_headers(), request_body(chat()), response_headers()], "abandoned"),
        ([request_headers(), request_body(chat())], "abandoned"),
        ([request_headers()], "abandoned"),
    ],
    ids=["answered", "refused", "in the answer", "picked", "asking"],
)
async def test_a_gateway_that_resets_a_stream_abandons_it_only_before_its_end(
    destinations: Destinations, metrics: Metrics, messages: list[pb.ProcessingRequest], result: str
) -> None:
    stream = ExternalProcessor(destinations, ManualClock()).open()
    for message in messages:
        stream.receive(message.SerializeToString())
    stream.closed(delivered=False)
    assert streams(metrics, "FULL_DUPLEX_STREAMED", result) == 1


@pytest.mark.parametrize(("model", "result"), [("edge-chat", "abandoned"), ("nobody", "ok")])
async def test_a_pick_that_was_not_delivered_is_abandoned_a_refusal_is_not(
    destinations: Destinations, routing: FakeRouting, metrics: Metrics, model: str, result: str
) -> None:
    stream = ExternalProcessor(destinations, ManualClock()).open()
    for message in (request_headers(mode="BUFFERED"), request_body(chat(model=model))):
        stream.receive(message.SerializeToString())
    stream.closed(delivered=False)
    assert streams(metrics, "BUFFERED", result) == 1
    assert not routing.open


async def test_bytes_that_are_no_message_are_an_invalid_argument(running: Running) -> None:
    process: Any = running[1].stream_stream
    call = process("/envoy.service.ext_proc.v3.ExternalProcessor/Process")(iter([b"\xff\xff\xff\xff"]))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call.read()
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_many_streams_at_once_each_get_their_own_answer(running: Running, routing: FakeRouting) -> None:
    stub = process_stub(running[1])
    messages = [request_headers(mode="BUFFERED"), request_body(chat())]
    conversations = await asyncio.gather(*(converse(stub, messages) for _ in range(200)))
    decisions = {
        answers[1].dynamic_metadata.fields["pointsman"].struct_value.fields["decision_id"].string_value
        for answers in conversations
    }
    assert len(decisions) == 200


async def test_the_access_log_closes_decisions(running: Running, routing: FakeRouting) -> None:
    decision = routing.route(RouteQuery("edge-chat"))
    message = access_log_pb2.StreamAccessLogsMessage()
    entry = message.http_logs.log_entry.add()
    entry.common_properties.access_log_type = access_log_pb2.DOWNSTREAM_END
    metadata = entry.common_properties.metadata.filter_metadata["pointsman"]
    metadata.fields["decision_id"].string_value = decision.id
    entry.response.response_code.value = 200
    stub = access_log_pb2_grpc.AccessLogServiceStub(running[1])  # type: ignore[no-untyped-call]
    await stub.StreamAccessLogs(iter([message]))
    assert not routing.open


@pytest.mark.parametrize(
    "service",
    ["", "readiness", "inference-extension", "envoy.service.ext_proc.v3.ExternalProcessor"],
)
async def test_readiness_is_reported_under_every_name_of_the_protocol(running: Running, service: str) -> None:
    server, channel = running
    assert await health(channel, service) == NOT_SERVING
    await server.set_ready(ready=True)
    assert await health(channel, service) == SERVING
    await server.set_ready(ready=False)
    assert await health(channel, service) == NOT_SERVING


async def test_liveness_does_not_wait_for_readiness(running: Running) -> None:
    assert await health(running[1], "liveness") == SERVING


async def test_an_unknown_health_service_is_not_found(running: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await health(running[1], "something-else")
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_every_service(running: Running) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(running[1])
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    call = stub.ServerReflectionInfo(iter([request]))
    response = await call.read()
    names = {service.name for service in response.list_services_response.service}
    assert names == {
        "envoy.service.ext_proc.v3.ExternalProcessor",
        "envoy.service.accesslog.v3.AccessLogService",
        "pointsman.routing.v1.RoutingService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


async def test_a_unix_socket_serves_beside_a_port(
    routing: FakeRouting, metrics: Metrics, destinations: Destinations, tmp_path: Path
) -> None:
    addresses = (f"unix:{tmp_path}/router.sock", "127.0.0.1:0")
    server = RouterServer(routing, metrics, destinations, ServerSettings(addresses=addresses))
    ports = await server.start()
    assert ports[1] > 1
    for address in (addresses[0], f"127.0.0.1:{ports[1]}"):
        async with grpc.aio.insecure_channel(address) as channel:
            assert await health(channel, "liveness") == SERVING
    await server.drain(0.0, 0.0)


async def test_draining_finishes_open_streams_and_is_never_ready_again(
    routing: FakeRouting, metrics: Metrics, destinations: Destinations
) -> None:
    async with serving(routing, metrics, destinations) as (server, channel):
        await server.set_ready(ready=True)
        call = process_stub(channel)(None)
        await call.write(request_headers(mode="BUFFERED"))
        await call.read()
        draining = asyncio.create_task(server.drain(0.0, 30.0))
        await asyncio.sleep(0)
        await server.set_ready(ready=True)
        assert not draining.done()
        await call.write(request_body(chat()))
        assert (await answer(call)).request_body.response.clear_route_cache
        assert await call.code() == grpc.StatusCode.OK
        routing.open.clear()
        async with asyncio.timeout(10):
            await draining


async def test_draining_waits_for_the_sidecars_streams(
    routing: FakeRouting, metrics: Metrics, destinations: Destinations, tmp_path: Path
) -> None:
    address = f"unix:{tmp_path}/s"
    server = RouterServer(routing, metrics, destinations, ServerSettings(("127.0.0.1:0",), (address,)))
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(20):
        call = process_stub(channel)(None)
        await call.write(request_headers(mode="BUFFERED"))
        await call.read()
        draining = asyncio.create_task(server.drain(0.0, 30.0))
        await eventually(lambda: channel.get_state() is not grpc.ChannelConnectivity.READY)
        assert not draining.done()
        await call.write(request_body(chat()))
        assert (await answer(call)).request_body.response.clear_route_cache  # there is no status before it is read
        assert await call.code() == grpc.StatusCode.OK
        del call  # the client closes its connection when nobody holds a call of it
        routing.open.clear()
        await draining


async def test_draining_cuts_off_a_sidecar_that_does_not_answer(
    routing: FakeRouting, metrics: Metrics, destinations: Destinations, tmp_path: Path
) -> None:
    server = RouterServer(routing, metrics, destinations, ServerSettings(("127.0.0.1:0",), (f"unix:{tmp_path}/s",)))
    await server.start()
    reader, writer = await asyncio.open_unix_connection(f"{tmp_path}/s")
    async with asyncio.timeout(20):
        await reader.readexactly(9)
        await server.drain(0.0, 0.1)
        await reader.read()
    writer.close()


async def test_draining_listens_to_access_logs_until_every_decision_is_closed(
    routing: FakeRouting, metrics: Metrics, destinations: Destinations
) -> None:
    async with serving(routing, metrics, destinations) as (server, channel):
        decision = routing.route(RouteQuery("edge-chat"))
        stub = access_log_pb2_grpc.AccessLogServiceStub(channel)  # type: ignore[no-untyped-call]
        log = stub.StreamAccessLogs()
        first = access_log_pb2.StreamAccessLogsMessage()
        first.http_logs.log_entry.add()
        await log.write(first)
        await eventually(lambda: log_entries(metrics) == 1)  # a server that leaves takes no new streams
        draining = asyncio.create_task(server.drain(0.0, 30.0))
        entry = access_log_pb2.HttpAccessLogEntry()
        entry.common_properties.access_log_type = access_log_pb2.DOWNSTREAM_END
        entry.common_properties.metadata.filter_metadata["pointsman"].update({"decision_id": decision.id})
        message = access_log_pb2.StreamAccessLogsMessage()
        message.http_logs.log_entry.append(entry)
        assert not draining.done()
        await log.write(message)
        async with asyncio.timeout(10):
            await draining
        assert [outcome.decision_id for outcome in routing.outcomes] == [decision.id]


async def test_draining_is_seen_by_health_checks_before_the_server_leaves(
    routing: FakeRouting, metrics: Metrics, destinations: Destinations
) -> None:
    async with serving(routing, metrics, destinations) as (server, channel):
        await server.set_ready(ready=True)
        draining = asyncio.create_task(server.drain(30.0, 0.0))
        await asyncio.sleep(0)
        assert await health(channel, "readiness") == NOT_SERVING
        assert await health(channel, "liveness") == SERVING
        await server.set_ready(ready=True)
        assert await health(channel, "readiness") == NOT_SERVING
        draining.cancel()


async def test_streams_that_outlast_the_grace_are_cancelled_and_closed(
    routing: FakeRouting, metrics: Metrics, destinations: Destinations
) -> None:
    async with serving(routing, metrics, destinations) as (server, channel):
        call = process_stub(channel)(None)
        for message in (request_headers(), request_body(chat())):
            await call.write(message)
        await call.read()
        await server.drain(0.0, 0.05)
        await eventually(lambda: not routing.open)
        assert routing.outcomes[-1].status is OutcomeStatus.CANCELLED
