"""Waiting on the recorder's loop for what another thread does."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from concurrent.futures import Future
from typing import Any

import pytest

from hk_tick_collector.core.errors import FeedError, FeedTimeout
from hk_tick_collector.sources.remote.conversation import within


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_failure_that_comes_after_whoever_waited_has_gone_is_no_traceback_in_the_log(is_cancelled: bool) -> None:
    """A connection that ends while its gateway is asked, or an answer that came too late."""
    complaints: list[dict[str, Any]] = []

    async def life() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        asked: Future[int] = Future()
        waiting = asyncio.create_task(within(asked, 60 if is_cancelled else 0.01, "no answer"))
        await asyncio.sleep(0)
        if is_cancelled:
            waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError, FeedTimeout):
            await waiting
        asked.set_exception(FeedError("left alone (503)"))
        await asyncio.sleep(0.05)  # it is handed from one future to the other
        del asked, waiting
        gc.collect()

    asyncio.run(life())
    assert complaints == []


def test_what_was_done_in_time_is_given_or_raised() -> None:
    async def life() -> None:
        done: Future[int] = Future()
        done.set_result(3)
        assert await within(done, 60, "no answer") == 3
        failed: Future[int] = Future()
        failed.set_exception(FeedError("no"))
        with pytest.raises(FeedError, match="no"):
            await within(failed, 60, "no answer")
        with pytest.raises(FeedTimeout, match=r"no answer in 0\.01 s"):
            await within(Future(), 0.01, "no answer")

    asyncio.run(life())
