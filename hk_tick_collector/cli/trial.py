"""Do trades come, and are the symbols known? Asked on connections beside the recorder's, for a few seconds.

Of trades one symbol is subscribed, the first of the list: the others are not tried, and the outcome says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence

from hk_tick_collector.cli.checkup import Outcome, fail, ok, warn
from hk_tick_collector.core.errors import FeedError
from hk_tick_collector.core.facts import DayFact, Fact
from hk_tick_collector.core.text import counted
from hk_tick_collector.records.tick import RejectedTick, Tick
from hk_tick_collector.sources.source import Source

OPEN_SEC = 10.0
TRIAL_SEC = 10.0
LOOK_SEC = 0.1


class Counting:
    """A sink that counts."""

    def __init__(self) -> None:
        self.ticks = self.rejects = 0
        self.reason = ""

    def push(self, messages: Sequence[Sequence[Tick]], *, replayed: bool = False) -> None:
        self.ticks += sum(map(len, messages))

    def reject(self, rejected: Sequence[RejectedTick]) -> None:
        self.rejects += len(rejected)
        self.reason = rejected[-1].reason

    def learn(self, facts: Sequence[Fact | DayFact]) -> None:
        """Corrections are trades, too."""

    def waiting_rows(self) -> int:
        return 0

    def changed(self, interrupted: bool = False) -> None:
        """Nobody waits."""


async def try_trades(source: Source, symbols: Sequence[str], *, page: str, on_error: str, means: str) -> Outcome:
    """``page`` says more of what cannot be recorded; ``on_error`` helps where no connection is made; ``means`` is what
    it means that nothing comes while the symbol trades."""
    sink, symbol = Counting(), symbols[0]
    alone = f" (of {counted(len(symbols), 'symbol')} this one was tried)" if len(symbols) > 1 else ""
    link = source.open(sink)
    try:
        await link.open(OPEN_SEC)
        await link.subscribe([symbol], OPEN_SEC)
        until = time.monotonic() + TRIAL_SEC
        while not sink.ticks and time.monotonic() < until:
            if link.lost.done():
                return fail(f"the connection was lost: {link.lost.result()}", "see the recorder's log")
            await asyncio.sleep(LOOK_SEC)
    except FeedError as exc:
        return fail(str(exc), on_error)
    finally:
        link.close()
    if sink.ticks:
        return ok(f"{symbol}: {counted(sink.ticks, 'trade')} came{alone}")
    if sink.rejects:
        return warn(f"{symbol}: nothing that can be recorded came: {sink.reason}{alone}", f"see {page}")
    return warn(f"{symbol}: no trade within {TRIAL_SEC:.0f} s{alone}", f"while it trades that means that {means}")


def of_all(some: Collection[str], symbols: Sequence[str]) -> str:
    """Some of the wanted symbols, each by its name, in their order."""
    named = ", ".join(symbol for symbol in symbols if symbol in some)
    return f"{named} ({len(some)} of {counted(len(symbols), 'symbol')})"
