"""Looks that are made in threads: a reader that leaves in the middle, a look that ends after a later one."""

from __future__ import annotations

import asyncio
import gc
import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.serve.keys import ANONYMOUS
from hk_tick_collector.serve.live.hub import Hub, News, Readers
from hk_tick_collector.serve.live.question import Subscription
from hk_tick_collector.serve.live.session import Session
from hk_tick_collector.serve.live.signals import Signals
from hk_tick_collector.store.position import DayChanged, Position
from hk_tick_collector.store.signals import SignalStore


class Changing:
    """Answers that the file is another one, once it may."""

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()

    async def ask(self, _what: str, *_: object) -> None:
        await self.goes_on.wait()
        raise DayChanged("it was exchanged", "20261120", Position())

    async def close(self) -> None:
        pass


def test_a_reader_that_left_is_told_of_nothing(tmp_path: Path) -> None:
    """Nor is the log: what its read found would stand there with all its stack."""
    complaints: list[dict[str, Any]] = []

    async def leave() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        answers = Changing()
        readers, hub = Readers(1, lambda: answers), Hub(tmp_path, News())
        leaving = asyncio.ensure_future(readers.check(hub, Position()))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        answers.goes_on.set()
        with pytest.raises(DayChanged):  # free for the next one, which is told
            await readers.check(hub, Position())
        await readers.close()

    asyncio.run(leave())
    gc.collect()
    assert complaints == []


def test_a_look_that_ends_late_does_not_take_signals_back(tmp_path: Path) -> None:
    with closing(SignalStore(tmp_path)) as store:
        for number in range(3):
            store.add("x", "700", {"n": number}, recv_ts_ms=number, cursor=None, sender="test")

    async def late() -> None:
        news = News()
        signals = Signals(tmp_path, news)
        key = replace(ANONYMOUS, scopes=("live", "hook:x"))
        wanted = Subscription({}, signals=frozenset(("x",)), after_signal=3)
        session = Session(wanted, [], key, news, Readers(0), stopping=asyncio.Event(), signals=signals)
        await session.open()
        signals.newest = 2  # as a look found it that began before the third one was stored
        assert await session._signal_events() == []
        with closing(SignalStore(tmp_path)) as store:
            store.add("x", "700", {"n": 3}, recv_ts_ms=3, cursor=None, sender="test")
        await signals.look()
        (told,) = await session._signal_events()
        assert json.loads(told.data)["signal"]["number"] == 4

    asyncio.run(late())
