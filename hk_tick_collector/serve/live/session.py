"""One reader of the live channel: everything that it is sent, in order, whichever way it goes out.

``Session.events`` gives one message at a time and makes the next only when the last was taken, so a reader that takes
nothing costs one message. Behind each data root it has a position. Where the ring knows the position the rows come from
there; otherwise from the files, until the ring knows it again. Both are the same rows in the same order, so there is no
seam between what was and what comes.

A reader of books or of broker queues is first told that of each symbol where it begins (``snapshot``), then each push.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, NamedTuple

from hk_tick_collector import __version__
from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.serve.keys import Key
from hk_tick_collector.serve.live import question as asked
from hk_tick_collector.serve.live.choice import Wish
from hk_tick_collector.serve.live.counts import LiveCounts
from hk_tick_collector.serve.live.facts import told_of
from hk_tick_collector.serve.live.feed import Feed
from hk_tick_collector.serve.live.files import Piece
from hk_tick_collector.serve.live.frames import COLUMNS, STATES, Event, Frame, newest_of_each, rows_message, told_json
from hk_tick_collector.serve.live.hub import Hub, News, Readers, days_over, query_of, reset_message
from hk_tick_collector.serve.live.outlet import Outlet
from hk_tick_collector.serve.live.question import CLOSE, CONFLATE, NOT_FOLLOWED, Subscription, numbers_of
from hk_tick_collector.serve.live.signals import Signals
from hk_tick_collector.serve.problems import Problem
from hk_tick_collector.store.layout import BOOKS, BROKERS, SNAPSHOTS, TICKS
from hk_tick_collector.store.position import (
    DayGone,
    JoinedPosition,
    Position,
    PositionLost,
    Row,
    Stand,
    parts_of,
)
from hk_tick_collector.store.signals import with_number

HEARTBEAT_SEC = 5.0
MAX_LAG_SEC = 30.0  # then ``close`` closes; the ring has 60
MAX_MESSAGE_BYTES = 1 << 20  # about, before the filter
READY_SEC = 10.0
_RETRY_SEC = 0.5


class Lag(NamedTuple):
    """How far a reader is behind."""

    is_live: bool
    rows: int
    sec: float


_FILE_WORDS = {TICKS: "day", BOOKS: "book", BROKERS: "broker", SNAPSHOTS: "snapshot"}


class SlowReader(Exception):
    """A reader that asked for ``on_slow=close`` is too far behind."""


def _stand(parts: Sequence[Position]) -> Stand:
    return parts[0] if len(parts) == 1 else JoinedPosition(tuple(parts))


class Session:
    """A reader; ``events`` is what it is sent."""

    def __init__(
        self,
        wanted: Subscription,
        hubs: list[Hub],
        key: Key,
        news: News,
        readers: Readers,
        *,
        stopping: asyncio.Event,
        signals: Signals | None = None,
        counts: LiveCounts | None = None,
        outlet: Outlet | None = None,
    ) -> None:
        self._outlet = outlet
        self._counts = counts or LiveCounts()
        self._wanted, self._hubs, self._key = wanted, hubs, key
        self._numbers = numbers_of(hubs)
        self._parts = sum(map(len, self._numbers))  # of a cursor
        self._signals = signals if wanted.signals else None
        self._signal = 0  # the number of the last one
        self._news, self._readers = news, readers
        self._stopping = stopping
        self._feeds: list[Feed] = []
        self.since_ms = time.time_ns() // 1_000_000
        self.told = ""  # the last cursor that was sent
        self._behind_since_sec = float("inf")
        self._is_lagging = self._has_caught_up = False
        self._heartbeat_at_sec = 0.0

    # Begin

    async def open(self) -> None:
        """Find where to begin. Problem when there is no such place any more, or the files cannot be read."""
        try:
            async with asyncio.timeout(READY_SEC):
                while any(self._hubs[root].ring is None for root in self._wanted.symbols):
                    await self._news.after(self._news.number)
                self._feeds = [await self._feed(root) for root in sorted(self._wanted.symbols)]
        except (TimeoutError, StoreError) as exc:
            raise Problem("store-busy") from exc
        await self._begin_signals()
        self.told = self.cursor
        for feed in self._feeds:
            await self._first(feed)
            if not feed.is_live and self._wanted.kind in STATES:
                feed.known = await self._known(feed)

    async def _feed(self, at: int) -> Feed:
        hub, since = self._hubs[at], self._wanted.since
        assert hub.ring is not None
        wanted = self._wanted
        wish = Wish(wanted.symbols[at], wanted.types, wanted.shape, self._key.symbols, wanted.kind, wanted.depth)
        feed = Feed(hub, self._numbers[at], hub.choices.of(wish), hub.ring.head)
        if since == asked.NOW:
            feed.number, feed.known = hub.ring.end, list(hub.known.values())
        elif since == asked.DAY:
            day = hub.ring.head.newest_day
            has_rows = any(part.places for part in parts_of(hub.ring.head))
            at_start = Position.at_start_of(day, hub.kind) if has_rows else Position(kind=hub.kind)
            feed.position = _stand([at_start] * len(feed.numbers))
        elif isinstance(since, int):
            feed.position = await self._readers.end(hub, since)
        else:
            assert isinstance(since, tuple)
            heads = zip(feed.numbers, parts_of(feed.position), strict=True)
            feed.position = _stand([since[number] or head for number, head in heads])
        return feed

    async def _first(self, feed: Feed) -> None:
        """The first read shows whether the position fits."""
        if feed.is_live:
            return
        try:
            await self._readers.check(feed.hub, feed.position)
        except DayGone as exc:
            raise self._gone(feed, exc.day, exc.onward) from exc
        except (PositionLost, StoreError):
            return  # told in order, or tried again
        for day in await self._readers.passed_over(feed.hub, feed.position):
            raise self._gone(feed, day, _stand([part.leaving(day) for part in parts_of(feed.position)]))

    async def _known(self, feed: Feed) -> Sequence[Row]:
        """The books where a reader begins that reads from the files."""
        try:
            return await self._readers.known(feed.hub, feed.position, feed.choice.wish.symbols)
        except PositionLost:
            return ()  # told in order
        except StoreError as exc:
            raise Problem("store-busy") from exc

    def _gone(self, feed: Feed, day: str, onward: Stand) -> Problem:
        query = query_of(day, feed.hub.kind)
        return Problem(
            "cursor-gone",
            f"the day {day} has no {_FILE_WORDS[feed.hub.kind]} file any more",
            hint=f"read the rest of it with GET {query}, then go on with the cursor in onward",
            more={"day": day, "query": query, "onward": self._cursor_with(feed, onward)},
        )

    # Go on

    @property
    def cursor(self) -> str:
        """Where the reader stands."""
        return self._cursor_with()

    def _cursor_with(self, changed: Feed | None = None, stand: Stand | None = None) -> str:
        parts = [NOT_FOLLOWED] * self._parts
        for feed in self._feeds:
            told = stand if feed is changed and stand is not None else feed.position
            for number, part in zip(feed.numbers, parts_of(told), strict=True):
                parts[number] = str(part)
        cursor = ",".join(parts)
        return cursor if self._signals is None else with_number(cursor, self._signal)

    async def events(self) -> AsyncIterator[Event]:
        """Every message, until the server stops. SlowReader when the reader asked for that."""
        for event in self._begun():
            yield event
        self._heartbeat_at_sec = time.monotonic() + HEARTBEAT_SEC
        while not self._stopping.is_set():
            number, is_quiet = self._news.number, True
            for feed in self._feeds:
                for event in await self._step(feed):
                    is_quiet = False
                    yield event
            for event in await self._signal_events():
                is_quiet = False
                yield event
            has_all = all(feed.has_all for feed in self._feeds)
            for event in self._beside(has_all=has_all):
                yield event
            if has_all:
                await (self._news.after(number, self._pass_on) if is_quiet or self._has_all else asyncio.sleep(0))
            else:  # the next row, or the disk, may come without news
                await asyncio.sleep(_RETRY_SEC / 5 if is_quiet else 0)
        yield self._event({"type": "bye", "reason": "the server stops"})

    @property
    def _has_all(self) -> bool:
        """Has a live reader all that there is?"""
        rings = [(feed.number, feed.hub.ring) for feed in self._feeds]
        if any(ring is not None and number != ring.end for number, ring in rings):
            return False
        return self._signals is None or self._signals.newest in (None, self._signal)

    def _pass_on(self) -> bool:
        """At news, in the place of the task that waits for them: give what is new in the ring. False when anything else
        is to be done, which is the task's."""
        now_sec = time.monotonic()
        if self._outlet is None or now_sec >= self._heartbeat_at_sec or self._stopping.is_set():
            return False
        if any(not feed.keeps_up(now_sec) for feed in self._feeds):
            return False
        for feed in self._feeds:
            if not self._outlet.is_ready:  # also when the feed before has filled it
                return False
            for event in self._from_ring(feed):
                self._outlet.give(event)
        return self._has_all

    async def _step(self, feed: Feed) -> list[Event]:
        ring = feed.hub.ring
        assert ring is not None
        if feed.number is not None and feed.number < ring.start:
            feed.number = None
            return [self._event({"type": "lagging", **self._behind(feed)}), *self._jumped(feed)]
        if feed.number is None:
            return await self._from_files(feed)
        if self._wanted.on_slow == CONFLATE and feed.is_lagging:
            return self._jumped(feed)
        return self._from_ring(feed)

    def _from_ring(self, feed: Feed) -> list[Event]:
        assert feed.hub.ring is not None
        assert feed.number is not None
        frames = feed.hub.ring.take(feed.number, MAX_MESSAGE_BYTES)
        if not frames:
            return []
        first, feed.number = feed.number, feed.number + len(frames)
        return self._of_frames(feed, frames, first)

    async def _from_files(self, feed: Feed) -> list[Event]:
        if time.monotonic() < feed.retry_at_sec:
            return []
        ahead, feed.ahead = feed.ahead, None
        try:
            piece = await (ahead or self._piece(feed))
        except PositionLost as exc:
            feed.position = exc.onward
            return [self._event(reset_message(exc))]
        except StoreError:
            feed.retry_at_sec = time.monotonic() + _RETRY_SEC
            return []
        feed.is_at_end = piece is None
        if piece is None:
            self._join(feed, is_at_end=True)
            return []
        before, feed.position = feed.position, piece.after
        self._join(feed, is_at_end=False)
        if piece.is_full and not feed.is_live:
            feed.ahead = self._piece(feed)
        events = [self._event(told) for told in map(feed.choice.told, piece.told) if told is not None]
        events += [self._rows(piece.json)] if piece.rows else []
        return events + [self._event(message) for message in days_over(before, piece.after)]

    def _piece(self, feed: Feed) -> asyncio.Future[Piece | None]:
        reading = asyncio.ensure_future(self._readers.next(feed.hub, feed.position, feed.choice.wish))
        reading.add_done_callback(lambda done: done.cancelled() or done.exception())  # if its reader leaves
        return reading

    def _join(self, feed: Feed, *, is_at_end: bool) -> None:
        assert feed.hub.ring is not None
        feed.number = feed.hub.ring.number_behind(feed.position, is_at_end=is_at_end)

    def _of_frames(self, feed: Feed, frames: list[Frame], first: int) -> list[Event]:
        events: list[Event] = []
        begin = 0
        for n, frame in enumerate(frames):
            if frame.message is not None:
                events += self._of_rows(feed, frames[begin:n], first + begin)
                begin, feed.position = n + 1, frame.after
                event = feed.choice.told_message(self.told, self.cursor, first + n, frame.message)
                events += self._told(event)
        return events + self._of_rows(feed, frames[begin:], first + begin)

    def _of_rows(self, feed: Feed, frames: list[Frame], first: int) -> list[Event]:
        if not frames:
            return []
        feed.position = frames[-1].after
        cursor = frames[-1].cursor if len(self._hubs) == 1 and self._signals is None else self.cursor
        return self._told(feed.choice.message(self.told, cursor, first, frames))

    def _told(self, event: Event | None) -> list[Event]:
        if event is None:
            return []
        self.told = event.cursor
        return [event]

    # Signals

    async def _begin_signals(self) -> None:
        if not self._wanted.signals:
            return
        if self._signals is None:
            raise Problem("not-found", "this server has no hooks", hint="ask who runs the server to set HOOKS_DIR")
        self._signals.readers.add(self)
        newest = await self._signals.look()
        if newest is None:
            raise Problem("store-busy")
        days = [(feed.hub, feed.position.newest_day) for feed in self._feeds]
        self._signal = newest if self._wanted.after_signal is None else self._wanted.after_signal
        if self._wanted.since == asked.DAY and self._wanted.after_signal is None:
            begun_ms = [hub.market.day_bounds(hub.ring.head.newest_day)[0] for hub, day in days if hub.ring and day]
            self._signal = await self._signals.before(min(begun_ms, default=0))

    async def _signal_events(self) -> list[Event]:
        if self._signals is None or self._signals.newest is None or self._signals.newest == self._signal:
            return []
        if self._signals.newest < self._signal:
            if not await self._signals.are_replaced(self._signal):
                return []
            self._signal = 0
            return [self._event({"type": "reset", "reason": "signals_replaced"})]
        try:
            signals = await self._signals.behind(self._signal)
        except StoreError:
            return []
        events = []
        for signal in signals:
            self._signal = signal.number
            if self._wanted.wants_signal(signal.name, signal.symbol, self._key):
                events.append(self._event({"type": "signal", "signal": signal.as_json()}))
        return events

    # Behind

    def as_seen(self) -> dict[str, Any]:
        """The reader, for whoever looks after the server."""
        lag = self.lag
        return {
            "key": self._key.id,
            "name": self._key.name,
            "since_ms": self.since_ms,
            "is_live": lag.is_live,
            "behind_rows": lag.rows,
            "behind_sec": round(lag.sec, 1),
        }

    def is_of(self, key: Key) -> bool:
        """Is it a reader of this key?"""
        return self._key.id == key.id

    @property
    def lag(self) -> Lag:
        """For metrics."""
        return Lag(
            all(feed.is_live for feed in self._feeds),
            sum(feed.behind_rows for feed in self._feeds),
            max((feed.lag_sec for feed in self._feeds), default=0.0),
        )

    def _behind(self, feed: Feed) -> dict[str, Any]:
        return {"behind_rows": feed.behind_rows, "behind_sec": round(feed.lag_sec, 1)}

    def _lag(self) -> list[Event]:
        """Say once when a live reader is behind; SlowReader when it is so for long."""
        if not any(feed.is_lagging for feed in self._feeds):
            self._is_lagging = False
            return []
        if self._wanted.on_slow == CLOSE and self.lag.sec > MAX_LAG_SEC:
            self._counts.slow_closed += 1
            raise SlowReader
        if self._is_lagging:
            return []
        self._is_lagging = True
        return [self._event({"type": "lagging", **self._behind(feed)}) for feed in self._feeds[:1]]

    def _jumped(self, feed: Feed) -> list[Event]:
        """A reader that is behind, by its wish: cut off, or the newest row a symbol of what the ring has."""
        if self._wanted.on_slow == CLOSE:
            self._counts.slow_closed += 1
            raise SlowReader
        if self._wanted.on_slow != CONFLATE:
            return []
        ring = feed.hub.ring
        assert ring is not None
        behind_rows = feed.behind_rows
        frames = ring.take(max(ring.start, feed.number or 0), ring.size_bytes + 1)
        waiting = [row for frame in frames for row in feed.choice.rows(frame.rows)]
        newest = newest_of_each(self._wanted.kind, waiting)
        self._counts.left_out_ticks += len(waiting) - len(newest)
        feed.number, feed.position = ring.end, ring.head
        # Only ticks are left out: what was said of completeness, days and files is said to this reader, too.
        messages = [feed.choice.told(frame.message) for frame in frames if frame.message is not None]
        told = [self._event(message) for message in messages if message is not None]
        how = {"conflated": True, "behind_rows": behind_rows}
        if self._wanted.kind in STATES:  # a book that has not changed in the last minute may be news to this reader
            return [*told, self._snapshot(feed, list(feed.hub.known.values()), how)]
        return [*told, self._rows(feed.choice.json(newest), how)]

    # Messages

    def _event(self, message: dict[str, Any]) -> Event:
        prev, self.told = self.told, self.cursor
        return Event(message["type"], told_json(prev, self.told, message), self.told)

    def _rows(self, rows: bytes, more: dict[str, Any] | None = None, word: str | None = None) -> Event:
        prev, self.told = self.told, self.cursor
        kind = self._wanted.kind
        return Event(word or kind, rows_message(kind, prev, self.told, rows, more, word), self.told)

    def _snapshot(self, feed: Feed, known: Sequence[Row], more: dict[str, Any] | None = None) -> Event:
        """Every book of a data root that is known where the reader stands."""
        return self._rows(
            feed.choice.json(feed.choice.rows(known)), {"market": feed.hub.market.code, **(more or {})}, "snapshot"
        )

    def _beside(self, *, has_all: bool) -> Iterator[Event]:
        """What is said between rows: that all has come, that the reader is behind, that the server lives."""
        if has_all and not self._has_caught_up:
            self._has_caught_up = True
            yield from self._caught_up()
        yield from self._lag()
        if time.monotonic() >= self._heartbeat_at_sec:
            self._heartbeat_at_sec = time.monotonic() + HEARTBEAT_SEC
            yield self._heartbeat()

    def _begun(self) -> Iterator[Event]:
        """What comes first."""
        yield self._welcome()
        for feed in self._feeds if self._wanted.kind in STATES else ():
            yield self._snapshot(feed, feed.known)
            feed.known = ()

    def _welcome(self) -> Event:
        day = max((feed.position.newest_day for feed in self._feeds), default="")
        columns = COLUMNS[self._wanted.kind]
        return self._event({"type": "welcome", "version": __version__, "columns": columns, "day": day})

    def _heartbeat(self) -> Event:
        behind = sum(feed.behind_rows for feed in self._feeds)
        return self._event({"type": "heartbeat", "at_ms": time.time_ns() // 1_000_000, "behind_rows": behind})

    def _caught_up(self) -> Iterator[Event]:
        """What is known of completeness, and that what follows is live."""
        for feed in self._feeds:
            facts = {
                key: fact
                for key, fact in feed.hub.facts.items()
                if feed.choice.is_named or fact["state"] not in ("proven", "closed")
            }
            for message in map(feed.choice.told, told_of(facts)):
                if message is not None:
                    yield self._event(message)
        yield self._event({"type": "caught_up"})
