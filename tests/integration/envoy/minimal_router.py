"""A router process that picks the address of its first argument and listens at that of its second."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc

from pointsman.envoy.v3 import access_log_pb2 as log
from pointsman.envoy.v3 import access_log_pb2_grpc as log_grpc
from pointsman.envoy.v3 import external_processor_pb2 as ext
from pointsman.envoy.v3 import external_processor_pb2_grpc as ext_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class MinimalRouter(ext_grpc.ExternalProcessorServicer, log_grpc.AccessLogServiceServicer):
    def __init__(self, destination: str) -> None:
        self._answer = ext.ProcessingResponse(request_body=ext.BodyResponse())
        self._answer.dynamic_metadata["envoy.lb"] = {"x-gateway-destination-endpoint": destination}

    async def Process(  # noqa: N802
        self, requests: AsyncIterator[ext.ProcessingRequest], context: Context
    ) -> AsyncIterator[ext.ProcessingResponse]:
        async for request in requests:
            if request.HasField("request_body"):
                yield self._answer
                return
            yield ext.ProcessingResponse(request_headers=ext.HeadersResponse())

    async def StreamAccessLogs(  # noqa: N802
        self, requests: AsyncIterator[log.StreamAccessLogsMessage], context: Context
    ) -> log.StreamAccessLogsResponse:
        async for _ in requests:
            pass
        return log.StreamAccessLogsResponse()


async def serve(destination: str, address: str) -> None:
    server = grpc.aio.server()
    router = MinimalRouter(destination)
    ext_grpc.add_ExternalProcessorServicer_to_server(router, server)  # type: ignore[no-untyped-call]
    log_grpc.add_AccessLogServiceServicer_to_server(router, server)  # type: ignore[no-untyped-call]
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
