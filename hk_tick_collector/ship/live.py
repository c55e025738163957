"""Rows to ClickHouse as they are stored: about one insert a second, each noted before it is sent.

A shipment is the next rows of one day, at most MAX_ROWS. Its intent is on the disk before the first byte goes out, and
is the first thing that is sent again after an error or a death: the same rows under the same token, which ClickHouse
counts once. Whatever was doubled all the same (the shipper's own file was lost) has one key there.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial

from hk_tick_collector.clickhouse.connection import ClickHouse, EngineAway, EngineRefused
from hk_tick_collector.clickhouse.tables import TICKS_TABLE
from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.clock import Clock, SystemClock
from hk_tick_collector.core.errors import StoreBusy, StoreCorrupt, StoreUnavailable
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.ship.counts import ShipCounts
from hk_tick_collector.ship.holds import Holds
from hk_tick_collector.ship.live_states import LiveStates
from hk_tick_collector.ship.rows import batch_of, ticks_stream, token_of
from hk_tick_collector.ship.state import Intent, State
from hk_tick_collector.store.follow import LIMIT_ROWS, Follower
from hk_tick_collector.store.followed import TICKS
from hk_tick_collector.store.layout import day_file
from hk_tick_collector.store.position import MAX_PLACES, DayChanged, Place, PositionLost, Row

MAX_ROWS = 50_000
PERIOD_SEC = 1.0  # between two looks: a shipment is a part of a table there, and has to be merged
OLD_DAYS_SEC = 30.0  # between two looks at days that are over
MIN_WAIT_SEC, MAX_WAIT_SEC = 0.5, 30.0
_FILES_SEC = 60.0

_log = logging.getLogger(__name__)


class Live:
    """Sends what is stored. All calls come from one thread."""

    def __init__(
        self,
        days: Catalog,
        engine: ClickHouse,
        state: State,
        recorder: str,
        *,
        counts: ShipCounts | None = None,
        holds: Holds | None = None,
        clock: Clock | None = None,
        backoff: Backoff | None = None,
        period_sec: float = PERIOD_SEC,
        max_rows: int = MAX_ROWS,
        beside: Sequence[LiveStates] = (),
    ) -> None:
        """``beside``: who send order books and broker queues, in this one's turn."""
        self._beside = beside
        self._days, self._engine, self._state, self._recorder = days, engine, state, recorder
        self.counts = counts or ShipCounts()
        self._holds = holds or Holds()
        self._clock = clock or SystemClock()
        self._backoff = backoff or Backoff(MIN_WAIT_SEC, MAX_WAIT_SEC)
        self._period_sec, self._max_rows = period_sec, max_rows
        self._follower = Follower(days.data_root, was_end=days.was_end)
        self._files_log = RateLimitedLog(_log, _FILES_SEC)
        self._old_look_at_sec = float("-inf")

    def run(self, stop: threading.Event) -> None:
        """Until ``stop``. StateLost when the shipper's own disk fails."""
        try:
            while not stop.is_set():
                try:
                    sent = self.step()
                    self.counts.live.over(self._backoff.attempts)
                    self._backoff.reset()
                    stop.wait(0 if sent >= self._max_rows else self._period_sec)
                except (EngineAway, EngineRefused) as exc:
                    self.counts.live.on(exc)
                    stop.wait(self._backoff.next_sec())
        finally:
            self._follower.close()
            for states in self._beside:
                states.close()

    def step(self) -> int:
        """Send what is on its way, then the next rows of each day; how many rows that were. EngineAway, EngineRefused:
        nothing is lost, and the same rows are sent again by the next call."""
        intent = self._state.intent()
        sent = self._guarded(intent.place, lambda: self._resume(intent)) if intent is not None else 0
        if self._state.intent() is not None:
            return sent  # its file is in the way, or its day is being replaced
        newest = self._days.live_days()[-MAX_PLACES:]
        for place in self._places(newest):
            rows = self._guarded(place, partial(self._advance, place))
            sent += rows
            if rows and place.day not in newest:
                self._old_look_at_sec = float("-inf")  # there may be more of it: ClickHouse was away for days
        return sent + sum(states.step() for states in self._beside)

    def _places(self, newest: list[str]) -> list[Place]:
        """Where each day is to be read on, oldest first; days that are over only now and then."""
        known = self._state.places()
        now_sec = self._clock.monotonic()
        days = set(newest)
        if now_sec >= self._old_look_at_sec:
            self._old_look_at_sec = now_sec + OLD_DAYS_SEC
            days.update(known)
        return [known.get(day, Place(day)) for day in sorted(days) if day in known or self._state.mark(day) is None]

    def _resume(self, intent: Intent) -> int:
        """Send again what was on its way, if its rows are still there."""
        try:
            rows, behind = self._rows_behind(intent.place, intent.rows)
        except PositionLost:
            self._state.drop_intent()
            raise
        if len(rows) != intent.rows or behind.rowid != intent.last_rowid:
            _log.warning(event("ship_again", day=behind.day, reason="the rows on their way are others now"))
            self._state.drop_intent()
            return 0
        return self._send(rows, behind, intent)

    def _advance(self, place: Place) -> int:
        rows, behind = self._rows_behind(place, self._max_rows)
        return self._send(rows, behind, None, place) if rows else 0

    def _send(self, rows: list[Row], behind: Place, intent: Intent | None, place: Place | None = None) -> int:
        """Send rows, as the intent says, or with a new one behind ``place``."""
        day, batch = behind.day, batch_of(rows)
        with self._holds.sending(day) as is_free:
            if not is_free:
                return 0
            if place is not None:
                if self._state.places().get(day, Place(day)) != place:
                    return 0  # the day was replaced as a whole since
                intent = self._state.intend(place, behind.rowid, len(rows), self._clock.now_ms() * 1000)
            elif self._state.intent() != intent:
                return 0  # dropped since, with its day replaced as a whole
            assert intent is not None
            body = ticks_stream([batch], self._recorder, intent.batch)
            self._engine.insert(TICKS_TABLE, body, token=token_of(self._recorder, day, rows[0][0], rows[-1][0], body))
            self._state.arrived(behind)
        self._note(rows)
        return len(rows)

    def _note(self, rows: list[Row]) -> None:
        counts, now_ms = self.counts, self._clock.now_ms()
        counts.ticks += len(rows)
        counts.shipments += 1
        counts.last_put_ms = now_ms
        counts.lag_ms.observe(now_ms - TICKS.stored(rows[0]))

    def _guarded(self, place: Place, work: Callable[[], int]) -> int:
        """What ``work`` with a day's file gives; 0 when the file is in the way, which is said."""
        try:
            return work()
        except PositionLost as exc:
            self._lost(exc)
        except (StoreBusy, StoreUnavailable, StoreCorrupt) as exc:
            self._files_log.log(logging.ERROR, "ship_files", key=place.day, reason=str(exc))
        return 0

    def _rows_behind(self, place: Place, limit_rows: int) -> tuple[list[Row], Place]:
        rows: list[Row] = []
        while len(rows) < limit_rows:
            more, place = self._follower.read_in(place, min(LIMIT_ROWS, limit_rows - len(rows)))
            if not more:
                break
            rows += more
        return rows, place

    def _lost(self, error: PositionLost) -> None:
        """A day's file is another one, or none."""
        _log.warning(event("ship_day", day=error.day, reason=str(error)))
        if isinstance(error, DayChanged):
            self._state.begin_again(Place(error.day))
            self.counts.days_begun_again += 1
        elif not day_file(self._days.data_root, error.day).exists():
            self._state.leave(error.day)
