"""The threads that read for who is behind: a reader that leaves in the middle leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.serve.live.hub import Hub, News, Readers
from hk_tick_collector.store.follow import Follower
from hk_tick_collector.store.position import DayChanged, Position


def test_a_reader_that_left_is_told_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is the log: what its read found would stand there with all its stack."""
    goes_on = threading.Event()

    def changed(*_: object) -> None:
        goes_on.wait(30)
        raise DayChanged("it was exchanged", "20261120", Position())

    monkeypatch.setattr(Follower, "read_behind", changed)
    complaints: list[dict[str, Any]] = []

    async def leave() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        readers, hub = Readers(count=1), Hub(tmp_path, News())
        leaving = asyncio.ensure_future(readers.next(hub, Position()))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        goes_on.set()
        with pytest.raises(DayChanged):  # the thread is free for the next one, which is told
            await readers.next(hub, Position())
        readers.close()

    asyncio.run(leave())
    gc.collect()
    assert complaints == []
