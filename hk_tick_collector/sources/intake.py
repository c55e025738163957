"""What a connection receives, on its way to the store: the ``Sink`` that a session hands to its source.

Called on the source's thread, once a burst and not once a tick: does no I/O, waits for nothing and logs no tick by
itself. What it hands rows to may: a full queue holds this thread for a quarter of a second at most and then writes to
the spill (ingest/queue.py), a quarantine says at a bounded rate what it took.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import RejectCode
from hk_tick_collector.core.facts import DayFact, Fact
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.core.progress import FeedProgress
from hk_tick_collector.records.tick import RejectedTick, Tick
from hk_tick_collector.records.views import without_sequences
from hk_tick_collector.sources.completeness import Completeness
from hk_tick_collector.sources.plausible import PlausibleDays

log = logging.getLogger(__name__)

TickSink = Callable[[Sequence[Tick]], None]
RejectSink = Callable[[Sequence[RejectedTick]], None]
FactSink = Callable[[Sequence[Fact | DayFact]], None]

OF_NO_SYMBOL = frozenset({RejectCode.MARKET, RejectCode.SYMBOL, RejectCode.UNWANTED})


class Intake:
    """``on_new_hole`` is called when a symbol has just got a hole, ``on_change`` when the far side spoke of itself
    (True: it could not serve for a while), both on the thread that brought it."""

    def __init__(
        self,
        sink: TickSink,
        rejects: RejectSink,
        facts: FactSink,
        continuity: Completeness,
        progress: FeedProgress,
        clock: Clock,
        days: PlausibleDays,
        on_new_hole: Callable[[], None],
        on_change: Callable[[bool], None],
        waiting_rows: Callable[[], int] = lambda: 0,
        word: str = "feed",
    ) -> None:
        """``word`` begins its log lines: the source's."""
        self.wanted: frozenset[str] | None = None
        """Whose ticks are taken; None: all that a source maps. Replaced, never changed. A far side that goes on sending
        what it said it would end has these rows dropped, counted and said here, whichever source it is."""
        self.unwanted_rows = 0  # since the start
        self._word = word
        self._log = RateLimitedLog(log, period_sec=60)
        self._sink = sink
        self._rejects = rejects
        self._facts = facts
        self._continuity = continuity
        self._progress = progress
        self._clock = clock
        self._days = days
        self._on_new_hole = on_new_hole
        self._on_change = on_change
        self.waiting_rows = waiting_rows

    def changed(self, interrupted: bool = False) -> None:
        """The far side spoke of itself."""
        self._on_change(interrupted)

    def reject(self, rejected: Sequence[RejectedTick]) -> None:
        """Keep them; a doubt is known before the ticks behind it are stored."""
        self._rejects(rejected)
        wanted = self.wanted
        unread = [
            tick for tick in rejected if tick.code not in OF_NO_SYMBOL and (wanted is None or tick.symbol in wanted)
        ]
        if unread and self._continuity.observe_unread(unread):
            self._on_new_hole()

    def learn(self, facts: Sequence[Fact | DayFact]) -> None:
        """Hand them on, but for those of a symbol that nobody wants any more: they would make a day of it."""
        wanted = self.wanted
        if wanted is not None:
            facts = [fact for fact in facts if _symbol_of(fact) is None or _symbol_of(fact) in wanted]
        if facts:
            self._facts(facts)

    def push(self, messages: Sequence[Sequence[Tick]], *, replayed: bool = False) -> None:
        """Hand the ticks of a burst on, and note them."""
        wanted = self.wanted
        if wanted is not None:
            for ticks in messages:
                if ticks and ticks[0].symbol not in wanted:
                    messages = self._without_unwanted(messages, wanted)
                    break
        unkeyed = self._continuity.unkeyed
        if unkeyed:  # one look: the loop may take one out at midnight
            messages = [_as_told(ticks, unkeyed.get(ticks[0].symbol) if ticks else None) for ticks in messages]
        ticks = messages[0] if len(messages) == 1 else list(chain.from_iterable(messages))
        if ticks:
            self._hand_over(ticks, 0 if replayed else len(messages))

    def _without_unwanted(self, messages: Sequence[Sequence[Tick]], wanted: frozenset[str]) -> Sequence[Sequence[Tick]]:
        kept = [ticks for ticks in messages if not ticks or ticks[0].symbol in wanted]
        dropped = [ticks for ticks in messages if ticks and ticks[0].symbol not in wanted]
        self.unwanted_rows += sum(map(len, dropped))
        self._log.log(
            logging.WARNING,
            f"{self._word}_unwanted",
            symbol=dropped[0][0].symbol,
            rows=self.unwanted_rows,
            action="not stored: the source goes on with what it said it would end",
        )
        return kept

    def _hand_over(self, ticks: Sequence[Tick], frames: int) -> None:
        self._continuity.tell_interruptions(ticks)
        self._sink(ticks)
        monotonic_sec = self._clock.monotonic()
        progress = self._progress
        if frames:  # else a silent feed would seem to speak while the past is read
            progress.push_frames += frames
            progress.push_rows += len(ticks)
            progress.last_push_monotonic = monotonic_sec
        newest_ms = ticks[-1].ts_ms  # within a burst order by time is nearly given; a drift figure needs no more
        if newest_ms > progress.pushed_max_ts_ms and self._days.is_newest(newest_ms, ticks[-1].recv_ts_ms):
            progress.pushed_max_ts_ms = newest_ms
        if self._continuity.observe_push(ticks, monotonic_sec):
            self._on_new_hole()


def _as_told(ticks: Sequence[Tick], unkeyed_day: str | None) -> Sequence[Tick]:
    return ticks if unkeyed_day is None else without_sequences(ticks, unkeyed_day)


def _symbol_of(fact: Any) -> str | None:
    """Of which one it speaks; None: of a day, or of many."""
    return getattr(fact, "symbol", None)
