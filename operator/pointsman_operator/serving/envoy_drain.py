"""Ends an Envoy without ending its answers.

Told to stop, Envoy stops at once. So before that: ask it to close idle connections, go on serving while load balancers
take note that the pod is going, and wait for the open requests.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp

_ACTIVE = "http.openai.downstream_rq_active"
_POLL_SECONDS = 0.2


async def drain(
    admin_socket: Path, notice_seconds: float, grace_seconds: float, clock: Callable[[], float] = time.monotonic
) -> int:
    """Return how many requests are open at the end; 0 = all were answered.

    Args:
        admin_socket: Of Envoy's admin page.
        notice_seconds: How long to serve on in any case.
        grace_seconds: Longest wait for open requests after that.
        clock: Monotonic seconds.

    Raises:
        OSError: If Envoy cannot be reached; then there is nothing to wait for.
    """
    connector = aiohttp.UnixConnector(str(admin_socket))
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(5)) as client:
        # Envoy goes on accepting; its answers now ask clients to connect anew, which leads them to another pod.
        async with client.post("http://localhost/drain_listeners?graceful&skip_exit") as answer:
            if answer.status != 200:
                raise OSError(f"Envoy does not drain: {answer.status} {await answer.text()}")
        await asyncio.sleep(notice_seconds)
        deadline = clock() + grace_seconds
        while (count := await _open_requests(client)) and clock() < deadline:  # noqa: ASYNC110 - Envoy must be asked
            await asyncio.sleep(_POLL_SECONDS)
        return count


async def _open_requests(client: aiohttp.ClientSession) -> int:
    async with client.get("http://localhost/stats", params={"filter": f"^{_ACTIVE}$".replace(".", r"\.")}) as answer:
        text = await answer.text()
    return int(text.partition(":")[2] or 0)
