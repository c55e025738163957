"""What the endpoint still shows of trades that were missed: asked for a symbol at a time, beside the live trades.

dxFeed's protocol lets a client ask for a time series from a moment on (``fromTime``) on a channel of the contract
HISTORY. It answers with a snapshot, the newest trade first, whose last row says that it is whole (flag 8) or cut off
(flag 16). TastyTrade documents that for candles alone, so it is asked only where the settings say so, and a refusal is
said once and ends the asking.

A symbol is asked for from the beginning of its trading day when the process first subscribes to it, and from a minute
before the connection was last heard when one was lost. What comes is stored like any other trade, and the store knows
repeats by their index. Nothing is concluded from it: an index counts no trades, so a whole snapshot proves as little.

Limits: one question at a time, and none while many rows wait to be stored; a day back at most; when the connection is
lost twice over questions (from the channel's opening on, until shortly after the last one), before all that was missed
is shown, this process asks no more. So it can break no recording.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple, Protocol

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.logline import event
from hk_tick_collector.market.market import Market
from hk_tick_collector.sources.dxlink import messages
from hk_tick_collector.sources.dxlink.mapping import REMOVED
from hk_tick_collector.sources.dxlink.messages import FIELDS, Broken, Row

log = logging.getLogger(__name__)

BEFORE_MS = 60_000  # trades are told in about the order of their times
MAX_BACK_MS = 86_400_000
ANSWER_SEC = 20.0  # without a row: not answered
WHOLE_ANSWER_SEC = 600.0
CHECK_SEC = 0.5
MAX_WAITING_ROWS = 5000  # not stored yet: the next symbol is asked for later
MAX_UNANSWERED = 3  # in a row
MAX_LOSSES = 2  # of connections under a question, before all is shown
ENDED, CUT_OFF = 0x08, 0x10  # eventFlags of a snapshot's last row
REFUSED = "dxlink_history_refused"

_FLAGS, _SYMBOL = FIELDS.index("eventFlags"), FIELDS.index("eventSymbol")


class Missed(NamedTuple):
    """A symbol in dxFeed's spelling, and from when on its trades may have been missed."""

    symbol: str
    from_ms: int  # UTC epoch ms


class Past:
    """What is still to be asked for, over connections. On any thread."""

    def __init__(self, market: Market, clock: Clock) -> None:
        self._market = market
        self._clock = clock
        self._lock = threading.Lock()
        self._missed: dict[str, int] = {}  # from when on, by symbol
        self._known: set[str] = set()  # subscribed, and so missed from a moment on that is known
        self._losses = 0
        self._refusal = ""

    @property
    def is_refused(self) -> bool:
        """It is not asked any more."""
        return bool(self._refusal)

    def subscribed(self, symbols: Iterable[str]) -> None:
        """Their trades come from now on; of those that are new the whole day so far may be missing."""
        now_ms = self._clock.now_ms()
        day_ms = self._market.day_bounds(self._market.trading_day(now_ms))[0]
        with self._lock:
            for symbol in symbols:
                if symbol not in self._known:
                    self._known.add(symbol)
                    self._missed[symbol] = day_ms

    def unsubscribed(self, symbols: Iterable[str]) -> None:
        """What is traded from now on is not wanted, until they are new again."""
        with self._lock:
            for symbol in symbols:
                self._known.discard(symbol)
                self._missed.pop(symbol, None)

    def lost(self, heard_ms: int, *, under_a_question: bool) -> None:
        """The connection is gone; ``heard_ms``: when it last said something."""
        with self._lock:
            for symbol in self._known:
                self._missed[symbol] = min(self._missed.get(symbol, heard_ms), heard_ms - BEFORE_MS)
            self._losses += under_a_question
        if under_a_question and self._losses >= MAX_LOSSES:
            self.refuse(f"the connection was lost {MAX_LOSSES} times while the past was asked for")

    def next(self, there: Collection[str]) -> Missed | None:
        """One of the symbols that are subscribed ``there``; None: nothing is missed."""
        with self._lock:
            symbol = next((symbol for symbol in self._missed if symbol in there), None)
            if symbol is None:
                return None
            self._missed[symbol] = max(self._missed[symbol], self._clock.now_ms() - MAX_BACK_MS)
            return Missed(symbol, self._missed[symbol])

    def answered(self, missed: Missed) -> None:
        """As far as it is shown. What was lost meanwhile is asked for again."""
        with self._lock:
            if self._missed.get(missed.symbol, missed.from_ms) >= missed.from_ms:
                self._missed.pop(missed.symbol, None)

    def survived(self) -> None:
        """The connection is still there a while after a question. Losses are forgiven once all is shown: a server that
        ends every connection after some answers is asked all of it again on the next one."""
        with self._lock:
            if not self._missed:
                self._losses = 0

    def postpone(self, missed: Missed) -> None:
        """Not answered: the others go first."""
        with self._lock:
            if missed.symbol in self._missed:
                self._missed[missed.symbol] = self._missed.pop(missed.symbol)

    def refuse(self, reason: str) -> None:
        """Not asked any more by this process; said once."""
        with self._lock:
            is_first, self._refusal = not self._refusal, self._refusal or reason
        if is_first:
            log.warning(event(REFUSED, reason=reason, action="live trades go on; DXLINK_HISTORY=0 asks for none"))


class Wire(Protocol):
    """What the connection does for it."""

    async def send(self, text: str) -> None:
        """FeedLost when it cannot be sent."""

    def is_busy(self) -> bool:
        """Do many rows wait to be stored?"""

    def there(self) -> Collection[str]:
        """What is subscribed."""


class HistoryChannel:
    """The channel of one connection on which the past is asked for. All on the connection's thread."""

    def __init__(self, past: Past, wire: Wire) -> None:
        self.rows = messages.FeedRows()
        self._past = past
        self._wire = wire
        self._moved = asyncio.Event()
        self._is_open = False
        self.is_asking = False  # from before the channel is requested until a while after the last question
        self._asked: Missed | None = None
        self._end = 0  # the flag of the answer's last row
        self._came_rows = 0  # of the answer
        self._refusal = ""

    async def run(self) -> None:
        """Ask for all that is missed, for ever. FeedLost with the connection."""
        asked = rows = unanswered = 0
        while not self._past.is_refused:
            missed = None if self._wire.is_busy() else self._past.next(self._wire.there())
            if missed is None:
                if asked:
                    log.info(event("dxlink_history_done", symbols=asked, rows=rows))
                    asked = rows = 0
                await asyncio.sleep(CHECK_SEC)
                if self.is_asking:
                    self.is_asking = False
                    self._past.survived()
                continue
            self.is_asking = True
            if not await self._ask(missed):
                unanswered += 1
                self._past.postpone(missed)
                if self._refusal or unanswered >= MAX_UNANSWERED:
                    self._past.refuse(self._refusal or f"no answer for {unanswered} symbols")
                continue
            unanswered = 0
            asked, rows = asked + 1, rows + self._came_rows
            self._past.answered(missed)
        self.is_asking = False

    async def _ask(self, missed: Missed) -> bool:
        """True: it was answered, with whatever it has."""
        if not self._is_open and not await self._open():
            return False
        self._asked, self._end, self._came_rows = missed, 0, 0
        await self._wire.send(messages.history(add=missed))
        until_sec = asyncio.get_running_loop().time() + WHOLE_ANSWER_SEC
        try:
            while not self._end and not self._refusal:
                await self._wait(until_sec)
        except TimeoutError:
            self._asked = None
            await self._wire.send(messages.history(remove=missed))
            return False
        self._asked = None
        if self._refusal:
            return False
        await self._wire.send(messages.history(remove=missed))
        if self._end & CUT_OFF:
            log.warning(
                event(
                    "dxlink_history_cut", symbol=missed.symbol, rows=self._came_rows,
                    action="the endpoint shows no more; what is older stays missing",
                )
            )  # fmt: skip
        return True

    async def _open(self) -> bool:
        await self._wire.send(messages.request_history())
        with contextlib.suppress(TimeoutError):
            while not self._is_open and not self._refusal:
                await self._wait()
        if self._is_open:
            await self._wire.send(messages.feed_setup(messages.HISTORY_CHANNEL))
        return self._is_open

    async def _wait(self, until_sec: float = math.inf) -> None:
        """For something on the channel. TimeoutError. Not by ``wait_for``, which Python 3.11 lets swallow a
        cancellation when something comes at the same moment."""
        self._moved.clear()
        async with asyncio.timeout_at(min(asyncio.get_running_loop().time() + ANSWER_SEC, until_sec)):
            await self._moved.wait()

    # --- what comes on the channel ---

    def opened(self) -> None:
        """The server has opened it."""
        self._is_open = True
        self._moved.set()

    def refused(self, words: str) -> None:
        """An error on the channel, or its end."""
        self._refusal = self._refusal or words
        self._moved.set()

    def trades(self, rows: Iterable[Row | Broken]) -> Iterator[Row | Broken]:
        """Those of the rows that are trades. A snapshot also has rows without one, which carry its flags alone."""
        for row in rows:
            if isinstance(row, Broken):
                yield row
                continue
            flags = row[_FLAGS] if type(row[_FLAGS]) is int else 0
            if self._asked is not None and row[_SYMBOL] == self._asked.symbol:
                self._end = self._end or flags & (ENDED | CUT_OFF)
            if not flags & REMOVED:  # of a trade that is cancelled the live channel tells, too
                self._came_rows += 1
                yield row
        self._moved.set()
