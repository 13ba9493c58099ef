"""Ends kopf inside a loop that is not its own."""

import asyncio
from collections.abc import Collection
from typing import Any


async def until_one_ends(tasks: Collection[asyncio.Task[Any]], stop_seconds: float) -> None:
    """Wait until a task ends, then end them all; kopf's own way would cancel every task of the loop.

    Args:
        tasks: Kopf's, and others that live as long.
        stop_seconds: Longest time for them to end.

    Raises:
        Exception: What the task failed with, if it did.
    """
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for error in filter(None, (task.exception() for task in done if not task.cancelled())):
            raise error
    finally:
        for task in tasks:
            task.cancel()
            task.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.wait(tasks, timeout=stop_seconds)
