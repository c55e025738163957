"""Waiting on the loop for something: for so long at most, or for the first of several.

When a task is cancelled in the same turn of the loop in which what it waits for comes, ``asyncio.wait_for`` of Python
3.11 returns that, and the cancellation is gone: a loop that was told to end goes on, and who waits for its end waits
for ever. It is banned (ruff, TID251); ``asyncio.timeout`` keeps the cancellation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable


async def is_set_within(event: asyncio.Event, timeout_sec: float) -> bool:
    """Is the event set, now or within this time?"""
    try:
        async with asyncio.timeout(timeout_sec):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def until_first(*works: Awaitable[object]) -> None:
    """Do all of them until one ends; its error is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
