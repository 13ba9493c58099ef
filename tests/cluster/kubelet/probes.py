"""Probes: is a container started, alive, ready?"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
from tests.cluster.kubelet.documents import Document, port_number
from tests.cluster.kubelet.process import Command, StartError, run_to_end

FIRST_READY_PERIOD_SECONDS = 0.5
"""Until a container was ready once, readiness is asked this often at least, so that nobody waits for a long period."""
LEAST_TIMEOUT_SECONDS = 5.0
"""Shorter timeouts count as this: a whole cluster shares the cores of one machine."""
GRACE_SECONDS = 30.0

Check = Callable[[], Awaitable[str | None]]
"""Returns why a probe failed, or None if it succeeded."""


@dataclass(frozen=True)
class Target:
    """Whom to probe."""

    pod: Document
    container: Document
    address: str
    command: Command
    http: aiohttp.ClientSession


async def run_action(action: Document, target: Target, seconds: float) -> str | None:
    """Do what a probe or a lifecycle hook says; return why it failed, or None."""
    try:
        async with asyncio.timeout(seconds):
            if request := action.get("httpGet"):
                return await _http(request, target)
            if connection := action.get("tcpSocket"):
                return await _tcp(connection, target)
            if execution := action.get("exec"):
                code, output = await run_to_end(target.command.with_arguments(execution["command"]), seconds)
                return None if code == 0 else f"exit code {code}: {output}"
            if pause := action.get("sleep"):
                await asyncio.sleep(pause["seconds"])
                return None
    except TimeoutError:
        return f"timed out after {seconds:g} s"
    except (aiohttp.ClientError, OSError, StartError) as error:
        return str(error) or type(error).__name__
    return f"the process kubelet has no probe of kind {', '.join(action)}"


async def _http(request: Document, target: Target) -> str | None:
    port = port_number(target.pod, request["port"], target.container)
    scheme = request.get("scheme", "HTTP").lower()
    url = f"{scheme}://{request.get('host') or target.address}:{port}/{request.get('path', '/').removeprefix('/')}"
    headers = {header["name"]: header["value"] for header in request.get("httpHeaders", ())}
    async with target.http.get(url, headers=headers, allow_redirects=False) as answer:
        return None if 200 <= answer.status < 400 else f"HTTP probe failed with statuscode: {answer.status}"


async def _tcp(connection: Document, target: Target) -> str | None:
    port = port_number(target.pod, connection["port"], target.container)
    _, writer = await asyncio.open_connection(connection.get("host") or target.address, port)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return None


async def watch(probe: Document, check: Check, tell: Callable[[bool, str], None], *, hurry: bool = False) -> None:
    """Ask again and again until cancelled, and tell the result whenever it changes, and the first one.

    Args:
        probe: its document, for delays, periods in seconds and thresholds.
        check: asks once.
        tell: called with the result and why.
        hurry: ask more often than the period until the first success.
    """
    period = float(probe.get("periodSeconds", 10))
    thresholds = {True: probe.get("successThreshold", 1), False: probe.get("failureThreshold", 3)}
    last: bool | None = None
    said: bool | None = None
    streak = 0
    await asyncio.sleep(probe.get("initialDelaySeconds", 0))
    while True:
        why = await check()
        streak = streak + 1 if last == (why is None) else 1
        last = why is None
        if streak >= thresholds[last] and said != last:
            said = last
            tell(last, why or "")
        await asyncio.sleep(min(period, FIRST_READY_PERIOD_SECONDS) if hurry and said is not True else period)
