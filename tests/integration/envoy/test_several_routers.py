from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.envoy.conftest import Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def router_count() -> int:
    return 2


async def ask(stack: "Stack") -> str:
    """The name of the router that decided, empty if none did."""
    before = [len(router.decisions) for router in stack.routers]
    async with stack.post() as response:
        assert response.status == 200
        await response.read()
    for router, count in zip(stack.routers, before, strict=True):
        if len(router.decisions) > count:
            return router.name
    return ""


async def test_picks_are_shared_out(stack: "Stack") -> None:
    assert {await ask(stack) for _ in range(40)} == {"router0", "router1"}


async def test_the_router_that_decided_gets_the_outcome(stack: "Stack") -> None:
    for _ in range(20):
        await ask(stack)
    for router in stack.routers:
        for decision in router.decisions:
            await router.outcome(decision)


async def test_a_dead_router_is_soon_left_out(stack: "Stack") -> None:
    await stack.routers[1].kill()
    try:
        deciders = [await ask(stack) for _ in range(40)]
    finally:
        await stack.routers[1].start()
    assert deciders.count("router0") >= 35
