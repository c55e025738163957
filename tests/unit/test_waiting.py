"""A task that is told to end does end, whatever comes in the same turn of the loop."""

from __future__ import annotations

import asyncio

import pytest

from hk_tick_collector.core.waiting import is_set_within


def test_a_cancellation_is_not_lost_when_the_event_comes_with_it() -> None:
    async def waits() -> None:
        event = asyncio.Event()
        task = asyncio.create_task(is_set_within(event, 60))
        await asyncio.sleep(0)
        event.set()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(waits())


def test_it_says_whether_the_event_came() -> None:
    async def waits() -> tuple[bool, bool]:
        event = asyncio.Event()
        before = await is_set_within(event, 0.01)
        event.set()
        return before, await is_set_within(event, 0)

    assert asyncio.run(waits()) == (False, True)
