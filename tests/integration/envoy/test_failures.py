import asyncio
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.envoy.conftest import Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_router_that_does_not_answer_is_passed_over(stack: "Stack") -> None:
    stack.router.stalled = True
    async with stack.post() as response:
        assert response.status == 200
        assert (await response.json())["usage"]["completion_tokens"] == 5


async def test_without_a_router_requests_are_still_answered(stack: "Stack") -> None:
    await stack.router.kill()
    try:
        for streaming in (False, True):
            async with stack.post(stream=streaming) as response:
                assert response.status == 200
                assert await response.read()
    finally:
        await stack.router.start()


async def test_picks_are_followed_again_once_the_router_is_back(stack: "Stack") -> None:
    await stack.router.kill()
    async with stack.post() as response:
        assert response.status == 200
    await stack.router.start()
    stack.router.destination = stack.experts["b"].address

    async def followed() -> bool:
        decided = len(stack.router.decisions)
        async with stack.post() as response:
            return response.headers["x-expert"] == "b" and len(stack.router.decisions) > decided

    await stack.eventually(followed, "Envoy does not ask the router again")


async def test_a_router_killed_amid_a_stream_truncates_no_answer(stack: "Stack") -> None:
    stack.router.destination = stack.experts["a"].address
    async with stack.post(stream=True, max_tokens=50, fake={"hold_after": 3}) as response:
        first = await response.content.readline()
        await stack.router.kill()
        try:
            stack.experts["a"].release.set()
            text = first + await response.read()
        finally:
            await stack.router.start()
    assert text.endswith(b"data: [DONE]\n\n")
    assert text.count(b"data:") == 52


async def test_a_router_killed_while_it_decides_loses_no_request(stack: "Stack") -> None:
    stack.router.stalled = True
    stack.router.requests.clear()

    async def answer() -> int:
        async with stack.post() as response:
            return response.status

    pending = asyncio.create_task(answer())
    await stack.eventually(lambda: bool(stack.router.requests), "the router was not asked")
    await stack.router.kill()
    try:
        assert await pending == 200
    finally:
        await stack.router.start()
