"""Signals of hooks for readers of the live channel.

Their file is numbered and only appended to (``store/signals.py``), so a number is a place in it, as a position is one
in the day files: behind it comes exactly what was stored later. In a reader's cursor it is the last part,
``s<number>.<check of the text up to there>``; without a check as people type it. The file is looked at five times a
second, while anybody wants signals.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from weakref import WeakSet

from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.serve.live.hub import News
from hk_tick_collector.store.signals import Signal, newest_signal, number_before, read_signals

LOOK_SEC = 0.2
FRAME = 100  # signals of one read


class Signals:
    """One a server. ``newest``: the number that was seen last; None until the file was read."""

    def __init__(self, directory: Path, news: News) -> None:
        self._directory = directory
        self._news = news
        self.newest: int | None = None
        self.readers: WeakSet[object] = WeakSet()  # those who want signals

    async def watch(self) -> None:
        """Tell of news, for ever."""
        while True:
            if self.readers:
                await self.look()
            await asyncio.sleep(LOOK_SEC)

    async def look(self) -> int | None:
        """The newest number now; None while the file cannot be read."""
        try:
            newest = await asyncio.to_thread(newest_signal, self._directory)
        except StoreError:
            return None
        if newest != self.newest:
            self.newest = newest
            self._news.tell()
        return newest

    async def are_replaced(self, number: int) -> bool:
        """Has the file begun anew? ``number`` was read from it before: a look that begins now must find it. ``newest``
        does not tell: a look that began earlier may have ended later."""
        newest = await self.look()
        return newest is not None and newest < number

    async def behind(self, number: int) -> list[Signal]:
        """The next signals, oldest first. StoreError when they cannot be read now."""
        return await asyncio.to_thread(read_signals, self._directory, number, FRAME)

    async def before(self, recv_ts_ms: int) -> int:
        """The number behind which signals came at that moment or later. StoreError when they cannot be read now."""
        return await asyncio.to_thread(number_before, self._directory, recv_ts_ms)
