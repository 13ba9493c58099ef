"""The kubelet's own API, which the API server calls for `kubectl logs`, `exec` and `port-forward`.

Only bearers of a certificate that the cluster's authority signed are let in. Websockets are spoken, SPDY is not.
"""

import asyncio
import ssl

from aiohttp import web
from tests.cluster.kubelet import streams
from tests.cluster.kubelet.configuration import Configuration
from tests.cluster.kubelet.kubelet import Kubelet
from tests.cluster.kubelet.pod import Pod

FOLLOW_SECONDS = 0.2


class Server:
    """Answers for the pods of a kubelet; an async context manager.

    Raises:
        OSError: its address is taken.
    """

    def __init__(self, kubelet: Kubelet, configuration: Configuration) -> None:
        self._kubelet, self._configuration = kubelet, configuration

    async def __aenter__(self) -> "Server":
        application = web.Application()
        pod = "/{namespace}/{pod}"
        application.router.add_get("/containerLogs" + pod + "/{container}", self._logs)
        application.router.add_get("/portForward" + pod, self._port_forward)
        application.router.add_get("/exec" + pod + "/{container}", self._exec)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self._configuration.authority)
        trust.load_cert_chain(self._configuration.certificate, self._configuration.key)
        trust.verify_mode = ssl.CERT_REQUIRED
        address, port = self._configuration.address, self._configuration.port
        await web.TCPSite(self._runner, address, port, ssl_context=trust, shutdown_timeout=1).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        pod = self._pod(request)
        container = pod.container(request.match_info["container"])
        path = None if container is None else pod.log(container, previous=request.query.get("previous") == "true")
        if container is None or path is None or not path.exists():
            raise web.HTTPNotFound(text="no output of that container is kept")
        response = web.StreamResponse()
        response.content_type = "text/plain"
        await response.prepare(request)
        content = path.read_bytes()
        await response.write(_last_lines(content, request.query.get("tailLines")))
        at = len(content)
        while request.query.get("follow") == "true" and container.running_command is not None:
            await asyncio.sleep(FOLLOW_SECONDS)
            with path.open("rb") as log:
                log.seek(at)
                fresh = log.read()
            at += len(fresh)
            if fresh:
                await response.write(fresh)
        return response

    async def _port_forward(self, request: web.Request) -> web.StreamResponse:
        pod = self._pod(request)
        port = int(request.query["port"].partition(",")[0])
        socket = web.WebSocketResponse(protocols=streams.FORWARD_PROTOCOLS, autoping=True, max_msg_size=0)
        await socket.prepare(request)
        await streams.forward(socket, pod.address, port)
        await socket.close()
        return socket

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        container = self._pod(request).container(request.match_info["container"])
        running = None if container is None else container.running_command
        if running is None:
            raise web.HTTPNotFound(text="that container is not running")
        command = running.with_arguments(request.query.getall("command"))
        socket = web.WebSocketResponse(protocols=streams.EXEC_PROTOCOLS, max_msg_size=0)
        await socket.prepare(request)
        await streams.execute(socket, command)
        await socket.close()
        return socket

    def _pod(self, request: web.Request) -> Pod:
        pod = self._kubelet.find(request.match_info["namespace"], request.match_info["pod"])
        if pod is None:
            raise web.HTTPNotFound(text="that pod does not run here")
        return pod


def _last_lines(content: bytes, count: str | None) -> bytes:
    if count is None:
        return content
    lines = content.splitlines(keepends=True)
    return b"".join(lines[max(0, len(lines) - int(count)) :])
