"""Several byte streams in one websocket, as the subresources portforward and exec have them.

Every binary message begins with the number of its channel.
"""

import asyncio
import json
import struct

from aiohttp import WSMsgType, web
from tests.cluster.kubelet.process import Command, StartError

CHUNK_BYTES = 2**15
STDIN, STDOUT, STDERR, RESULT = 0, 1, 2, 3
CLOSE = 255
"""In version 5: the next byte names a channel that the client has closed."""
FORWARD_PROTOCOLS = ("v4.channel.k8s.io",)
EXEC_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
NOT_FOUND_EXIT_CODE = 127


async def forward(socket: web.WebSocketResponse, address: str, port: int) -> None:
    """Pass bytes between a client's websocket and one connection to a port of a pod, until either ends."""
    for channel in (0, 1):
        await socket.send_bytes(bytes([channel]) + struct.pack("<H", port))
    try:
        reader, writer = await asyncio.open_connection(address, port)
    except OSError as error:
        await socket.send_bytes(b"\x01" + f"connection to port {port} failed: {error}".encode())
        return
    answering = asyncio.create_task(_send(reader, socket, 0))
    asking = asyncio.create_task(_receive(socket, {0: writer}))
    try:
        await asyncio.wait([answering, asking], return_when=asyncio.FIRST_COMPLETED)
    finally:
        answering.cancel()
        asking.cancel()
        writer.close()


async def execute(socket: web.WebSocketResponse, command: Command) -> None:
    """Run a command for a client's websocket, which gets its output and at last its exit code."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command.program(),
            cwd=command.folder,
            env=command.environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except StartError as error:
        await socket.send_bytes(bytes([STDERR]) + f"{error}\n".encode())
        await socket.send_bytes(bytes([RESULT]) + _result(NOT_FOUND_EXIT_CODE))
        return
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    asking = asyncio.create_task(_receive(socket, {STDIN: process.stdin}))
    try:
        await asyncio.gather(_send(process.stdout, socket, STDOUT), _send(process.stderr, socket, STDERR))
        code = await process.wait()
    finally:
        asking.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()
    await socket.send_bytes(bytes([RESULT]) + _result(code))


async def _send(reader: asyncio.StreamReader, socket: web.WebSocketResponse, channel: int) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        await socket.send_bytes(bytes([channel]) + chunk)


async def _receive(socket: web.WebSocketResponse, writers: dict[int, asyncio.StreamWriter]) -> None:
    async for message in socket:
        if message.type != WSMsgType.BINARY or not message.data:
            continue
        channel, content = message.data[0], message.data[1:]
        if channel == CLOSE and content and content[0] in writers:
            writers[content[0]].close()
        elif channel in writers and content:
            writers[channel].write(content)
            await writers[channel].drain()


def _result(code: int) -> bytes:
    if code == 0:
        return json.dumps({"metadata": {}, "status": "Success"}).encode()
    causes = [{"reason": "ExitCode", "message": str(code)}]
    message = f"command terminated with non-zero exit code: exit status {code}"
    failure = {"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "message": message}
    return json.dumps(failure | {"details": {"causes": causes}}).encode()
