"""Order books beside the ticks, and broker queues: who is subscribed for them, when they were watched, and whether push
and pull agree, where the far side can be asked.

A source that has books gives links that are a ``BookLink``, too; a ``BookKeeper`` asks it for one kind, as a job of its
own beside the session's, and never in the way of ticks:

- It begins when the ticks of a connection are subscribed and backfilled, and takes the quota that they leave. While a
  tick subscription is refused, no book is subscribed, and the last ones are given back for it. Broker queues stand
  behind books as books stand behind ticks (``Claims``).
- What it cannot have is said once a reason and tried again; nothing that goes wrong with books ends a connection.
- A far side that ends connections when it is asked for books would end them for ever, and ticks with them: after LOSSES
  in a row books are asked for on a connection in some minutes, up to an hour.

What it learns goes to the lane as ``WatchBegan`` and ``WatchEnded``: a book is watched from the far side's confirmation
until the connection ends (when it fell silent: until its last sign of life), the far side no longer lists it (until the
last look that found it), or the right to it is lost.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.core.progress import BookProgress, FeedProgress
from hk_tick_collector.core.waiting import is_set_within
from hk_tick_collector.records.book import (
    Book,
    BookEvent,
    BrokerQueue,
    PullCompared,
    RawPush,
    WatchBegan,
    WatchEnded,
    WatchRefused,
)
from hk_tick_collector.sources.source import Link, Subscribed
from hk_tick_collector.sources.subscriptions import Asker

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_SEC = 12.0
SUBSCRIBE_BATCH = 100
RETRY_MIN_SEC, RETRY_MAX_SEC = 5.0, 300.0
COMPARE_SEC = 60.0
BEGIN_CHECK_SEC = 0.2
BOOKS_A_TURN = 20  # compared before the loop goes on with something else
LATE_PUSH_SEC = 1.0  # a push may come so long after a pull that shows it
CALM_SEC = 30.0  # a connection that lives so long after it was asked for them did not end over it
LOSSES = 2  # connections in a row that ended sooner, before they are asked for seldom
REST_MIN_SEC, REST_MAX_SEC = 300.0, 3600.0

CONNECTION_LOST = "connection lost"
STOPPED = "recorder stopped"
INTERRUPTED = "not logged in"
NO_LONGER_LISTED = "the source dropped it"
NOT_WANTED = "no longer on the list"
CUT_OFF = "connections ended when they were asked for"
_NOUNS = {"books": "order books", "brokers": "broker queues"}
_SETTINGS = {"books": "BOOK_SYMBOLS", "brokers": "BOOK_BROKERS"}


class BookSink(Protocol):
    """What books are handed to; from any thread, never waits."""

    def push(self, pushes: Sequence[RawPush]) -> None:
        """The pushes of one burst, in the order they came."""

    def tell(self, events: Sequence[BookEvent]) -> None:
        """What became of watches, and of books that were asked for; it follows the pushes before it."""


class StateFeed(Protocol):
    """What a link does of one kind of whole states, order books or broker queues. Errors as ``Link`` has them."""

    async def subscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """Have theirs sent. ``FeedError``: none of them is."""

    async def unsubscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """No more of these."""

    async def subscribed(self, timeout_sec: float) -> Subscribed:
        """As the far side has it."""

    def no_right(self, symbols: Sequence[str]) -> Mapping[str, str]:
        """Which of these the account may not see now, and why in a few words; nothing when nothing was said against
        any."""

    def last_us(self) -> int:
        """When the last push came, UTC epoch microseconds; 0: none did."""


@runtime_checkable
class PulledFeed(StateFeed, Protocol):
    """One of a far side that can also be asked for a state, so that pull and push are held together."""

    async def pull(self, symbol: str, timeout_sec: float) -> Book | BrokerQueue:
        """The newest state of a subscribed symbol."""

    def follow(self, symbol: str) -> None:
        """Keep this symbol's pushes for ``followed``, its newest one included, and no other's."""

    def followed(self) -> Iterator[Book | BrokerQueue]:
        """As they were pushed since; a bounded number of the newest ones."""


@runtime_checkable
class BookLink(Protocol):
    """What a link of a source with books has besides. None: nobody takes them."""

    books: StateFeed | None
    brokers: StateFeed | None


class Ticks(Protocol):
    """What must be known of the subscriptions that go first."""

    @property
    def refused(self) -> dict[str, str]: ...


class Claims:
    """What goes before broker quotas: ticks, and behind them the books of a ``BookProgress``."""

    def __init__(self, ticks: Ticks, books: BookProgress) -> None:
        self._ticks = ticks
        self._books = books

    @property
    def refused(self) -> dict[str, str]:
        """What is wanted and not there, with the reason."""
        return self._ticks.refused | self._books.refused_symbols

    @property
    def settled(self) -> bool:
        """Has each book been asked for?"""
        return self._books.subscribed + len(self._books.refused_symbols) >= self._books.wanted


class BookKeeper:
    """Lives over connections, on the loop."""

    def __init__(
        self,
        symbols: Sequence[str],
        sink: BookSink,
        progress: BookProgress,
        feed: FeedProgress,
        clock: Clock,
        check_sec: float,
        word: str = "books",
        before: BookProgress | None = None,
        behind: BookProgress | None = None,
    ) -> None:
        """``word``: which of a ``BookLink``'s feeds is looked after, ``books`` or ``brokers``. ``before``: of the
        keeper whose quota goes before this one's; ``behind``: of the one that gives back first for ticks."""
        self._word = word
        self._noun = _NOUNS[word]
        self._before = before
        self._behind = behind
        self._first = "ticks" if before is None else "ticks and books"
        self._symbols = tuple(symbols)
        self._sink = sink
        self._progress = progress
        self._feed = feed
        self._clock = clock
        self._check_sec = check_sec
        self._retry = Backoff(RETRY_MIN_SEC, RETRY_MAX_SEC)
        self._active: list[str] = []
        self._barred: dict[str, str] = {}  # of what is wanted: which may not be seen now, and why
        self._asker = Asker(SUBSCRIBE_BATCH)
        self._end_reason = CONNECTION_LOST
        self._listed_us = 0  # the last look at the far side's list
        self._seen_us = 0  # the last look that found it serving
        self._look_at = self._subscribe_at = 0.0  # monotonic
        self._turn = 0
        self._asked_at: float | None = None  # monotonic, the end of the asking; infinite until then
        self._asked_us = 0  # its beginning
        self._losses = 0  # of connections, in a row, soon after it
        self._rest = Backoff(REST_MIN_SEC, REST_MAX_SEC)
        self._rest_until = 0.0  # monotonic
        self._wake = asyncio.Event()
        self._log = RateLimitedLog(log, period_sec=60)
        progress.wanted = len(self._symbols)

    def wake(self, *, interrupted: bool) -> None:
        """The far side said something of itself: look now. ``interrupted``: it could not serve for a while. On the
        loop."""
        if interrupted:
            self._end(self._active, INTERRUPTED, self._seen_us)
            self._look_at = self._subscribe_at = 0.0
        self._wake.set()

    def set_symbols(self, symbols: Sequence[str]) -> None:
        """Whose books are wanted from now on. On the loop."""
        self._symbols = tuple(symbols)
        self._progress.wanted = len(self._symbols)
        refused, at_us = self._progress.refused_symbols, self._now_us()
        left = [symbol for symbol in refused if symbol not in self._symbols]
        self._sink.tell([WatchEnded(symbol, at_us, NOT_WANTED) for symbol in left])
        self._progress.refused_symbols = {symbol: why for symbol, why in refused.items() if symbol in self._symbols}
        self._subscribe_at = 0.0
        self._retry.reset()
        self._wake.set()

    def stop(self) -> None:
        """The connection's end is the recorder's own."""
        self._end_reason = STOPPED

    async def run(self, link: Link, is_begun: Callable[[], bool], ticks: Ticks) -> None:
        """Look after the books of a connection. Ends only by ``FeedLost``, or cancelled. ``is_begun``: are the ticks
        looked after?"""
        if self._before is not None:
            claims, are_ticks_fed = Claims(ticks, self._before), is_begun
            ticks, is_begun = claims, lambda: are_ticks_fed() and claims.settled
        feed = getattr(link, self._word) if isinstance(link, BookLink) else None
        if feed is None:
            log.error(
                event(
                    "books_not_offered", action=f"this source has no {self._noun}: leave {_SETTINGS[self._word]} empty"
                )
            )
            await asyncio.Event().wait()
            return
        await self._look_after(feed, link, is_begun, ticks)

    def _note_loss(self, feed: StateFeed) -> None:
        """A connection ended: over what was asked of it? Not where pushes came of it."""
        now, asked_at, self._asked_at = self._clock.monotonic(), self._asked_at, None
        if asked_at is None:
            return
        if feed.last_us() >= self._asked_us:
            self._losses = 0
            return
        self._losses = self._losses + 1 if now - asked_at < CALM_SEC else 0
        if self._losses >= LOSSES:
            self._rest_until = now + self._rest.next_sec()

    def _note_calm(self, now: float) -> None:
        """The connection lives on after it was asked."""
        if self._asked_at is not None and now - self._asked_at >= CALM_SEC:
            self._asked_at, self._losses = None, 0
            self._rest.reset()

    async def _look_after(self, feed: StateFeed, link: Link, is_begun: Callable[[], bool], ticks: Ticks) -> None:
        self._look_at = self._subscribe_at = 0.0
        try:
            while True:
                if not self._feed.connected:
                    self._end(self._active, INTERRUPTED, self._seen_us)
                    self._look_at = self._subscribe_at = 0.0
                elif is_begun():
                    self._seen_us = self._now_us()
                    await self._look_safely(feed, ticks)
                await is_set_within(self._wake, self._check_sec if is_begun() else BEGIN_CHECK_SEC)
                self._wake.clear()
        finally:
            if link.lost.done() and self._end_reason != STOPPED:
                self._note_loss(feed)
            is_known_now = link.lost.done() or self._end_reason == STOPPED
            self._end(self._active, self._end_reason, 0 if is_known_now else self._alive_us(feed))

    async def _look_safely(self, feed: StateFeed, ticks: Ticks) -> None:
        try:
            await self._look(feed, ticks)
        except FeedLost:
            raise
        except FeedError as exc:
            self._log.log(
                logging.WARNING, "books_check_failed", error=str(exc), action="looking again later", kind=self._word
            )

    async def _look(self, feed: StateFeed, ticks: Ticks) -> None:
        now = self._clock.monotonic()
        self._note_calm(now)
        self._bar(feed.no_right(self._symbols))
        if self._barred and set(self._symbols).issubset(self._barred):
            self._look_at = 0.0
            return
        if now >= self._look_at:
            await self._compare_lists(feed, ticks)
            self._look_at = now + COMPARE_SEC
        await self._give_back(feed)
        if not set(self._symbols).issubset({*self._active, *self._barred}) and now >= self._subscribe_at:
            await self._subscribe(feed, ticks)
            self._subscribe_at = now + (self._retry.next_sec() if self._progress.refused_symbols else 0.0)
        if self._active and isinstance(feed, PulledFeed):
            await self._hold_together(feed)

    def _bar(self, barred: Mapping[str, str]) -> None:
        """End the watch of what may not be seen; the others are watched on. What may be seen again is asked for at
        once."""
        if barred == self._barred:
            return
        before, self._barred = self._barred, dict(barred)
        for why in dict.fromkeys(barred.values()):
            self._end([symbol for symbol in self._active if barred.get(symbol) == why], f"right lost: {why}")
        refused = self._progress.refused_symbols
        self._refuse({symbol: why for symbol, why in refused.items() if symbol not in before})
        if not before.keys() <= barred.keys():
            self._look_at = self._subscribe_at = 0.0

    async def _give_back(self, feed: StateFeed) -> None:
        """End what is no longer wanted. What the far side does not let go yet is watched until it does."""
        unwanted = [symbol for symbol in self._active if symbol not in self._symbols]
        if not unwanted:
            return
        try:
            await feed.unsubscribe(unwanted, REQUEST_TIMEOUT_SEC)
        except FeedLost:
            raise
        except FeedError as exc:
            self._log.log(logging.WARNING, "books_kept", reason=str(exc), action="given back later", kind=self._word)
            return
        self._end(unwanted, NOT_WANTED)

    async def _compare_lists(self, feed: StateFeed, ticks: Ticks) -> None:
        """End what the far side no longer lists, and what ticks need the quota of."""
        listed = await feed.subscribed(REQUEST_TIMEOUT_SEC)
        dropped = [symbol for symbol in self._active if symbol not in listed.symbols]
        self._end(dropped, NO_LONGER_LISTED, self._listed_us)
        self._listed_us = self._now_us()
        short = len(ticks.refused) - (listed.quota_left or 0)
        short -= 0 if self._behind is None else self._behind.subscribed
        if self._active and listed.quota_left is not None and _short_of_quota(ticks) and short > 0:
            given_back = self._active[-short:]
            await feed.unsubscribe(given_back, REQUEST_TIMEOUT_SEC)
            self._end(given_back, f"quota given to {self._first}")

    async def _subscribe(self, feed: StateFeed, ticks: Ticks) -> None:
        missing = [symbol for symbol in self._symbols if symbol not in {*self._active, *self._barred}]
        if _short_of_quota(ticks):
            self._refuse(dict.fromkeys(missing, f"quota is short: {self._first} go first"))
            return
        if self._clock.monotonic() < self._rest_until:
            self._refuse(dict.fromkeys(missing, CUT_OFF))
            return
        left = (await feed.subscribed(REQUEST_TIMEOUT_SEC)).quota_left
        fits = missing if left is None else missing[:left]
        refused = dict.fromkeys(missing[len(fits) :], f"quota is short: {left} left for {len(missing)} {self._word}")
        self._asked_at, self._asked_us = math.inf, self._now_us()
        refused.update(await self._asker.subscribe(feed, fits))
        self._asked_at = self._clock.monotonic()
        listed = await feed.subscribed(REQUEST_TIMEOUT_SEC)
        self._listed_us = self._now_us()
        began = [symbol for symbol in fits if symbol in listed.symbols]  # whatever was said to the rest of its request
        refused = dict.fromkeys(fits, "the source does not list it") | refused
        refused = {symbol: why for symbol, why in refused.items() if symbol not in began}
        unwanted = [symbol for symbol in self._active if symbol not in self._symbols]
        self._active = [symbol for symbol in self._symbols if symbol in {*self._active, *began}] + unwanted
        self._sink.tell([WatchBegan(symbol, self._listed_us) for symbol in began])
        self._refuse(refused)
        if began:
            log.info(event("books_subscribed", symbols=len(self._active), wanted=len(self._symbols), kind=self._word))
        if not refused or self._asker.is_getting_on:
            self._retry.reset()

    async def _hold_together(self, feed: PulledFeed) -> None:
        """Ask for the book of the next symbol in turn: was it pushed, just before or since?"""
        symbol = self._active[self._turn % len(self._active)]
        self._turn += 1
        feed.follow(symbol)
        asked = await feed.pull(symbol, REQUEST_TIMEOUT_SEC)
        agrees = await _was_pushed(asked, feed)
        if not agrees:
            await asyncio.sleep(LATE_PUSH_SEC)
            agrees = await _was_pushed(asked, feed)
        if symbol not in self._active:
            return
        self._progress.pulls += 1
        self._progress.pulls_agreed += agrees
        self._sink.tell([PullCompared(symbol, self._now_us(), agrees)])
        if not agrees:
            self._log.log(
                logging.WARNING,
                "book_pull_differs",
                symbol=symbol,
                action="counted in the day's certificate",
                kind=self._word,
            )

    def _end(self, symbols: Sequence[str], reason: str, known_us: int = 0) -> None:
        if not symbols:
            return
        at_us, ended = self._now_us(), list(symbols)
        self._sink.tell([WatchEnded(symbol, at_us, reason, 0, min(known_us, at_us)) for symbol in ended])
        self._active = [symbol for symbol in self._active if symbol not in ended]
        self._progress.subscribed = len(self._active)
        self._progress.breaks += len(ended)
        level = logging.INFO if reason == STOPPED else logging.WARNING
        log.log(level, event("books_ended", symbols=len(ended), reason=reason, kind=self._word))

    def _now_us(self) -> int:
        return self._clock.now_ms() * 1000

    def _alive_us(self, feed: StateFeed) -> int:
        """When anything was last heard on a connection that did not end by itself."""
        progress = self._feed
        quiet_sec = self._clock.monotonic() - max(progress.last_answer_monotonic, progress.last_push_monotonic)
        return max(self._now_us() - round(quiet_sec * 1e6), feed.last_us())

    def _refuse(self, refused: dict[str, str]) -> None:
        """These, and what may not be seen."""
        progress = self._progress
        refused = refused | {symbol: f"no right to {self._noun}: {why}" for symbol, why in self._barred.items()}
        new = {symbol: why for symbol, why in refused.items() if progress.refused_symbols.get(symbol) != why}
        for why in dict.fromkeys(new.values()):
            of_these = [symbol for symbol, reason in new.items() if reason == why]
            log.warning(
                event(
                    "books_refused",
                    symbols=len(of_these),
                    first=of_these[0],
                    reason=why,
                    action="retrying later",
                    kind=self._word,
                )
            )
        at_us = self._now_us()
        self._sink.tell([WatchRefused(symbol, at_us, why) for symbol, why in new.items()])
        progress.refused_symbols = refused
        progress.subscribed = len(self._active)


def _short_of_quota(ticks: Ticks) -> bool:
    return any(why.startswith("quota is short") for why in ticks.refused.values())


async def _was_pushed(asked: Book | BrokerQueue, feed: PulledFeed) -> bool:
    """Is it one of the followed books? The loop gets its turn in between."""
    for number, pushed in enumerate(feed.followed()):
        if _same(asked.bids, pushed.bids) and _same(asked.asks, pushed.asks):
            return True
        if number % BOOKS_A_TURN == BOOKS_A_TURN - 1:
            await asyncio.sleep(0)
    return False


def _same(first: Sequence[object], second: Sequence[object]) -> bool:
    """Equal as far as both show the side."""
    both = min(len(first), len(second))
    return first[:both] == second[:both] if both else len(first) == len(second)
